"""Phrases of the performance report."""

from __future__ import annotations

PHRASES = {
    "no_timings": (
        "没有在规则 `{rule}` 下的 GPU 计时记录；先在 GPU 上运行 `mxbench perf`。",
        "There are no GPU timings under rule `{rule}`; run `mxbench perf` on a GPU first.",
    ),
    "other_rule": (
        "另有 {n} 条计时属于规则 `{rule}`，未列入本页；用 `--rule {rule}` 查看。",
        "Timings under rule `{rule}`, not shown: {n}. `--rule {rule}` shows them.",
    ),
    "replays": (
        "另有 {n} 条以 CUDA Graph 重放为主要指标的计时未列出："
        "同一用例也有规则所要求的逐次调用计时。",
        "Timings with CUDA-graph replay as their headline, not shown: {n}. The same cases were "
        "timed call by call, as the rule asks.",
    ),
    "protocol": ("测试协议", "Protocol"),
    "rule": ("规则", "rule"),
    "counts": ("预热/重复次数", "warm-up / repeat"),
    "counts_value": ("{warmup} / {repeat}（{n} 例）", "{warmup} / {repeat} (cases: {n})"),
    "aggregate": ("用例间聚合", "aggregation"),
    "aggregate_mean": ("平均值", "mean"),
    "aggregate_median": ("中位数", "median"),
    "clock": ("计时方式", "clock"),
    "clock_eager": (
        "设备事件包住整个循环，单一流上连续调用；与主机时钟核对（{n} 例）",
        "device events around the whole loop, calls back to back on one stream, checked against "
        "the host clock (cases: {n})",
    ),
    "clock_graph": (
        "CUDA Graph 重放，设备事件包住整个循环（{n} 例）",
        "CUDA-graph replay, device events around the whole loop (cases: {n})",
    ),
    "clock_other": ("{mode}（{n} 例）", "{mode} (cases: {n})"),
    "peaks": ("峰值来源", "peaks"),
    "peaks_value": ("{source}（{n} 例）", "{source} (cases: {n})"),
    "peaks_none": (
        "无：该设备没有档案也没有实测（{n} 例）",
        "none, as the device has no profile and was not measured (cases: {n})",
    ),
    "verified": (
        "每个用例先与标准结果比对，通过后才计时；错误的内核没有时间。",
        "Every case is verified against its golden before it is timed; a wrong kernel has no time.",
    ),
    "ambiguities": (
        "规则未明确之处，以及此处的取法",
        "What the rule leaves open, and what is done",
    ),
    "deviating": (
        "{n} 个计时的次数与规则不同，不能直接用于比赛排名：{names}。",
        "Timings with other counts than the rule asks for: {n}. They cannot be ranked: {names}.",
    ),
    "timed": ("已计时", "timed"),
    "speedup_mean": ("加速比（几何平均）", "speed-up (geometric mean)"),
    "speedup_range": ("加速比范围", "speed-up range"),
    "faster": ("快于基线", "faster"),
    "share_median": ("下限占比（中位数）", "share of floor (median)"),
    "overview_note": (
        "加速比 = 基线 `{baseline}` 的平均时间 ÷ 内核的平均时间，同一用例、设备与规则；"
        "下限占比 = 下限 ÷ 平均时间。",
        "Speed-up: mean time of `{baseline}` over the kernel's, same case, device and rule. Share "
        "of floor: floor over mean time.",
    ),
    "overview_note_alone": (
        "下限占比 = 下限 ÷ 平均时间。",
        "Share of floor: floor over mean time.",
    ),
    "pairs_differ": (
        "{op}/{suite}：`{kernel}` 有 {n} 对计时的内核与基线在不同的软件环境中测得。",
        "{op}/{suite}: pairs of `{kernel}` and baseline that were measured in different software "
        "environments: {n}.",
    ),
    "untimed": ("未能计时的用例", "Cases without a time"),
    "parameters": ("参数", "Parameters"),
    "times": ("时间（{unit}）", "Times ({unit})"),
    "mean": ("平均", "mean"),
    "per_call": ("单次平均", "per call"),
    "ci95": ("95 % 区间", "95 % interval"),
    "median": ("中位数", "median"),
    "p10": ("p10", "p10"),
    "p90": ("p90", "p90"),
    "min": ("最小", "min"),
    "std": ("标准差", "std"),
    "outliers": ("离群", "outliers"),
    "host": ("主机时钟", "host clock"),
    "graph": ("Graph 重放", "graph replay"),
    "kernel_only": ("仅内核", "kernel only"),
    "cold_l2": ("冷 L2", "cold L2"),
    "launch": ("发射开销", "launch cost"),
    "first_call": ("首次调用", "first call"),
    "repeat": ("次数", "calls"),
    "times_note": (
        "平均为连续调用的端到端时间，是主要指标。单次平均、95 % 区间、中位数、p10、p90、最小、"
        "标准差与离群数来自另一轮逐次计时，短调用的逐次时间含事件开销，因此高于平均。"
        "Graph 重放、仅内核（CUPTI）、冷 L2 与发射开销各自单独测量，互不混用。",
        "The mean is the end-to-end time of back-to-back calls, the headline. Per call, 95 % "
        "interval, median, p10, p90, min, std and outliers come from a pass of their own with an "
        "event on either side of each call, so for short calls they lie above it. Graph replay, "
        "kernel only (CUPTI), cold L2 and launch cost are measured in separate passes, never "
        "mixed.",
    ),
    "rates": ("速率与下限", "Rates and floor"),
    "tflops": ("TFLOP/s", "TFLOP/s"),
    "gbps": ("GB/s", "GB/s"),
    "floor": ("下限（{unit}）", "floor ({unit})"),
    "share": ("下限占比", "share of floor"),
    "limit": ("受限于", "limit"),
    "speedup": ("加速比", "speed-up"),
    "is_compute": ("计算", "compute"),
    "is_memory": ("访存", "memory"),
    "is_launch": ("发射", "launch"),
    "rates_note": (
        "速率按用例的最少运算量与最少访存量计算；下限为计算、访存、发射三者所需时间的最大值。",
        "Rates are by the least work and the least bytes of a case; the floor is the largest of "
        "compute, memory and launch time.",
    ),
    "grade": ("评级", "grade"),
    "grades": (
        "评级：A 稳定 {a} 例，B 稳定但有保留（如功耗受限、GPU 上有其他进程）{b} 例，"
        "C 不稳定（⚠，重测后仍然如此）{c} 例。",
        "Grades: A steady {a}, B steady with a reservation (a power limit, other processes on the "
        "GPU) {b}, C unstable (⚠) even when measured again {c}.",
    ),
    "unstable": (
        "⚠ {name} 不稳定（测量 {tries} 次）：{reasons}",
        "⚠ {name} is unstable (measured {tries} times): {reasons}",
    ),
    "timing_note": ("{note}（{n} 例：{names}）", "{note} (cases: {n}; {names})"),
    "charts": ("图表", "Charts"),
    "analysis": ("分析", "Analysis"),
    "schedules": ("调度参数", "Schedules"),
    "program": ("程序", "program"),
    "schedule": ("调度", "schedule"),
}

