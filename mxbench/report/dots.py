"""Charts with a row for each case: times and speed-ups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import numbers
from .figures import FAINT, INK, legend, log_axis, place
from .measured import mean_speedup
from .picture import Look, Picture, short_labels

FEW = 28
"""Cases that charts show as rows; more become curves, bands or sorted points."""
ROWS = 14
"""Rows of one chart, so that it is legible at a third of a printed page; more make a second one."""
ROW = 0.215  # inches
COLUMN = 0.72  # inches
MOST_COLUMNS = 3
LEAST_WIDTH = 3.6  # inches of the axes


def draw_latency(picture: Picture) -> Any:
    """Mean time of every case and kernel on a log axis, with the floor as a tick."""
    columns = picture.kernels[:MOST_COLUMNS]
    spread = [picture.pen.t("spread_band")] if any(m.band for m in picture.timed) else []
    made, axes, at = _rows(picture, room=0.12 + COLUMN * len(columns), more=spread)
    for kernel in reversed(picture.kernels):
        look, group = picture.look(kernel), picture.of(kernel)
        y = [at[m.record.case] for m in group]
        axes.plot([m.mean for m in group], y, look.marker, color=look.colour, zorder=3)
        for at_y, band in ((at[m.record.case], m.band) for m in group):
            if band:
                axes.plot(band, [at_y, at_y], "-", color=look.colour, lw=4, alpha=0.3, zorder=2,
                          solid_capstyle="butt")  # fmt: skip
    floors = {m.record.case: m.floor for m in picture.timed if m.floor is not None}
    axes.plot(list(floors.values()), [at[c] for c in floors], "|", color=INK, ms=9, mew=1.4)
    times = [m.mean for m in picture.timed] + list(floors.values())
    times += [end for m in picture.timed for end in m.band or ()]
    log_axis(axes.xaxis, min(times) / 1.35, max(times) * 1.35)
    axes.set_xlabel(picture.pen.t("axis_time"))
    _bars(axes, picture, at, floors)
    for i, kernel in enumerate(columns):
        words = {at[m.record.case]: numbers.time_text(m.mean) for m in picture.of(kernel)}
        _column(axes, words, picture.look(kernel).colour, i)
    legend(made, [*map(picture.handle, picture.kernels), *([_floor(picture)] if floors else [])])
    return made


def _bars(axes: Any, picture: Picture, at: dict[str, float], floors: dict[str, float]) -> None:
    """A faint line from the least to the greatest figure of a case holds its row together."""
    for case, y in at.items():
        times = [m.mean for m in picture.timed if m.record.case == case]
        times += [floors[case]] if case in floors else []
        axes.plot([min(times), max(times)], [y, y], "-", color=FAINT, lw=1.2, zorder=1)


def _column(axes: Any, words: dict[float, str], colour: str, place: int) -> None:
    """Words for the rows, in a kernel's colour, right of the axes: height -> words."""
    for y, text in words.items():
        axes.annotate(
            text,
            (1, y),
            (72 * COLUMN * (place + 1), 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="right",
            va="center",
            fontsize=7.5,
            color=colour,
            annotation_clip=False,
        )


def _floor(picture: Picture) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=INK, marker="|", ms=9, mew=1.4, ls="none",
                  label=picture.pen.t("floor_mark"))  # fmt: skip


def draw_speedups(picture: Picture) -> Any:
    """Speed-up of every case as a bar from 1, below 1 hollow, with the geometric mean."""
    kernels = [k for k in picture.kernels if any(m.speedup for m in picture.of(k))]
    made, axes, at = _rows(picture, room=0.12 + COLUMN * len(kernels[:MOST_COLUMNS]))
    step = 0.44 / len(kernels)
    means = []
    for i, kernel in enumerate(kernels):
        look, group = picture.look(kernel), [m for m in picture.of(kernel) if m.speedup]
        shift = (i - (len(kernels) - 1) / 2) * step
        for m in group:
            _bar(axes, m.speedup or 1, at[m.record.case] + shift, look)
        mean = mean_speedup(group) or 1
        axes.axvline(mean, color=look.colour, lw=1, ls=(0, (4, 3)), zorder=1)
        label = f"{kernel}: {picture.pen.t('geometric', value=numbers.ratio(mean))}"
        means.append(picture.handle(kernel, label=picture.pen.safe(label)))
        if i < MOST_COLUMNS:
            words = {at[m.record.case]: numbers.ratio(m.speedup or 1) for m in group}
            _column(axes, words, look.colour, i)
    speedup_axis(axes.xaxis, [m.speedup for m in picture.timed if m.speedup])
    axes.axvline(1, color=INK, lw=1.1, zorder=2)
    axes.set_xlabel(picture.pen.t("axis_speedup"))
    legend(made, means)
    return made


def _bar(axes: Any, value: float, y: float, look: Look) -> None:
    face = look.colour if value >= 1 else "white"
    axes.plot([1, value], [y, y], "-", color=look.colour, lw=5, alpha=0.45,
              solid_capstyle="butt")  # fmt: skip
    axes.plot([value], [y], look.marker, color=look.colour, mfc=face, zorder=3)


def speedup_axis(axis: Any, values: list[float]) -> None:
    """A log axis that holds the values and 1."""
    from matplotlib.ticker import FuncFormatter, NullLocator

    low, high = min(*values, 1.0), max(*values, 1.0)
    margin = max(1.04, (high / low) ** 0.06)
    log_axis(axis, low / margin, high * margin)
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}×"))


def _rows(
    picture: Picture, room: float, more: Sequence[str] = ()
) -> tuple[Any, Any, dict[str, float]]:
    """Figure, axes, and the height of each case's row, the first on top."""
    labels, common = short_labels(picture.timed)
    at = {case: float(i) for i, case in enumerate(labels)}
    more = [*more, *([picture.pen.t("common", list=common)] if common else [])]
    height = 1.4 + 0.145 * len(more) + ROW * max(len(at), 3)
    left = 0.3 + 0.066 * max(len(label) for label in labels.values())
    made = picture.figure(max(7.6, left + LEAST_WIDTH + room), height, more)
    axes = made.add_subplot()
    place(made, picture.caption_lines + len(more), left=left, right=room)
    axes.set_yticks(list(at.values()), [picture.pen.safe(label) for label in labels.values()],
                    fontsize=8)  # fmt: skip
    axes.set_ylim(len(at) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    return made, axes, at
