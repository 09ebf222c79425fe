"""What a kernel's timings say, in sentences. Every one follows from figures; nothing is guessed."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from . import numbers
from .measured import Measured, mean_speedup
from .numbers import percent, ratio, span, time_text
from .texts import Texts

NOTABLE_SPREAD = 0.05  # of the mean
NOTABLE_CHANGE = 0.1  # between two ways of timing
HOST_BOUND = 0.9  # launch cost over mean
ENOUGH_FOR_TREND = 9  # cases
NAMED = 3  # cases a sentence names

LIMITS = ("memory", "compute", "launch")


def paragraph(group: Sequence[Measured], t: Texts, against_baseline: bool) -> str:
    """The analysis of one kernel on one suite."""
    parts = [_limits, _trend, _extremes, _spread, _launch, _graph, _cold]
    sentences = [sentence for part in parts for sentence in part(group, t)]
    if against_baseline:
        sentences += _speedup(group, t)
    return t.joined(sentences)


# --- floors -------------------------------------------------------------------------------------


def _limits(group: Sequence[Measured], t: Texts) -> list[str]:
    """What limits which sizes, and how close they come."""
    bounded = [m for m in group if m.share is not None]
    if not bounded:
        return [t("no_floor")]
    found = []
    for limit in LIMITS:
        some = [m for m in bounded if m.limit == limit]
        if some:
            found.append(_limit(limit, some, bounded, t))
    return found


def _limit(limit: str, some: list[Measured], bounded: list[Measured], t: Texts) -> str:
    if limit == "compute":
        work, unit = [m.record.work.flops for m in some], "FLOP"
    else:
        work, unit = [m.record.work.bytes for m in some], "B"
    shares = [m.share for m in some if m.share is not None]
    return t(
        f"limit_{limit}",
        n=len(some),
        total=len(bounded),
        sizes=_sizes(some, bounded, t),
        work=span(numbers.amount(min(work), unit), numbers.amount(max(work), unit)),
        share=span(percent(min(shares)), percent(max(shares))),
    )


def _sizes(some: Sequence[Measured], among: Sequence[Measured], t: Texts) -> str:
    """Ranges of the numeric parameters that vary among the cases."""
    names = dict.fromkeys(name for m in among for name in m.record.params)
    found = []
    for name in names:
        if len(set(_numbers(among, name))) > 1 and (values := _numbers(some, name)):
            found.append(f"{name} {span(f'{min(values):g}', f'{max(values):g}')}")
    return t.listed(found) or t("sizes_all")


def _numbers(group: Sequence[Measured], name: str) -> list[float]:
    """The values of a numeric parameter among the cases that have it."""
    values = [m.record.params.get(name) for m in group]
    return [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]


def _trend(group: Sequence[Measured], t: Texts) -> list[str]:
    """Whether large cases come closer to the floor than small ones."""
    bounded = [m for m in group if m.floor is not None]
    if len(bounded) < ENOUGH_FOR_TREND:
        return []
    bounded.sort(key=lambda m: m.floor or 0.0)
    third = len(bounded) // 3
    small, large = (
        statistics.median(m.share or 0.0 for m in part)
        for part in (bounded[:third], bounded[-third:])
    )
    return [t("trend", small=percent(small), large=percent(large))]


def _extremes(group: Sequence[Measured], t: Texts) -> list[str]:
    """The cases closest to and farthest from their floors."""
    bounded = sorted((m for m in group if m.share is not None), key=lambda m: m.share or 0.0)
    if not bounded:
        return []
    found = [t("closest", **_gap(bounded[-1]))]
    if len(bounded) > 1:
        worst = bounded[: min(NAMED, len(bounded) - 1)]
        found.append(t("gaps", list=t.listed([t("gap", **_gap(m)) for m in worst])))
    above = [m for m in bounded if (m.share or 0.0) > 1]
    if above:
        sources = dict.fromkeys(t.peaks(m.record.bound.peaks) for m in above if m.record.bound)
        peaks = t.listed(list(sources))
        found.append(t("above_floor", n=len(above), total=len(bounded), peaks=peaks))
    return found


def _gap(m: Measured) -> dict[str, str]:
    return {
        "case": m.record.case,
        "mean": time_text(m.mean),
        "floor": time_text(m.floor or 0.0),
        "share": percent(m.share or 0.0),
    }


# --- spread and ways of timing ------------------------------------------------------------------


def _spread(group: Sequence[Measured], t: Texts) -> list[str]:
    known = [(m.variation, m) for m in group if m.variation is not None]
    if not known:
        return []
    known.sort(key=lambda pair: -pair[0])
    limit = f"{100 * NOTABLE_SPREAD:g} %"
    large = [(value, m) for value, m in known if value > NOTABLE_SPREAD]
    if not large:
        most, m = known[0]
        return [t("spread_small", limit=limit, most=percent(most), case=m.record.case)]
    named = [
        t("spread_item", case=m.record.case, value=percent(value), **_interval(m))
        for value, m in large[:NAMED]
    ]
    return [t("spread_large", n=len(large), total=len(known), limit=limit, list=t.listed(named))]


def _interval(m: Measured) -> dict[str, str]:
    low, high = m.timing.ci95 or (m.mean, m.mean)
    return {"low": time_text(low), "high": time_text(high)}


def _launch(group: Sequence[Measured], t: Texts) -> list[str]:
    if not (bound := [m for m in group if (m.timing.launch or 0) >= HOST_BOUND * m.mean]):
        return []
    return [t("host_bound", n=len(bound), total=len(group), limit=f"{100 * HOST_BOUND:g} %")]


def _graph(group: Sequence[Measured], t: Texts) -> list[str]:
    """Where replaying a graph saves time."""
    found = _changes(group, lambda m: (m.timing.graph, m.mean))
    if not found:
        return []
    _, m = found[0]
    figures = {"eager": time_text(m.mean), "graph": time_text(m.timing.graph or 0.0)}
    figures |= {"limit": f"{100 * NOTABLE_CHANGE:g} %", "case": m.record.case}
    return [t("graph_gain", n=len(found), total=len(group), **figures)]


def _cold(group: Sequence[Measured], t: Texts) -> list[str]:
    """Where finding the L2 empty costs time, single calls against single calls."""
    found = _changes(group, lambda m: (m.timing.median, m.timing.cold_l2))
    if not found:
        return []
    _, m = found[0]
    figures = {
        "warm": time_text(m.timing.median or 0.0),
        "cold": time_text(m.timing.cold_l2 or 0.0),
    }
    figures |= {"limit": f"{100 * NOTABLE_CHANGE:g} %", "case": m.record.case}
    return [t("cold", n=len(found), total=len(group), **figures)]


def _changes(
    group: Sequence[Measured], pair: Callable[[Measured], tuple[float | None, float | None]]
) -> list[tuple[float, Measured]]:
    """The cases whose second time exceeds the first notably, the largest ratio first."""
    found = []
    for m in group:
        short, long = pair(m)
        if short and long and long / short > 1 + NOTABLE_CHANGE:
            found.append((long / short, m))
    return sorted(found, key=lambda item: -item[0])


# --- against the baseline -----------------------------------------------------------------------


def _speedup(group: Sequence[Measured], t: Texts) -> list[str]:
    pairs = sorted(
        ((m.speedup, m) for m in group if m.speedup is not None), key=lambda pair: pair[0]
    )
    mean = mean_speedup(group)
    if not pairs or mean is None:
        return [t("no_pairs")]
    (low, worst), (high, best) = pairs[0], pairs[-1]
    names = {"best": best.record.case, "worst": worst.record.case}
    if len(pairs) == 1:
        found = [t("faster_by_one", mean=ratio(mean), **names)]
    else:
        figures = {"low": ratio(low), "high": ratio(high)}
        found = [t("faster_by", mean=ratio(mean), n=len(pairs), **figures, **names)]
    slower = [(value, m) for value, m in pairs if value < 1]
    if not slower:
        return [*found, t("none_slower")]
    named = [t("slower_item", case=m.record.case, value=ratio(v)) for v, m in slower[:NAMED]]
    more = [t("and_more", n=len(slower) - NAMED)] if len(slower) > NAMED else []
    return [*found, t("slower", n=len(slower), total=len(pairs), list=t.listed([*named, *more]))]
