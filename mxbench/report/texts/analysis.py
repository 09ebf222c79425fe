"""Phrases of the analysis paragraphs: each states figures of the journal, and what they mean."""

from __future__ import annotations

PHRASES = {
    "limit_memory": (
        "{n}/{total} 例受访存限制（{sizes}；访存量 {low}–{high}），达到下限的 {share}。",
        "{n} of {total} cases are limited by memory ({sizes}; {low} to {high} moved) and reach "
        "{share} of the floor.",
    ),
    "limit_compute": (
        "{n}/{total} 例受计算限制（{sizes}；运算量 {low}–{high}），达到下限的 {share}。",
        "{n} of {total} cases are limited by compute ({sizes}; {low} to {high}) and reach {share} "
        "of the floor.",
    ),
    "limit_launch": (
        "{n}/{total} 例小到只受发射延迟限制（{sizes}；访存量 {low}–{high}），达到下限的 {share}。",
        "{n} of {total} cases are so small that only the launch limits them ({sizes}; {low} to "
        "{high} moved) and reach {share} of the floor.",
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
        "{n} 例快于访存下限：下限假定每个字节都来自显存，而反复调用同一组张量时部分数据在 L2 中。",
        "{n} cases are faster than their memory floor: it assumes that every byte comes from "
        "memory, and calls repeated on the same tensors find some of them in the L2.",
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
        "{n} 例慢于基线：{list}。",
        "{n} cases are slower than the baseline: {list}.",
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
        "{n}/{total} 例的标准差超过均值的 {limit}，最大的是 {list}；"
        "这些用例的平均值应连同区间一起看。",
        "In {n} of {total} cases the standard deviation exceeds {limit} of the mean, most in "
        "{list}; read their means together with the interval.",
    ),
    "spread_item": (
        "`{case}`（{value}，区间 {low}–{high}）",
        "`{case}` ({value}, interval {low} to {high})",
    ),
    "host_bound": (
        "{n} 例的发射开销达到平均时间的 {limit} 以上，其时间由主机侧调用决定而非内核。",
        "In {n} cases the launch cost is {limit} of the mean or more: the host's call decides "
        "their time, not the kernel.",
    ),
    "graph_gain": (
        "CUDA Graph 重放在 {n} 例中快 {limit} 以上，最多在 `{case}`：{eager} 降至 {graph}。",
        "CUDA-graph replay is faster by {limit} or more in {n} cases, most in `{case}`: from "
        "{eager} to {graph}.",
    ),
    "cold": (
        "冷 L2 时 {n} 例慢 {limit} 以上，最多在 `{case}`：{warm} 升至 {cold}。",
        "With a cold L2 {n} cases are slower by {limit} or more, most `{case}`: from {warm} to "
        "{cold}.",
    ),
}
