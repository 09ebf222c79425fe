"""Phrases that several pages share."""

from __future__ import annotations

PHRASES = {
    "moe": ("MoE（混合专家）", "MoE (mixture of experts)"),
    "mla": ("MLA（多头潜在注意力）", "MLA (multi-head latent attention)"),
    "nsa": ("NSA（原生稀疏注意力）", "NSA (native sparse attention)"),
    "functional_title": ("功能测试报告", "Functional test report"),
    "performance_title": ("性能测试报告", "Performance test report"),
    "summary_title": ("测试汇总", "Test summary"),
    "summary": ("汇总", "Summary"),
    "environment": ("环境", "Environment"),
    "commands": ("复现命令", "Commands to repeat it"),
    "yes": ("是", "yes"),
    "no": ("否", "no"),
    "operator": ("算子", "operator"),
    "suite": ("用例集", "suite"),
    "kernel": ("内核", "kernel"),
    "case": ("用例", "case"),
    "cases": ("用例数", "cases"),
    "contract": ("合约", "contract"),
    "dtype": ("数据类型", "dtype"),
    "seed": ("种子", "seed"),
    "status": ("官方判定", "official"),
    "strict": ("严格判定", "strict"),
    "reason": ("原因", "reason"),
    "device": ("设备", "device"),
    "item": ("项目", "item"),
    "value": ("值", "value"),
    "incomplete": ("**结果不完整**", "**Incomplete**"),
    "incomplete_line": (
        "{op}/{suite}，内核 `{kernel}`：{total} 个用例中缺 {missing} 个（{names}）",
        "{op}/{suite}, kernel `{kernel}`: missing {missing} of {total} cases ({names})",
    ),
    "and_more": ("另有 {n} 个", "and {n} more"),
    "auto": ("auto（{kernels}）", "auto ({kernels})"),
    "records_used": (
        "本页由 mxbench 的运行日志生成，采用 {used} 条记录。",
        "Rendered from mxbench's journals; {used} records are used.",
    ),
    "superseded": (
        "同一用例、内核与设备另有 {n} 条较早的记录，以最新一条为准。",
        "Older records superseded by newer ones of the same case, kernel and device: {n}.",
    ),
    "several_shas": (
        "内核 `{kernel}` 在 {op}/{suite} 的结果来自 {n} 个不同版本的源码（{shas}），"
        "并非同一份代码的完整结果。",
        "The results of kernel `{kernel}` on {op}/{suite} come from {n} versions of its source "
        "({shas}); no single version has all of them.",
    ),
    "cannot_check": (
        "当前工作区没有用例集 {op}/{suite}，无法核对其是否完整。",
        "This workspace has no suite {op}/{suite}, so whether it is complete cannot be checked.",
    ),
    "changed_cases": (
        "{op}/{suite}：{n} 个结果的参数与用例文件不同（命令行改过，或文件已更新）；"
        "结果照列，但不计入通过率。",
        "{op}/{suite}: results with other parameters than the suite's file (changed on the command "
        "line, or the file is newer): {n}. They are listed, but not in the pass rate.",
    ),
    "env_python": ("Python", "Python"),
    "env_torch": ("PyTorch", "PyTorch"),
    "env_tilelang": ("TileLang", "TileLang"),
    "env_tvm_ffi": ("apache-tvm-ffi", "apache-tvm-ffi"),
    "env_cuda": ("CUDA", "CUDA"),
    "env_maca": ("MACA", "MACA"),
    "env_driver": ("驱动", "driver"),
    "env_arch": ("架构", "architecture"),
    "env_sms": ("计算单元数", "compute units"),
    "env_memory": ("显存/内存", "memory"),
    "env_platform": ("操作系统", "platform"),
    "env_mxbench": ("mxbench", "mxbench"),
    "env_knobs": ("编译环境变量", "compiler settings"),
    "env_device": ("设备", "device"),
    "env_target": ("TileLang 目标", "TileLang target"),
    "env_column": ("环境 {n}", "environment {n}"),
    "env_several": (
        "结果来自 {n} 个不同的环境，各自覆盖的用例集见最后一行。",
        "The results come from {n} environments; the last row says which suites each one ran.",
    ),
    "env_suites": ("用例集", "suites"),
    "source_versions": ("内核源码指纹：{list}。", "Kernel source hashes: {list}."),
    "page_of_device": ("{title}：{device}", "{title}: {device}"),
    "see_functional": ("功能测试报告", "functional report"),
    "see_performance": ("性能测试报告", "performance report"),
    "functional_section": ("功能", "Function"),
    "performance_section": ("性能", "Performance"),
    "summary_intro": (
        "每台设备单独成册，互不混用，也不做跨设备比较。",
        "Each device has pages of its own; nothing is mixed or compared across devices.",
    ),
    "sources": ("数据来源", "Sources"),
    "source_journal": ("日志", "journal"),
    "source_records": ("记录数", "records"),
    "source_damaged": ("损坏行", "damaged lines"),
    "damaged_intro": (
        "以下行已损坏，未采用；其余记录照常使用：",
        "These lines are damaged and were left out; the rest is used:",
    ),
    "cpu_only": (
        "这是 CPU：在此运行内核只为验证正确性，没有性能结论。",
        "This is a CPU: kernels run here to be verified, and there are no performance figures.",
    ),
    "runs": ("运行", "runs"),
    "runs_value": ("{first} 至 {last}（{n} 次）", "{first} to {last} ({n} runs)"),
    "cpu_excluded": (
        "{n} 条 CPU 计时不作为性能结论：CPU 上运行内核只为验证正确性，"
        "其耗时不代表任何 GPU 的性能，故不列入本报告。",
        "CPU timings left out: {n}. A kernel runs on a CPU to be verified, and its time says "
        "nothing about any GPU's performance.",
    ),
}
