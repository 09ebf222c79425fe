"""How errors are distributed over the cases of an operator, against the strict limits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..record import Record
from ..verdict import Errors
from .figures import BASELINE_COLOUR, COLOURS, INK, figure, legend, log_axis, place
from .parts import Context

METRICS: tuple[tuple[str, Callable[[Errors], float]], ...] = (
    ("rms", lambda e: e.rms_ratio),
    ("worst_row", lambda e: e.worst_row_rms_ratio),
    ("max_abs", lambda e: e.max_abs),
)
LEAST = 3
"""Results that make a distribution."""


def draw(op: str, records: Sequence[Record], context: Context, pen: Any) -> Any | None:
    """Cumulative distributions of three error figures, a line for each kernel.

    Dotted lines are the strict verdict's limits. None where too few results have error figures.
    """
    judged = [r for r in records if r.op == op and r.errors is not None]
    if len(judged) < LEAST:
        return None
    t = pen.t
    title = t("chart_errors", op=t(op))
    caption = t("errors_caption", device=context.device.name, n=len(judged))
    made = figure(pen.safe(title), [pen.safe(caption)], 9.0, 3.5)
    panels = made.subplots(1, len(METRICS), sharey=True)
    place(made, 1, left=0.75, right=0.2)
    made.subplots_adjust(wspace=0.12)
    kernels = _kernels(judged, context)
    limits = _limits(judged, context)
    for panel, (name, figure_of) in zip(panels, METRICS, strict=True):
        _panel(panel, judged, kernels, figure_of, limits.get(name, []))
        panel.set_xlabel(t(f"axis_{name}"))
    panels[0].set_ylabel(t("axis_share_of_cases"))
    panels[0].yaxis.set_major_formatter(lambda y, _: f"{100 * y:g} %")
    handles = [_line(pen.safe(k), colour, "-") for k, colour in kernels.items()]
    if limits:
        handles.append(_line(t("strict_limits"), INK, ":"))
    legend(made, handles)
    return made


def _kernels(judged: Sequence[Record], context: Context) -> dict[str, str]:
    """Kernel -> colour, the baseline last and grey, as in the other charts."""
    baseline = context.catalog.baseline
    names = sorted({r.kernel for r in judged}, key=lambda k: (k == baseline, k))
    return {
        name: BASELINE_COLOUR if name == baseline else COLOURS[i % len(COLOURS)]
        for i, name in enumerate(names)
    }


def _limits(judged: Sequence[Record], context: Context) -> dict[str, list[float]]:
    """The strict limits that apply to these results, by panel."""
    found: dict[str, set[float]] = {}
    for record in judged:
        case = context.catalog.case(record)
        if case is not None:
            strict = case.spec.strict(case.params, case.dtype)
            found.setdefault("rms", set()).add(strict.rms_ratio)
            found.setdefault("worst_row", set()).add(strict.row_rms_ratio)
    return {name: sorted(values) for name, values in found.items()}


def _panel(
    panel: Any,
    judged: Sequence[Record],
    kernels: dict[str, str],
    figure_of: Callable[[Errors], float],
    limits: Sequence[float],
) -> None:
    by_kernel = {k: [figure_of(r.errors) for r in judged if r.kernel == k and r.errors]
                 for k in kernels}  # fmt: skip
    positive = [v for values in by_kernel.values() for v in values if v > 0] or [1e-6]
    low, high = min(positive) / 2, max([*positive, *limits]) * 2
    for kernel in reversed(kernels):
        values = sorted(max(v, low) for v in by_kernel[kernel])
        share = [i / len(values) for i in range(len(values) + 1)]
        x = [values[0], *values]
        panel.plot(x, share, "-", color=kernels[kernel], drawstyle="steps-pre")
    for limit in limits:
        panel.axvline(limit, color=INK, lw=1, ls=":")
    panel.set_ylim(0, 1.03)
    log_axis(panel.xaxis, low, high)
    panel.xaxis.set_major_formatter(lambda x, _: f"{x:.0e}".replace("e-0", "e-"))


def _line(label: str, colour: str, style: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=colour, ls=style, label=label)
