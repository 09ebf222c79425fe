"""The roofline: rate over arithmetic intensity, under the roofs that the floors were made with."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from ..roofline import Rates, peaks_of, profile_of
from . import numbers
from .figures import FAINT, INK, legend, log_axis, place
from .measured import Measured
from .picture import Picture

Roofs = tuple[float | None, float | None]
"""(TFLOP/s, GB/s), either of which may be unknown."""


def roofs(timed: Sequence[Measured], device: str) -> Roofs:
    """The peaks behind the floors.

    A floor that is limited by compute, or by memory, is the work over that very peak, so the
    journal tells it. What no case is limited by comes from the device's profile, if the floors
    name it as their source.
    """
    compute = [
        m.record.work.flops / m.floor / 1e9 for m in timed if m.floor and m.limit == "compute"
    ]
    memory = [m.record.work.bytes / m.floor / 1e6 for m in timed if m.floor and m.limit == "memory"]
    known = _profile_rates(timed, device)
    tflops = max(known.tflops.values()) if known else None
    gbps = known.gbps if known else None
    return (
        statistics.median(compute) if compute else tflops,
        statistics.median(memory) if memory else gbps,
    )


def _profile_rates(timed: Sequence[Measured], device: str) -> Rates | None:
    peaks = peaks_of(device)
    named = {m.record.bound.peaks for m in timed if m.record.bound}
    return peaks.rates if peaks is not None and named == {peaks.source} else None


def draw(picture: Picture) -> Any:
    """Every timing as a point under the roofs; the data sheet's roofs dotted, where they differ."""
    made = picture.figure(7.6, 4.8)
    axes = made.add_subplot()
    place(made, picture.caption_lines, left=0.75, right=0.35)
    bounded = [m for m in picture.timed if m.record.bound and m.record.work.bytes]
    for kernel in reversed(picture.kernels):
        group, look = [m for m in bounded if m.record.kernel == kernel], picture.look(kernel)
        axes.plot([_intensity(m) for m in group], [m.tflops for m in group], look.marker,
                  color=look.colour, alpha=0.8, mec="white", mew=0.4, ms=6, zorder=3)  # fmt: skip
    device = picture.context.device.name
    used = roofs(bounded, device)
    low, high = _limits(bounded, used)
    log_axis(axes.xaxis, low, high)
    log_axis(axes.yaxis, *_rates(bounded, used, (low, high)))
    profile = profile_of(device)
    if profile is not None:
        sheet = max(profile.theoretical.tflops.values()), profile.theoretical.gbps
        if sheet != used:
            _roof(axes, sheet, (low, high), color=FAINT, ls=":", lw=1.2)
    _roof(axes, used, (low, high), color=INK, lw=1.4)
    _label_roofs(axes, used, (low, high), picture)
    axes.set_xlabel(picture.pen.t("axis_intensity"))
    axes.set_ylabel(picture.pen.t("axis_tflops"))
    sheet_drawn = profile is not None and sheet != used
    legend(
        made, [*map(picture.handle, picture.kernels), *([_sheet(picture)] if sheet_drawn else [])]
    )
    return made


def _intensity(m: Measured) -> float:
    return m.record.work.flops / m.record.work.bytes


def _limits(timed: Sequence[Measured], used: Roofs) -> tuple[float, float]:
    """Intensities to show: all points, and the ridge where the roofs meet."""
    found = [_intensity(m) for m in timed]
    tflops, gbps = used
    if tflops and gbps:
        found.append(1e3 * tflops / gbps)
    return min(found) / 2.5, max(found) * 2.5


def _rates(
    timed: Sequence[Measured], used: Roofs, limits: tuple[float, float]
) -> tuple[float, float]:
    """Rates to show: all points, the roof over them, and a little sky."""
    found = [m.tflops for m in timed]
    tflops, gbps = used
    if gbps:
        found += [min(tflops or math.inf, gbps * at / 1e3) for at in limits]
    return min(found) / 1.6, max([*found, tflops or 0.0]) * 1.7


def _roof(axes: Any, peaks: Roofs, limits: tuple[float, float], **style: Any) -> None:
    tflops, gbps = peaks
    low, high = limits
    if tflops and gbps:
        ridge = 1e3 * tflops / gbps
        x = sorted({low, min(max(ridge, low), high), high})
        axes.plot(x, [min(tflops, gbps * at / 1e3) for at in x], zorder=1, **style)
    elif gbps:
        axes.plot(limits, [gbps * at / 1e3 for at in limits], zorder=1, **style)
    elif tflops:
        axes.plot(limits, [tflops, tflops], zorder=1, **style)


def _label_roofs(axes: Any, peaks: Roofs, limits: tuple[float, float], picture: Picture) -> None:
    tflops, gbps = peaks
    low, high = limits
    t = picture.pen.t
    if tflops:
        axes.annotate(t("roof_compute", value=numbers.significant(tflops, 3)), (high, tflops),
                      (-4, -11), textcoords="offset points", ha="right", fontsize=8)  # fmt: skip
    if gbps:
        at = low * (high / low) ** 0.03
        axes.annotate(t("roof_memory", value=numbers.significant(gbps, 3)), (at, gbps * at / 1e3),
                      (8, -6), textcoords="offset points", ha="left", fontsize=8)  # fmt: skip


def _sheet(picture: Picture) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=FAINT, ls=":", lw=1.2, label=picture.pen.t("sheet"))
