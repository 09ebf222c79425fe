"""Step by step: the same cases under one kernel after another, and one version after another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..record import Record
from . import numbers
from .coverage import served
from .dots import speedup_axis
from .figures import BASELINE_COLOUR, COLOURS, INK, figure, legend, place
from .journals import is_cpu
from .markdown import NUMBER, TEXT, escape, table
from .measured import Timings
from .parts import Context

MOST_CASES = 8
SUITES = ("performance", "judge", "peers", "functional")
"""The first of these with two steps is shown; others come after in any order."""
ORDER = ("baseline", "portable")
"""Kernels that begin the row of steps; what `--kernel auto` takes ends it."""
GROUP, BAR = 0.2, 0.17  # inches between groups, and of a bar

Step = tuple[str, str]
"""(kernel, hash of its sources)."""


@dataclass(frozen=True)
class Ablation:
    """Some cases of a suite under several steps."""

    op: str
    suite: str
    steps: tuple[Step, ...]
    cases: tuple[str, ...]
    means: dict[tuple[str, Step], float]
    """(case, step) -> mean, milliseconds."""
    floors: dict[str, float]

    def label(self, step: Step) -> str:
        """The kernel, with its hash where several versions of it are shown."""
        kernel, sha = step
        alone = sum(other == kernel for other, _ in self.steps) == 1
        return kernel if alone else f"{kernel}@{sha[:8]}"

    def gain(self, case: str, step: Step) -> float | None:
        """How many times faster than the first step of the case."""
        mean, first = self.means.get((case, step)), self._first(case)
        return first / mean if mean and first else None

    def _first(self, case: str) -> float | None:
        return next((self.means[case, s] for s in self.steps if (case, s) in self.means), None)


def ablation(op: str, context: Context, found: Timings) -> Ablation | None:
    """The suite of an operator that was timed under most steps, thinned to a few cases.

    None if no case was timed under two steps.
    """
    suites = dict.fromkeys(m.record.suite for m in found.all if m.record.op == op)
    best: Ablation | None = None
    for suite in sorted(suites, key=_preference):
        made = _of_suite(op, suite, context, found)
        if made and (best is None or len(made.steps) > len(best.steps)):
            best = made
    return best


def _preference(suite: str) -> int:
    return SUITES.index(suite) if suite in SUITES else len(SUITES)


def _of_suite(op: str, suite: str, context: Context, found: Timings) -> Ablation | None:
    current = {m.record.case: m for m in found.all if (m.record.op, m.record.suite) == (op, suite)}
    means: dict[tuple[str, Step], float] = {}
    for record in _versions(op, suite, context):
        m = current.get(record.case)
        if m and record.timing and (m.record.params, m.record.dtype) == (
            record.params, record.dtype,
        ):  # fmt: skip
            means[record.case, (record.kernel, record.kernel_sha)] = record.timing.mean
    catalog = context.catalog
    taken = {k for line in found.found if (line.op, line.suite) == (op, suite)
             for k in served(line, catalog)}  # fmt: skip
    surely = {*ORDER, *taken}  # reading a kernel for what is banned takes half a second
    own = [s for s in dict.fromkeys(s for _, s in means)
           if s[0] in surely or not catalog.is_peer(op, s[0])]  # fmt: skip
    steps = sorted(own, key=lambda s: (s[0] in taken, _rank(s[0])))
    several = [c for c in current if sum((c, step) in means for step in steps) > 1]
    if not several:
        return None
    cases = _spaced(sorted(several, key=lambda c: current[c].floor or current[c].mean))
    floors = {c: floor for c in cases if (floor := current[c].floor) is not None}
    return Ablation(op, suite, tuple(steps), tuple(cases), means, floors)


def _versions(op: str, suite: str, context: Context) -> list[Record]:
    """Every passed timing under the rule, older versions of a kernel first."""
    records = [r for journal in context.device.journals for r in journal]
    rule = context.catalog.rule.name
    kept = [
        r for r in records
        if (r.op, r.suite, r.rule) == (op, suite, rule) and r.passed and not is_cpu(r)
        and r.timing is not None and r.timing.mode == "eager"
    ]  # fmt: skip
    return sorted(kept, key=lambda r: r.run)


def _rank(kernel: str) -> int:
    return ORDER.index(kernel) if kernel in ORDER else len(ORDER)


def _spaced(cases: Sequence[str]) -> list[str]:
    """At most `MOST_CASES` of the cases, evenly from the first to the last."""
    if len(cases) <= MOST_CASES:
        return list(cases)
    step = (len(cases) - 1) / (MOST_CASES - 1)
    return [cases[round(i * step)] for i in range(MOST_CASES)]


def ablation_table(found: Ablation, context: Context) -> str:
    """A row for each case: the mean of each step and its gain, and what share the last reaches."""
    t = context.t
    heads = [t("case"), *(escape(found.label(s)) for s in found.steps), t("share")]
    rows = []
    for case in found.cases:
        cells = [_cell(found, case, step) for step in found.steps]
        last = next(found.means[case, s] for s in reversed(found.steps) if (case, s) in found.means)
        floor = found.floors.get(case)
        share = numbers.percent(floor / last) if floor else numbers.ABSENT
        rows.append([f"`{case}`", *cells, share])
    return table(heads, rows, [TEXT, *[NUMBER] * (len(found.steps) + 1)])


def _cell(found: Ablation, case: str, step: Step) -> str:
    mean, gain = found.means.get((case, step)), found.gain(case, step)
    if mean is None:
        return numbers.ABSENT
    return f"{numbers.time_text(mean)} ({numbers.ratio(gain or 1)})"


def draw(found: Ablation, context: Context, pen: Any) -> Any:
    """Bars of the gain over the first step, a group for each case, with the line at 1."""
    t, shown = pen.t, found.steps[1:]
    height = 1.5 + len(found.cases) * (GROUP + BAR * len(shown))
    title = t("chart_ablation", op=t(found.op), suite=found.suite)
    caption = f"{context.device.name} · {found.label(found.steps[0])} = 1"
    longest = max(len(case) for case in found.cases)
    left = 0.3 + 0.062 * longest
    made = figure(pen.safe(title), [pen.safe(caption)], max(7.6, left + 4.4), height)
    axes = made.add_subplot()
    place(made, 1, left=left, right=0.75)
    ticks, y = [], 0.0
    gains: list[float] = []
    for case in found.cases:
        start = y
        for i, step in enumerate(shown):
            gain = found.gain(case, step)
            if gain is not None:
                axes.barh(y, gain - 1, BAR * 0.86, left=1, color=_colour(found, i), zorder=2)
                place_text = (gain, y) if gain >= 1 else (1, y)
                axes.annotate(numbers.ratio(gain), place_text, (4, 0), fontsize=7.5, va="center",
                              textcoords="offset points", color=INK)  # fmt: skip
                gains.append(gain)
            y += BAR
        ticks.append((start + y - BAR) / 2)
        y += GROUP
    axes.set_ylim(y - GROUP, -GROUP)
    axes.set_yticks(ticks, [pen.safe(case) for case in found.cases], fontsize=7.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    speedup_axis(axes.xaxis, gains)
    axes.axvline(1, color=INK, lw=1.1, zorder=3)
    axes.set_xlabel(t("axis_gain"))
    legend(made, [_handle(pen.safe(found.label(s)), _colour(found, i))
                  for i, s in enumerate(shown)])  # fmt: skip
    return made


def _colour(found: Ablation, index: int) -> str:
    kernel = found.steps[1 + index][0]
    return BASELINE_COLOUR if kernel == ORDER[0] else COLOURS[index % len(COLOURS)]


def _handle(label: str, colour: str) -> Any:
    from matplotlib.patches import Patch

    return Patch(color=colour, label=label)
