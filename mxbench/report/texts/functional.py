"""Phrases of the functional report."""

from __future__ import annotations

PHRASES = {
    "rate_intro": (
        "门槛：规则 {rule} 要求通过率不低于 {gate}。通过率的分母是用例集的全部用例："
        "跳过与未运行的用例都不算通过。“官方判定”用赛题容差，是计分依据；"
        "“严格判定”按行比较均方根误差，用来发现被宽松容差掩盖的错误。",
        "Gate: rule {rule} asks for a pass rate of at least {gate}. Its denominator is every case "
        "of the suite: a case that was skipped or not run is no pass. The *official* verdict uses "
        "the contest's tolerance and scores; the *strict* one compares root-mean-square errors row "
        "by row, and finds what a loose tolerance hides.",
    ),
    "passed": ("通过", "passed"),
    "failed": ("失败", "failed"),
    "skipped": ("跳过", "skipped"),
    "not_run": ("未运行", "not run"),
    "rate": ("通过率", "pass rate"),
    "gate": ("达到门槛", "meets gate"),
    "strict_passed": ("严格判定通过", "strict passed"),
    "no_records": ("没有任何判定结果。", "There are no verdicts."),
    "metrics": (
        "误差均相对 fp32（注明者为 fp64）标准结果，标准结果由同一份舍入后的输入计算："
        "max_abs 为最大绝对误差；rms 为整个输出的误差范数与标准结果范数之比；"
        "最差行为同一比值在最差一行上的值；"
        "cos 为 1 − 2⟨输出, 标准⟩ /（‖输出‖² + ‖标准‖²），0 为一致；"
        "容差内为满足官方容差的元素比例。",
        "Errors are against the fp32 golden (fp64 where it says so), computed from the same "
        "rounded inputs. max_abs: largest absolute error; rms: norm of the error over the norm of "
        "the golden; worst row: the same over the worst row; cos: 1 − 2⟨out, golden⟩ / (‖out‖² + "
        "‖golden‖²), 0 for equal; within: share of elements within the official tolerance.",
    ),
    "max_abs": ("max_abs", "max_abs"),
    "rms": ("rms", "rms"),
    "worst_row": ("最差行", "worst row"),
    "cos": ("cos", "cos"),
    "matched": ("容差内", "within"),
    "same_params": ("所有用例相同的参数：{list}。", "Parameters that all cases share: {list}."),
    "same_absent": (
        "未指定（取默认值，或以别的方式给出）：{list}。",
        "Not given (left to a default, or given another way): {list}.",
    ),
    "same_inputs": ("所有用例相同的输入分布：{list}。", "Inputs that all cases share: {list}."),
    "same_official": ("官方容差：{list}。", "Official tolerance: {list}."),
    "same_strict": ("严格容差：{list}。", "Strict tolerance: {list}."),
    "golden_fp64": ("标准结果为 fp64 的用例：{list}。", "Cases with an fp64 golden: {list}."),
    "results": ("逐例结果", "Results case by case"),
    "failures": ("未通过的用例", "Cases that did not pass"),
    "no_failures": (
        "所有已运行的用例都通过了官方判定与严格判定。",
        "Every case that ran passed both verdicts.",
    ),
    "failures_intro": (
        "包括官方判定未通过、仅严格判定未通过以及跳过的用例；原因为工具的原始输出。",
        "Failed, failed by the strict verdict alone, or skipped; reasons are the tool's own words.",
    ),
}
