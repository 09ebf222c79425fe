"""Phrases of the slides."""

from __future__ import annotations

PHRASES = {
    "slides_title": (
        "大模型推理算子：MoE、MLA 与 NSA 的 TileLang 实现",
        "MoE, MLA and NSA for large-model inference, in TileLang",
    ),
    "slides_intro": (
        "以下数字全部来自 {device} 的运行日志，由 mxbench 生成。",
        "All figures come from the journal of {device} and were put here by mxbench.",
    ),
    "slides_problem": ("问题", "The problem"),
    "slides_problem_moe": (
        "Fused MoE GEMM：路由后的分组矩阵乘，每个专家的行数不等；"
        "大批量受算力限制，小批量受权重读取限制",
        "Fused MoE GEMM: grouped products over routed rows, uneven by expert; bound by arithmetic "
        "when many, by reading weights when few",
    ),
    "slides_problem_mla": (
        "DeepSeek MLA 解码：所有头共享 576 维潜在缓存，16 头时受显存带宽限制",
        "DeepSeek MLA decode: all heads share a 576-wide latent cache; with 16 heads bound by "
        "memory",
    ),
    "slides_problem_nsa": (
        "NSA 前向：每个 token 只看少量被选中的块；64K 长度时逐 token 读块使 L2 成为瓶颈",
        "NSA forward: each token sees a few selected blocks; at 64K, reading them token by token "
        "is bound by L2",
    ),
    "slides_problem_rule": (
        "先验证后计时：未通过赛题容差与严格判定的结果不计入",
        "Verified before timed: what fails a verdict has no time",
    ),
    "slides_points_function": ("功能分", "points, function"),
    "slides_points_rank": ("第一名性能分", "points, first rank"),
    "slides_bound": ("性能下限", "The bound"),
    "slides_floor": ("下限", "floor"),
    "slides_bound_notes": (
        "下限取算力、访存、启动三者所需时间的最大值，峰值在同一设备上持续负载下实测。"
        "表中为每个算子规模最大的用例。",
        "The floor is the largest of compute, memory and launch time, by the ceilings that the "
        "charts name. The table has each operator's largest case.",
    ),
    "slides_schedule": ("调度：{op}", "The schedule: {op}"),
    "slides_steps": ("逐步改进", "Step by step"),
    "slides_gain": (
        "{op}：{first} → {last}，{low}–{high}",
        "{op}: {first} to {last}, {low} to {high}",
    ),
    "slides_results": ("结果", "Results"),
    "slides_results_notes": (
        "加速比为同一用例、设备与规则下相对基线的几何平均；下限占比取中位数。",
        "Speed-ups are geometric means over the baseline, same case, device and rule; shares of "
        "the floor are medians.",
    ),
    "slides_latency": ("时间与规模", "Time against size"),
    "slides_function": ("正确性", "Correctness"),
    "slides_passed": (
        "官方判定，提交的内核：{total} 例中通过 {passed} 例（{rate}）",
        "official verdict, kernels handed in: {passed} of {total} passed ({rate})",
    ),
    "slides_strict": (
        "严格判定（逐行均方根误差）：{total} 例中通过 {strict} 例",
        "strict verdict (rms error row by row): {strict} of {total} passed",
    ),
    "slides_limits": ("局限与余地", "Limits, and what is left"),
    "slides_limit_device": (
        "全部结果测自 {device}；其他设备上的性能不作推断",
        "All results are of {device}; nothing is claimed of other devices",
    ),
    "slides_limit": (
        "{op}：离下限最远的是 {case}（{mean}，下限占比 {share}）",
        "{op}: farthest from its floor is {case} ({mean}, {share} of the floor)",
    ),
}
