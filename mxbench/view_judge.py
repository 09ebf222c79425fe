"""Tables of a public judge's problem on the terminal. Computes nothing."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from .publicjudge.session import Summary
from .record import Record
from .view import STYLES, plain_table
from .view_perf import milliseconds

_NUMBERS = ("kernel ms", "baseline ms", "speed-up", "points")


def judged_table(records: Sequence[Record], title: str) -> Table:
    """One row for each case: both verdicts, both times, points."""
    table = plain_table(
        "case", "problem's check", "strict", *_NUMBERS, "runs", title=title, numbers=_NUMBERS
    )
    for record in records:
        table.add_row(*_cells(record))
    return table


def _cells(record: Record) -> list[Text | str]:
    judged, timing = record.judged, record.timing
    base = judged.baseline if judged else None
    ratio = f"{base.mean / timing.mean:.2f}x" if base and timing else ""
    points = "" if judged is None or judged.points is None else f"{judged.points:.1f}"
    strict = record.strict.value if record.strict else "unknown operator" if record.passed else ""
    runs = ""
    if timing is not None:
        runs = f"{timing.warmup}+{timing.repeat}"
        if timing.asked is not None and timing.asked != timing.repeat:
            runs += f" of {timing.asked}"
    return [
        record.case,
        Text(record.status.value, style=STYLES.get(record.status, "bold red")),
        strict,
        milliseconds(timing.mean) if timing else "",
        milliseconds(base.mean) if base else "",
        ratio,
        points,
        runs,
    ]


def fault_block(record: Record) -> Text:
    """A case that did not pass, or only the problem's own check: why, and what was printed."""
    status = record.status.value
    if record.passed and record.strict is not None:
        status = f"strict {record.strict.value}"
    head = Text(status, style="yellow" if record.passed or record.skipped else "bold red")
    head.append(f"  {record.id}  [{record.kernel}]", "bold")
    head.append(f"\n  {record.reason}", "not bold")
    said = record.judged.said if record.judged else ""
    for line in said.splitlines()[:5]:
        head.append(f"\n  the problem printed: {line}", "not bold")
    return head


def summary_lines(name: str, summary: Summary, on_cpu: bool) -> Text:
    """`gemm: 5/5 passed the problem's check, ...`, and the score."""
    style = "green" if summary.passed == summary.cases else "red" if summary.failed else "yellow"
    line = Text(f"{name}: ", style="bold")
    line.append(f"{summary.passed}/{summary.cases} passed the problem's check", style)
    line.append(f", {summary.strict} of them strict", "not bold")
    if summary.unknown:
        line.append(f" ({summary.unknown} of an operator without a golden here)", "not bold")
    line.append(f", {summary.failed} failed, {summary.skipped} skipped", "not bold")
    if summary.score is not None:
        line.append(f"\nscore {summary.score:.2f}", "bold")
        line.append(
            f": mean of 100 s / (1 + s) over {summary.scored} cases, failed ones 0", "not bold"
        )
        if summary.skipped:
            line.append(f"; {summary.skipped} skipped are not in it", "yellow not bold")
        if on_cpu:
            line.append("\nCPU timings: they say nothing about a GPU", "not bold")
    return line