AMBIGUITIES = {
    "the weight of the technical score is 0.6 in the table but 0.3 in one NSA example; "
    "0.6 is used (score --weight)": (
        "技术分权重在表中为 0.6，而 NSA 的一个算例写作 0.3；此处取 0.6（score --weight 可改）"
    ),
    "99 % is both a gate and a pro-rated score; both are applied (pass_rate in a rule file of your "
    "own, --rule)": (
        "99 % 既是门槛又用于按比例计分；两者都执行（可用 --rule 另给规则文件，改其 pass_rate）"
    ),
    "the aggregation over cases is not stated; the mean over cases is used, and every case is "
    "shown (--aggregate)": (
        "未说明如何在用例间聚合；此处取各用例的平均，并列出每个用例（--aggregate 可改）"
    ),
    "the clock is not stated; device events around the whole loop are used, checked against the "
    "host clock (perf records both)": (
        "未说明用何种时钟；此处用设备事件包住整个循环，并与主机时钟核对（perf 两者都记录）"
    ),
    "the 64K NSA shape is not stated; the performance suite holds a grid of shapes "
    "(rank --suite)": (
        "未说明 NSA 在 64K 长度下的形状；performance 用例集给出一组形状（rank --suite 可改）"
    ),
    "whose times are compared with the sample's is not stated; the ranked cases' are, by their "
    "mean (rank --suite)": (
        "未说明拿哪些用例的时间与样例相比；此处取参与排名的用例的平均（rank --suite 可改）"
    ),
    "ties are not stated; equal means share the better rank, and the next one is left out "
    "(rank --ties)": (
        "未说明并列如何处理；此处平均相等者同取较优名次，其后名次空出（rank --ties 可改）"
    ),
    "some cases are repeated once, so their mean has no spread": (
        "部分用例只重复一次，其平均值没有离散度"
    ),
}
"""Translations of the open points in the rules that come with mxbench."""
