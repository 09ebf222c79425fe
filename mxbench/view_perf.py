"""Tables of times on the terminal. Computes nothing but ratios of what was measured."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from .device import DeviceInfo
from .record import Record
from .rules import ContestRule
from .stats import geometric_mean
from .view import plain_table

_COLUMNS = (
    "mean ms",
    "grade",
    "± 95 %",
    "p10..p90",
    "graph",
    "kernel-only",
    "cold L2",
    "launch",
    "rate",
    "floor",
)
_NUMBERS = (*_COLUMNS, "share", "speed-up", "runs")


def milliseconds(value: float | None) -> str:
    """Four significant digits; empty if there is no value."""
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 1000 else f"{value:.4g}"


def rate(record: Record) -> str:
    """TFLOP/s of a compute-bound record, GB/s of another."""
    assert record.timing is not None
    mean = record.timing.mean
    if record.bound is not None and record.bound.limit == "compute":
        return f"{record.work.flops / mean / 1e9:.0f} TFLOP/s"
    if record.bound is None:  # on a CPU, or a device without known peaks
        return f"{record.work.flops / mean / 1e6:.1f} GFLOP/s"
    return f"{record.work.bytes / mean / 1e6:.0f} GB/s"


def speedups(records: Sequence[Record], baseline: str) -> dict[tuple[str, str], float]:
    """baseline time / kernel time by (case id, kernel), where both were timed."""
    base = {r.id: r.timing.mean for r in records if r.kernel == baseline and r.timing}
    return {
        (r.id, r.kernel): base[r.id] / r.timing.mean
        for r in records
        if r.kernel != baseline and r.timing and r.id in base
    }


def timing_table(records: Sequence[Record], title: str, baseline: str | None) -> Table:
    """One row for each timed record."""
    on_cpu = any(r.target == "cpu" for r in records)
    columns = ["case", "kernel", *_COLUMNS, "share", "limit"]
    if on_cpu:
        columns = [
            "case",
            "kernel",
            "mean ms",
            "grade",
            "± 95 %",
            "p10..p90",
            "rate",
            "runs",
            "note",
        ]
    if baseline:
        columns.append("speed-up")
    table = plain_table(*columns, title=title, numbers=_NUMBERS)
    ratios = speedups(records, baseline) if baseline else {}
    for record in records:
        if record.timing is not None:
            cells = _cells(record)
            ratio = ratios.get((record.id, record.kernel))
            cells["speed-up"] = "" if ratio is None else f"{ratio:.2f}x"
            unstable = record.timing.grade is not None and record.timing.grade.unstable
            style = "yellow" if unstable else ""
            table.add_row(*(Text(cells[column], style) for column in columns))
    return table


def _cells(record: Record) -> dict[str, str]:
    t = record.timing
    assert t is not None
    half = None if t.ci95 is None else (t.ci95[1] - t.ci95[0]) / 2
    spread = f"{milliseconds(t.p10)}..{milliseconds(t.p90)}" if t.p10 is not None else ""
    bound = record.bound
    return {
        "case": record.case,
        "kernel": record.kernel,
        "mean ms": milliseconds(t.mean),
        "grade": "" if t.grade is None else t.grade.letter + ("!" if t.grade.unstable else ""),
        "± 95 %": "" if half is None else f"{half:.2g}",
        "p10..p90": spread,
        "graph": milliseconds(t.mean if t.mode == "graph" else t.graph),
        "kernel-only": milliseconds(t.kernel_only),
        "cold L2": milliseconds(t.cold_l2),
        "launch": milliseconds(t.launch),
        "rate": rate(record),
        "floor": "" if bound is None else milliseconds(bound.floor),
        "share": "" if bound is None else f"{bound.share:.0%}".replace("%", " %"),
        "limit": "" if bound is None else bound.limit,
        "runs": f"{t.repeat} of {t.asked or t.repeat}",
        "note": "CPU timing",
    }


def speedup_line(records: Sequence[Record], baseline: str) -> Text:
    """Geometric mean of the speed-ups over the baseline, and the least of them."""
    ratios = speedups(records, baseline)
    if not ratios:
        return Text(f"no case was timed with both the kernel and {baseline}", "yellow")
    case, _ = min(ratios, key=lambda key: ratios[key])
    least = min(ratios.values())
    line = Text(f"speed-up over {baseline}: {geometric_mean(list(ratios.values())):.2f}x", "bold")
    return line.append(
        f" (geometric mean of {len(ratios)}); least {least:.2f}x, {case}", "default not bold"
    )


def protocol(records: Sequence[Record], rule: ContestRule, device: DeviceInfo) -> Text:
    """What the figures rest on."""
    counts = sorted(
        {(r.timing.warmup, r.timing.asked or r.timing.repeat) for r in records if r.timing}
    )
    said = ", ".join(f"{w} warm-ups and {n} runs" for w, n in counts)
    lines = [f"rule {rule.name}: {said or 'nothing timed'}; headline: mean of calls back to back"]
    if device.kind == "cpu":
        lines.append("CPU timings: they say nothing about a GPU")
    peaks = sorted({r.bound.peaks for r in records if r.bound})
    if peaks:
        lines.append(f"floor and share: {', '.join(peaks)}")
    elif device.kind != "cpu":
        lines.append(
            "no bound: this device has no profile; `mxbench env --measure` measures its peaks"
        )
    lines += _grades(records)
    notes = dict.fromkeys(
        f"{r.case} [{r.kernel}]: {note}"
        for r in records
        if r.timing
        for note in (*r.timing.notes, r.timing.graph_note, r.timing.kernel_only_note)
        if note
    )
    return Text("\n".join([*lines, *notes]))


def _grades(records: Sequence[Record]) -> list[str]:
    """What the grades mean, why timings are unstable, and how the inputs were rotated."""
    timed = [(r, r.timing) for r in records if r.timing]
    graded = [(r, t.grade) for r, t in timed if t.grade]
    lines = []
    if graded:
        lines.append("grade: A steady, B steady with a reservation, C! unstable, measured again")
    for letter in "CB":
        reasons: dict[str, list[str]] = {}
        for record, grade in graded:
            if grade.letter == letter:
                reasons.setdefault(_alike(grade.reasons), []).append(
                    f"{record.case} [{record.kernel}]: {', '.join(grade.reasons)} "
                    f"(measured {grade.tries} times)"
                )
        for same in reasons.values():
            more = f" and {len(same) - 1} more like it" if len(same) > 1 else ""
            lines.append(f"grade {letter}: {same[0]}{more}")
    one_set = sum(t.rotated == 1 for _, t in timed)
    if one_set:
        lines.append(
            f"{one_set} of {len(timed)} timed on one set of inputs, not two in turn: "
            "a second one would not stay in the L2 as the first does, or does not fit"
        )
    return lines


def _alike(reasons: Sequence[str]) -> str:
    """Reasons without their figures."""
    return re.sub(r"[-+\d.]+", "#", " ".join(reasons))
