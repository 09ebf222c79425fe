"""Which charts a performance report has, and what stands in their captions."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from . import dots, lines, roofline_chart
from .dots import FEW
from .figures import Pen, save, style
from .measured import Measured, Timings
from .parts import Context
from .picture import Picture

Draw = Callable[[Picture], object]


SuiteKey = tuple[str, str]


def draw_all(
    context: Context, found: Timings, folder: Path, notify: Callable[[str], None]
) -> tuple[dict[SuiteKey, list[tuple[str, str]]], list[Path]]:
    """The charts of a device, into `folder`.

    Returns the (caption, path relative to the page) pairs of each (operator, suite), and the files.
    """
    groups: dict[SuiteKey, list[Measured]] = {}
    for m in found.all:
        groups.setdefault((m.record.op, m.record.suite), []).append(m)
    shown: dict[SuiteKey, list[tuple[str, str]]] = {}
    written: list[Path] = []
    if not groups:
        return shown, written
    folder.mkdir(exist_ok=True)
    with style(context.t.language, notify) as pen:
        for (op, suite), timed in groups.items():
            pictures, files = _draw_suite(op, suite, timed, context, pen, folder)
            shown[op, suite] = pictures
            written += files
    return shown, written


def _draw_suite(
    op: str, suite: str, timed: Sequence[Measured], context: Context, pen: Pen, folder: Path
) -> tuple[list[tuple[str, str]], list[Path]]:
    """Latency, speed-up and roofline of one suite."""
    shown, written = [], []
    for kind, draw in _choose(timed):
        picture = Picture(op, suite, kind, tuple(timed), context, pen)
        made = draw(picture)
        stem = folder / re.sub(r"[^A-Za-z0-9_-]", "_", f"{op}-{suite}-{kind}")
        written += save(made, stem)
        shown.append((picture.sentence(context.t), f"{folder.name}/{stem.name}.svg"))
    return shown, written


def _choose(timed: Sequence[Measured]) -> list[tuple[str, Draw]]:
    """The charts these timings allow: no speed-up without pairs, no roofline without bounds."""
    cases = {m.record.case for m in timed}
    chosen: list[tuple[str, Draw]] = []
    if lines.curves(timed):
        chosen.append(("latency", lines.draw_curves))
    elif len(cases) > FEW and lines.one_axis(timed):
        chosen.append(("latency", lines.draw_bands))
    else:
        chosen.append(("latency", dots.draw_latency))
    if any(m.speedup for m in timed):
        many = len(cases) > FEW
        chosen.append(("speedup", lines.draw_sorted_speedups if many else dots.draw_speedups))
    if any(m.record.bound for m in timed):
        chosen.append(("roofline", roofline_chart.draw))
    return chosen
