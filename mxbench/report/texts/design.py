"""Phrases of the design report."""

from __future__ import annotations

PHRASES = {
    "design_title": ("算法设计报告", "Algorithm design report"),
    "design_intro": (
        "本报告由各算子的设计文档与 {device} 的运行日志生成：文字出自设计文档，"
        "下限、消融、误差与资源占用的数字全部取自日志与编译器，未经手工填写。",
        "Rendered from each operator's design text and the journal of {device}: the figures of "
        "floors, steps, errors and resources come from the journal and the compiler, none by hand.",
    ),
    "design_english": (
        "该算子的设计文档 `{file}` 以英文写成，以下照录原文。",
        "The design text `{file}` is in English.",
    ),
    "design_kernels": ("内核一览", "Kernels"),
    "design_floor": ("性能下限与达到的水平", "Floors, and what is reached"),
    "design_ablation": ("逐步改进（消融）", "Step by step"),
    "design_errors": ("误差分布", "Distribution of errors"),
    "design_resources": ("资源占用", "Resources"),
    "what": ("说明", "what it is"),
    "sha": ("源码指纹", "source hash"),
    "thinned": (
        "（共 {total} 例，按规模等距取 {n} 例；全部见性能测试报告）",
        " ({n} of {total} cases, evenly by size; all are in the performance report)",
    ),
    "floor_note": (
        "下限 = 最少运算量 ÷ 算力峰值、最少访存量 ÷ 带宽峰值、启动时间三者的最大值；"
        "峰值：{peaks}。每例取最快的内核；p10–p90 为逐次计时。",
        "Floor: the largest of least work over peak rate, least bytes over peak bandwidth, and "
        "launch time; peaks: {peaks}. Each case with its fastest kernel; p10 to p90 are of single "
        "calls.",
    ),
    "ablation_note": (
        "同一用例在各版本内核下的平均时间，括号内为相对第一步的加速比。",
        "Mean time of the same cases under one kernel after another; in brackets the speed-up over "
        "the first.",
    ),
    "no_ablation": (
        "日志中没有在两个及以上版本的内核下计时的用例；用 `mxbench perf --baseline` 对照计时。",
        "No case of the journal was timed under two kernels; `mxbench perf --baseline` times both.",
    ),
    "no_errors": ("日志中可比较的结果太少。", "The journal holds too few judged results."),
    "no_resources": (
        "尚未读取编译器的资源报告；在装有 nvcc 的机器上（无需 GPU）运行 "
        "`mxbench report --resources`。",
        "The compiler's report was not read; run `mxbench report --resources` where nvcc is (no "
        "GPU needed).",
    ),
    "res_program": ("程序", "program"),
    "res_sizes": ("分块参数", "tiles"),
    "res_threads": ("线程", "threads"),
    "res_registers": ("寄存器/线程", "registers"),
    "res_shared": ("共享内存（KiB）", "shared (KiB)"),
    "res_spills": ("溢出（B）", "spills (B)"),
    "res_blocks": ("块/SM", "blocks/SM"),
    "res_occupancy": ("占用率", "occupancy"),
    "res_note": (
        "由 {compiler} 对 {arch} 编译读出（`-Xptxas -v`），占用率为理论值；源码：{shas}。",
        "Read from {compiler} for {arch} (`-Xptxas -v`); occupancy is theoretical; sources: "
        "{shas}.",
    ),
    "see_design": ("算法设计报告", "design report"),
    "html_language": ("zh-CN", "en"),
    "contents": ("目录", "Contents"),
    "page_filter": ("筛选，如 hopper S8192", "filter, such as hopper S8192"),
    "page_rows": ("行", "rows"),
    "page_sort": ("点击排序", "click to sort"),
    "page_theme": ("明暗切换", "light or dark"),
}
