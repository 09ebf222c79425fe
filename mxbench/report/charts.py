"""Which charts a performance report has, and what stands in their captions."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..record import Record
from . import ablation, dots, errors_chart, functional, lines, roofline_chart
from .dots import FEW
from .figures import Pen, save, style
from .measured import Measured, Timings
from .parts import OPERATOR_NAMES, Context
from .picture import Picture

Draw = Callable[[Picture], object]


SuiteKey = tuple[str, str]
Caption = tuple[str, str]
"""(caption, path relative to the page)."""


@dataclass(frozen=True)
class Drawn:
    """The charts of a device."""

    suites: dict[SuiteKey, list[Caption]]
    """(operator, suite) -> latency, speed-up, roofline."""
    operators: dict[tuple[str, str], Caption]
    """(operator, `errors` or `ablation`) -> its chart."""
    steps: dict[str, ablation.Ablation]
    files: list[Path]

    @property
    def errors(self) -> dict[str, Caption]:
        """Operator -> the chart of its errors."""
        return {op: chart for (op, kind), chart in self.operators.items() if kind == "errors"}


def draw_all(
    context: Context, found: Timings, folder: Path, notify: Callable[[str], None]
) -> Drawn:
    """The charts of a device, into `folder`."""
    groups: dict[SuiteKey, list[Measured]] = {}
    for m in found.all:
        groups.setdefault((m.record.op, m.record.suite), []).append(m)
    made = Drawn({}, {}, {}, [])
    judged = [r for line in functional.results(context)[0] if not line.parts for r in line.records]
    if not groups and len(judged) < errors_chart.LEAST:
        return made
    with style(context.t.language, notify) as pen:
        for (op, suite), timed in groups.items():
            folder.mkdir(exist_ok=True)
            pictures, files = _draw_suite(op, suite, timed, context, pen, folder)
            made.suites[op, suite] = pictures
            made.files.extend(files)
        for op in dict.fromkeys(r.op for r in judged):
            _draw_operator(op, judged, context, found, pen, folder, made)
    return made


def _draw_operator(
    op: str,
    judged: Sequence[Record],
    context: Context,
    found: Timings,
    pen: Pen,
    folder: Path,
    made: Drawn,
) -> None:
    """Errors and steps of an operator."""
    drawn: dict[str, Any] = {"errors": errors_chart.draw(op, judged, context, pen)}
    steps = ablation.ablation(op, context, found)
    if steps:
        made.steps[op] = steps
        drawn["ablation"] = ablation.draw(steps, context, pen)
    t = context.t
    name = t(op) if op in OPERATOR_NAMES else op
    for kind, picture in drawn.items():
        if picture is None:
            continue
        folder.mkdir(exist_ok=True)
        stem = folder / re.sub(r"[^A-Za-z0-9_-]", "_", f"{op}-{kind}")
        made.files.extend(save(picture, stem))
        suite = steps.suite if steps else ""
        caption = f"{t(f'chart_{kind}', op=name, suite=suite)} · {context.device.name}"
        made.operators[op, kind] = (caption, f"{folder.name}/{stem.name}.svg")


def _draw_suite(
    op: str, suite: str, timed: Sequence[Measured], context: Context, pen: Pen, folder: Path
) -> tuple[list[tuple[str, str]], list[Path]]:
    """Latency, speed-up and roofline of one suite."""
    shown, written = [], []
    for kind, draw in _choose(timed):
        parts = _pages(timed) if draw in (dots.draw_latency, dots.draw_speedups) else [timed]
        for number, part in enumerate(parts, 1):
            picture = Picture(op, suite, kind, tuple(part), context, pen, tuple(timed))
            suffix = f"-{number}" if len(parts) > 1 else ""
            stem = folder / re.sub(r"[^A-Za-z0-9_-]", "_", f"{op}-{suite}-{kind}{suffix}")
            written += save(draw(picture), stem)
            shown.append((picture.sentence(context.t), f"{folder.name}/{stem.name}.svg"))
    return shown, written


def _pages(timed: Sequence[Measured]) -> list[list[Measured]]:
    """The timings in groups of few enough cases for the rows of one chart, in order."""
    cases = list(dict.fromkeys(m.record.case for m in timed))
    count = -(-len(cases) // dots.ROWS)
    size = -(-len(cases) // count)
    chunks = [set(cases[i : i + size]) for i in range(0, len(cases), size)]
    return [[m for m in timed if m.record.case in chunk] for chunk in chunks]


def _choose(timed: Sequence[Measured]) -> list[tuple[str, Draw]]:
    """The charts these timings allow: no speed-up without pairs, no roofline without bounds."""
    cases = {m.record.case for m in timed}
    chosen: list[tuple[str, Draw]] = []
    if lines.curves(timed):
        chosen.append(("latency", lines.draw_curves))
    elif len(cases) > FEW and lines.one_axis(timed) and lines.several_sizes(timed):
        chosen.append(("latency", lines.draw_bands))
    else:
        chosen.append(("latency", dots.draw_latency))
    if any(m.speedup for m in timed):
        many = len(cases) > FEW
        chosen.append(("speedup", lines.draw_sorted_speedups if many else dots.draw_speedups))
    if any(m.record.bound for m in timed):
        chosen.append(("roofline", roofline_chart.draw))
    return chosen
