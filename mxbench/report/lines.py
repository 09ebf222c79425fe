"""Charts over a size: curves of a few shapes, and bands where there are many cases."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

from ..ops.mla import DenseParams, PagedParams
from ..ops.moe import LayerParams, RoutedParams
from . import numbers
from .catalog import params_of
from .dots import speedup_axis
from .figures import INK, legend, log_axis, place, spread_apart
from .measured import Measured, mean_speedup
from .picture import Picture

MOST_CURVES = 9
LEAST_SIZES = 3
MOST_PANELS = 3

Curves = dict[str, list[tuple[float, Measured]]]
"""Label of a curve -> (size, timing), by size."""


def size(m: Measured) -> tuple[str, float] | None:
    """(axis, value): the length that a call of this operator grows with."""
    params = params_of(m.record)
    if isinstance(params, DenseParams | PagedParams):
        return "kv_ctx", params.kv_ctx
    if isinstance(params, RoutedParams):
        return "rows", params.rows
    if isinstance(params, LayerParams):
        return "rows", params.tokens * params.top_k
    return None if params is None else ("tokens", params.batch * params.seqlen)  # type: ignore[attr-defined]  # nsa's


_GROWING = {"kv_ctx": ("kv_ctx",), "rows": ("seqlen", "group_sum"), "tokens": ("seqlen",)}


def one_axis(timed: Sequence[Measured]) -> bool:
    """Whether all cases have a size, and the same kind of it."""
    return len({its[0] if (its := size(m)) else "" for m in timed} | {""}) == 2 and all(
        size(m) for m in timed
    )


def several_sizes(timed: Sequence[Measured]) -> bool:
    """Whether the cases have enough different sizes for an axis of them."""
    return len({its[1] for m in timed if (its := size(m))}) >= LEAST_SIZES


def curves(timed: Sequence[Measured]) -> bool:
    """Whether the cases form a few curves over enough sizes to be worth drawing so."""
    per_kernel = [_curves([m for m in timed if m.record.kernel == k]) for k in _kernels(timed)]
    return bool(per_kernel) and all(
        found is not None
        and len(found) <= MOST_CURVES
        and len({x for points in found.values() for x, _ in points}) >= LEAST_SIZES
        and all(len(points) >= 2 for points in found.values())
        for found in per_kernel
    ) and len(per_kernel) <= MOST_PANELS  # fmt: skip


def _kernels(timed: Sequence[Measured]) -> list[str]:
    return list(dict.fromkeys(m.record.kernel for m in timed))


def _curves(group: Sequence[Measured]) -> Curves | None:
    """The cases by all that is not their size; None if two fall on one point, or have no size."""
    sizes = [size(m) for m in group]
    axes = {s[0] for s in sizes if s}
    if None in sizes or len(axes) != 1:
        return None
    growing = _GROWING[axes.pop()]
    rest = [_rest(m, growing) for m in group]
    telling = [k for k in rest[0] if len({str(other.get(k)) for other in rest}) > 1]
    found: Curves = {}
    for m, its, other in zip(group, sizes, rest, strict=True):
        assert its is not None
        label = " ".join(_word(k, other.get(k)) for k in telling)
        found.setdefault(label, []).append((its[1], m))
    for points in found.values():
        points.sort(key=lambda point: point[0])
        if len({x for x, _ in points}) < len(points):
            return None
    return found


def _rest(m: Measured, growing: tuple[str, ...]) -> dict[str, Any]:
    fields = {"contract": m.record.contract, "dtype": m.record.dtype, **m.record.params}
    return {k: v for k, v in fields.items() if k not in growing}


def _word(name: str, value: Any) -> str:
    return str(value) if isinstance(value, str) else f"{name} {numbers.parameter(value)}"


# --- curves -------------------------------------------------------------------------------------


def draw_curves(picture: Picture) -> Any:
    """A panel for each kernel: mean time over the size, a labelled curve for each shape."""
    kernels, pen = picture.kernels, picture.pen
    more = [pen.t("spread_band")] if any(m.band for m in picture.timed) else []
    made = picture.figure(max(7.2, 1.2 + 3.9 * len(kernels)), 4.6, more)  # the caption is wide, too
    panels = made.subplots(1, len(kernels), sharex=True, sharey=True, squeeze=False)[0]
    place(made, picture.caption_lines + len(more), left=0.75, right=0.95, titles=True)
    made.subplots_adjust(wspace=0.34)
    for panel, kernel in zip(panels, kernels, strict=True):
        found = _curves(picture.of(kernel)) or {}
        for colour, points in zip(_ramp(len(found)), found.values(), strict=True):
            x = [at for at, _ in points]
            panel.plot(x, [m.mean for _, m in points], "-o", color=colour, ms=4)
            bands = [m.band or (m.mean, m.mean) for _, m in points]
            panel.fill_between(x, [low for low, _ in bands], [high for _, high in bands],
                               color=colour, alpha=0.22, lw=0)  # fmt: skip
            floors = [m.floor for _, m in points]
            if None not in floors:
                panel.plot(x, floors, ":", color=colour, lw=1.1)
        panel.set_title(pen.safe(kernel), fontsize=9.5, loc="left", color=INK)
        _size_axis(panel, picture)
    _time_axis(panels[0], picture)
    panels[0].set_ylabel(pen.t("axis_time"))
    for panel, kernel in zip(panels, kernels, strict=True):  # once the limits are final
        _label_ends(panel, _curves(picture.of(kernel)) or {}, picture)
    if any(m.floor is not None for m in picture.timed):
        legend(made, [_dotted(picture)])
    return made


def _ramp(count: int) -> list[Any]:
    """Light to dark, so that the order of the curves shows without colour too."""
    import matplotlib

    colours = matplotlib.colormaps["viridis_r"]
    return [colours(0.18 + 0.82 * i / max(1, count - 1)) for i in range(count)]


def _label_ends(panel: Any, found: Curves, picture: Picture) -> None:
    """Each curve's label at its right end, moved apart where they would overlap."""
    ends = [points[-1] for points in found.values()]
    pixels = [panel.transData.transform((x, m.mean))[1] for x, m in ends]
    scale = panel.figure.dpi / 72
    moved = spread_apart(pixels, 9.5 * scale)
    right = max((x for x, _ in ends), default=1)
    for (label, colour), (_, m), was, now in zip(
        zip(found, _ramp(len(found)), strict=True), ends, pixels, moved, strict=True
    ):
        panel.annotate(picture.pen.safe(label), (right, m.mean), (7, (now - was) / scale),
                       textcoords="offset points", va="center", fontsize=7.5, color=_dark(colour),
                       annotation_clip=False)  # fmt: skip


