"""Words in the charts. Kept short: they stand in a picture."""

from __future__ import annotations

PHRASES = {
    "chart_latency": ("{op} · {suite}：平均时间", "{op} · {suite}: mean time"),
    "chart_speedup": (
        "{op} · {suite}：相对 {baseline} 的加速比",
        "{op} · {suite}: speed-up over {baseline}",
    ),
    "chart_roofline": ("{op} · {suite}：Roofline", "{op} · {suite}: roofline"),
    "chart_ablation": ("{op} · {suite}：逐步改进", "{op} · {suite}: step by step"),
    "chart_errors": ("{op}：误差分布", "{op}: distribution of errors"),
    "axis_gain": ("相对第一步的加速比（×，对数）", "speed-up over the first step (×, log)"),
    "axis_rms": ("均方根误差比（整体）", "rms error ratio, whole output"),
    "axis_worst_row": ("均方根误差比（最差行）", "rms error ratio, worst row"),
    "axis_max_abs": ("最大绝对误差", "largest absolute error"),
    "axis_share_of_cases": ("用例累计占比", "share of cases"),
    "strict_limits": ("严格判定的限值", "limits of the strict verdict"),
    "errors_caption": (
        "{device} · {n} 个用例与内核的最新结果 · 误差为 0 的画在左边界",
        "{device} · newest results of cases and kernels: {n} · exact results at the left edge",
    ),
    "axis_time": ("平均时间（ms）", "mean time (ms)"),
    "axis_speedup": ("加速比（×，对数）", "speed-up (×, log)"),
    "axis_intensity": ("算术强度（FLOP/字节）", "arithmetic intensity (FLOP/byte)"),
    "axis_tflops": ("TFLOP/s", "TFLOP/s"),
    "axis_kv_ctx": ("KV 长度（token）", "KV length (tokens)"),
    "axis_tokens": ("token 数", "tokens"),
    "axis_rows": ("路由后的行数", "routed rows"),
    "axis_sorted": ("按加速比排序的用例", "cases, sorted by speed-up"),
    "common": ("所有用例：{list}", "all cases: {list}"),
    "floor_mark": ("下限", "floor"),
    "spread_band": (
        "色带：单次调用的 p10–p90（按平均值归一）",
        "shaded: p10 to p90 of single calls, scaled to the mean",
    ),
    "band": ("线：中位数；带：最小至最大", "line: median; band: least to most"),
    "geometric": ("几何平均 {value}", "geometric mean {value}"),
    "roof": ("{peaks}", "{peaks}"),
    "sheet": ("数据手册：{peaks}", "data sheet: {peaks}"),
    "caption": (
        "{device} · 规则 {rule} · {counts} · {clock}",
        "{device} · rule {rule} · {counts} · {clock}",
    ),
    "caption_counts": (
        "预热 {warmup} 次，{repeat} 次调用的平均",
        "mean of {repeat} calls after {warmup} warm-ups",
    ),
    "caption_eager": ("连续调用，设备事件", "back to back, device events"),
    "caption_graph": ("CUDA Graph 重放，设备事件", "CUDA-graph replay, device events"),
    "caption_mixed": ("多种计时方式", "several modes"),
    "peaks_here": ("本设备实测（{name}）", "measured on this device ({name})"),
    "peaks_elsewhere": ("档案 {name}（他处实测）", "profile {name}, measured elsewhere"),
    "peaks_sheet": ("档案 {name}（数据手册）", "profile {name}, data sheet"),
    "caption_peaks": ("峰值：{peaks}", "peaks: {peaks}"),
}
