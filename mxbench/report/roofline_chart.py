"""The roofline: rate over arithmetic intensity, under the roofs that the floors were made with."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Sequence
from typing import Any

from ..roofline import Rates, peaks_of, profile_of
from . import numbers
from .figures import INK, legend, log_axis, place
from .measured import Measured
from .picture import Picture

Roofs = tuple[float | None, float | None]
"""(TFLOP/s, GB/s), either of which may be unknown."""

ROOF: dict[str, Any] = {"color": INK, "lw": 1.4}
SHEET: dict[str, Any] = {"color": "#999999", "lw": 1.2, "ls": ":"}


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
    tflops, gbps = _told(timed)
    if known:
        tflops, gbps = max(known.tflops.values()), known.gbps
    return (
        statistics.median(compute) if compute else tflops,
        statistics.median(memory) if memory else gbps,
    )


def _told(timed: Sequence[Measured]) -> Roofs:
    """The rates that the floors' source spells out, where they were measured on the device."""
    sources = {m.record.bound.peaks for m in timed if m.record.bound}
    found = [re.fullmatch(r"measured on this device \((.+) TFLOP/s, ([\d.e+]+) GB/s\)", source)
             for source in sources]  # fmt: skip
    if len(found) != 1 or found[0] is None:
        return None, None
    dtypes = {m.record.dtype for m in timed}
    rates = dict(part.split() for part in found[0][1].split(", "))
    used = [float(rate) for name, rate in rates.items() if name in dtypes]
    return (max(used) if used else None), float(found[0][2])


def _profile_rates(timed: Sequence[Measured], device: str) -> Rates | None:
    peaks = peaks_of(device)
    named = {m.record.bound.peaks for m in timed if m.record.bound}
    return peaks.rates if peaks is not None and named == {peaks.source} else None


def draw(picture: Picture) -> Any:
    """Every timing as a point under the roofs; the data sheet's roofs dotted, where they differ."""
    made = picture.figure(7.6 + max(0, len(picture.kernels) - 2), 4.8)  # the legend is one row
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
    handles = [*map(picture.handle, picture.kernels)]
    _roof(axes, used, (low, high), **ROOF)
    handles.append(_handle(used, picture, "roof", **ROOF))
    sheet = _sheet(device)
    if sheet is not None and sheet != used:
        _roof(axes, sheet, (low, high), **SHEET)
        handles.append(_handle(sheet, picture, "sheet", **SHEET))
    axes.set_xlabel(picture.pen.t("axis_intensity"))
    axes.set_ylabel(picture.pen.t("axis_tflops"))
    legend(made, handles)
    return made


def _sheet(device: str) -> Roofs | None:
    """The data sheet's ceilings of a device, if it has a profile."""
    profile = profile_of(device)
    if profile is None:
        return None
    return max(profile.theoretical.tflops.values()), profile.theoretical.gbps


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


def _handle(peaks: Roofs, picture: Picture, key: str, **style: Any) -> Any:
    """A roof's entry in the legend: its name, if it has one, and its peaks."""
    from matplotlib.lines import Line2D

    tflops, gbps = peaks
    figures = [f"{numbers.significant(tflops)} TFLOP/s"] if tflops else []
    figures += [f"{numbers.significant(gbps)} GB/s"] if gbps else []
    label = picture.pen.t(key, peaks=picture.pen.t.listed(figures))
    return Line2D([], [], label=label, **style)
