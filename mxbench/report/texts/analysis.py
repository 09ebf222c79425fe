"""Phrases of the analysis paragraphs: each states figures of the journal, and what they mean."""

from __future__ import annotations

PHRASES = {
    "limit_memory": (
        "受访存限制：{n}/{total} 例（{sizes}；访存量 {work}），达到下限的 {share}。",
        "Limited by memory: {n} of {total} ({sizes}; {work} moved), at {share} of the floor.",
    ),
    "limit_compute": (
        "受计算限制：{n}/{total} 例（{sizes}；运算量 {work}），达到下限的 {share}。",
        "Limited by compute: {n} of {total} ({sizes}; {work}), at {share} of the floor.",
    ),
    "limit_launch": (
        "小到只受发射延迟限制：{n}/{total} 例（{sizes}；访存量 {work}），达到下限的 {share}。",
        "So small that only the launch limits them: {n} of {total} ({sizes}; {work} moved), at "
        "{share} of the floor.",
    ),
    "sizes_all": ("全部形状", "all shapes"),
    "no_floor": (
        "没有该设备的峰值数据，无法给出下限。",
        "Without peaks of this device there is no floor.",
    ),
    "trend": (
        "工作量最小的三分之一用例，下限占比中位数为 {small}；最大的三分之一为 {large}。",
        "The median share of the floor is {small} in the smallest third of the cases by work and "
        "{large} in the largest third.",
    ),
    "closest": (
        "最接近下限的是 `{case}`：平均 {mean}，下限 {floor}（{share}）。",
        "Closest to its floor is `{case}`: mean {mean}, floor {floor} ({share}).",
    ),
    "gaps": ("离下限最远的是 {list}。", "Farthest from their floors are {list}."),
    "gap": (
        "`{case}`（平均 {mean}，下限 {floor}，{share}）",
        "`{case}` (mean {mean}, floor {floor}, {share})",
    ),
    "above_floor": (
        "快于下限：{n}/{total} 例。下限按可达速率（{peaks}）计算，并假定每个字节都来自显存；"
        "反复调用同一组张量时，部分数据可能在 L2 中。",
        "Faster than the floor: {n} of {total}. The floor stands on rates ({peaks}) and assumes "
        "that every byte comes from memory; calls repeated on the same tensors may find some of "
        "them in the L2.",
    ),
    "faster_by": (
        "相对基线的加速比几何平均为 {mean}（{n} 例，{low}–{high}），"
        "最大在 `{best}`，最小在 `{worst}`。",
        "The geometric mean of the speed-up over the baseline is {mean} ({n} cases, {low} to "
        "{high}), largest in `{best}` and smallest in `{worst}`.",
    ),
    "faster_by_one": (
        "相对基线的加速比为 {mean}（`{best}`，仅此一例）。",
        "The speed-up over the baseline is {mean} (`{best}`, the only pair).",
    ),
    "slower": (
        "慢于基线：{n}/{total} 例，即 {list}。",
        "Slower than the baseline: {n} of {total}, namely {list}.",
    ),
    "slower_item": ("`{case}`（{value}）", "`{case}` ({value})"),
    "none_slower": ("没有一例慢于基线。", "None is slower than the baseline."),
    "no_pairs": (
        "没有基线的计时，无法给出加速比。",
        "Without timings of the baseline there is no speed-up.",
    ),
    "spread_small": (
        "逐次计时的离散度很小：标准差均不超过均值的 {limit}（最大 {most}，`{case}`）。",
        "The spread of single calls is small: no standard deviation exceeds {limit} of its mean "
        "(largest {most}, `{case}`).",
    ),
    "spread_large": (
        "标准差超过均值的 {limit}：{n}/{total} 例，最大的是 {list}；"
        "这些用例的平均值应连同区间一起看。",
        "Standard deviation above {limit} of the mean: {n} of {total}, most in {list}; read these "
        "means together with their intervals.",
    ),
    "spread_item": (
        "`{case}`（{value}，区间 {low}–{high}）",
        "`{case}` ({value}, interval {low} to {high})",
    ),
    "host_bound": (
        "发射开销达到平均时间的 {limit} 以上：{n}/{total} 例，其时间由主机侧调用决定而非内核。",
        "Launch cost of {limit} of the mean or more: {n} of {total}; there the host's call decides "
        "the time, not the kernel.",
    ),
    "graph_gain": (
        "CUDA Graph 重放快 {limit} 以上：{n}/{total} 例，最多在 `{case}`，"
        "由 {eager} 降至 {graph}。",
        "CUDA-graph replay faster by {limit} or more: {n} of {total}, most in `{case}`, from "
        "{eager} to {graph}.",
    ),
    "cold": (
        "冷 L2 时慢 {limit} 以上：{n}/{total} 例，最多在 `{case}`，由 {warm} 升至 {cold}。",
        "Slower by {limit} or more with a cold L2: {n} of {total}, most `{case}`, from {warm} to "
        "{cold}.",
    ),
}