def _dark(colour: Any) -> Any:
    """A colour dark enough for small text."""
    return tuple(0.75 * part for part in colour[:3])


def _dotted(picture: Picture) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=INK, ls=":", lw=1.1, label=picture.pen.t("floor_mark"))


def _time_axis(axes: Any, picture: Picture) -> None:
    """A log axis for all times and floors of the picture."""
    times = [m.mean for m in picture.timed]
    times += [m.floor for m in picture.timed if m.floor is not None]
    log_axis(axes.yaxis, min(times) / 1.4, max(times) * 1.4)


def _size_axis(panel: Any, picture: Picture) -> None:
    """A log axis of lengths with ticks at powers of two: 1K, 4K, 64K."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    found = [s for s in map(size, picture.timed) if s]
    values = [x for _, x in found]
    powers = [2**e for e in range(40) if min(values) / 1.5 <= 2**e <= max(values) * 1.5]
    thinned = powers[:: max(1, round(len(powers) / 6))]
    panel.set_xscale("log")
    panel.set_xlim(min(values) / 1.25, max(values) * 1.25)
    panel.xaxis.set_major_locator(FixedLocator(thinned))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: length(x)))
    panel.set_xlabel(picture.pen.t(f"axis_{found[0][0]}"))


def length(value: float) -> str:
    """A length as people write it: `64`, `2K`, `1M`."""
    for unit, scale in (("M", 1 << 20), ("K", 1 << 10)):
        if value >= scale:
            return f"{value / scale:g}{unit}"
    return f"{value:g}"


# --- many cases ---------------------------------------------------------------------------------


def draw_bands(picture: Picture) -> Any:
    """Median and range of the mean times at each size: for suites of a hundred cases."""
    made = picture.figure(7.6, 4.4, [picture.pen.t("band")])
    axes = made.add_subplot()
    place(made, picture.caption_lines + 1, left=0.75, right=0.3)
    for kernel in reversed(picture.kernels):
        by_size = _by_size(picture.of(kernel), lambda m: m.mean)
        x, look = sorted(by_size), picture.look(kernel)
        axes.fill_between(x, [min(by_size[v]) for v in x], [max(by_size[v]) for v in x],
                          color=look.colour, alpha=0.16, lw=0)  # fmt: skip
        axes.plot(x, [statistics.median(by_size[v]) for v in x], color=look.colour,
                  marker=look.marker)  # fmt: skip
    _size_axis(axes, picture)
    floors = _by_size(picture.timed, lambda m: m.floor)
    x = sorted(floors)
    axes.plot(x, [statistics.median(floors[v]) for v in x], ":", color=INK, lw=1.1)
    _time_axis(axes, picture)
    axes.set_ylabel(picture.pen.t("axis_time"))
    handles = [picture.handle(kernel, linestyle="-") for kernel in picture.kernels]
    legend(made, [*handles, *([_dotted(picture)] if floors else [])])
    return made


def _by_size(
    group: Sequence[Measured], figure: Callable[[Measured], float | None]
) -> dict[float, list[float]]:
    """The figures of the cases of each size."""
    found: dict[float, list[float]] = {}
    for m in group:
        its, value = size(m), figure(m)
        if its is not None and value is not None:
            found.setdefault(its[1], []).append(value)
    return found


def draw_sorted_speedups(picture: Picture) -> Any:
    """All speed-ups from the smallest to the largest."""
    made = picture.figure(7.6, 4.2)
    axes = made.add_subplot()
    place(made, picture.caption_lines, left=0.75, right=0.3)
    handles = []
    for kernel in picture.kernels:
        values = sorted(m.speedup for m in picture.of(kernel) if m.speedup is not None)
        if not values:
            continue
        look = picture.look(kernel)
        axes.plot(range(1, len(values) + 1), values, color=look.colour, marker=look.marker, ms=3.5)
        mean = mean_speedup(picture.of(kernel)) or 0.0
        axes.axhline(mean, color=look.colour, lw=1, ls=(0, (4, 3)))
        label = f"{kernel}: {picture.pen.t('geometric', value=numbers.ratio(mean))}"
        handles.append(picture.handle(kernel, linestyle="-", label=picture.pen.safe(label)))
    speedup_axis(axes.yaxis, [m.speedup for m in picture.timed if m.speedup])
    axes.axhline(1, color=INK, lw=1.1)
    axes.set_xlabel(picture.pen.t("axis_sorted"))
    axes.set_ylabel(picture.pen.t("axis_speedup"))
    legend(made, handles)
    return made
