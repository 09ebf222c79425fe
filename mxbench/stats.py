"""Statistics of timing samples. Pure: no torch, no numpy."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

import msgspec


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """What a set of samples says, in the samples' unit."""

    mean: float
    median: float
    p10: float
    p90: float
    min: float
    std: float
    """Sample standard deviation; 0 for a single sample."""
    ci95: tuple[float, float]
    """95 % interval of the mean, by Student's t; the mean itself twice for a single sample."""
    outliers: int
    """Samples beyond Tukey's fences, 1.5 interquartile ranges outside the quartiles."""


# Two-sided 95 % quantiles of Student's t for 1 to 30 degrees of freedom (any statistics table).
_T95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


def student_t95(freedom: int) -> float:
    """Two-sided 95 % quantile of Student's t; beyond the table, its usual expansion about 1.96."""
    if freedom < 1:
        raise ValueError("Student's t needs at least one degree of freedom")
    if freedom <= len(_T95):
        return _T95[freedom - 1]
    z = 1.959964
    return z + (z**3 + z) / (4 * freedom)


def quantile(ordered: Sequence[float], q: float) -> float:
    """The q-quantile of sorted samples, linear between neighbours."""
    place = q * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def spread(samples: Sequence[float]) -> Spread:
    """Summary of at least one sample. ValueError without any."""
    if not samples:
        raise ValueError("no samples")
    ordered = sorted(samples)
    mean = statistics.fmean(ordered)
    std = statistics.stdev(ordered) if len(ordered) > 1 else 0.0
    half = 0.0
    if len(ordered) > 1:
        half = student_t95(len(ordered) - 1) * std / math.sqrt(len(ordered))
    low, high = quantile(ordered, 0.25), quantile(ordered, 0.75)
    fence = 1.5 * (high - low)
    return Spread(
        mean=mean,
        median=quantile(ordered, 0.5),
        p10=quantile(ordered, 0.1),
        p90=quantile(ordered, 0.9),
        min=ordered[0],
        std=std,
        ci95=(mean - half, mean + half),
        outliers=sum(not low - fence <= x <= high + fence for x in ordered),
    )


def geometric_mean(values: Sequence[float]) -> float:
    """Geometric mean of positive values. ValueError without any or with one that is not."""
    if not values or min(values) <= 0:
        raise ValueError("a geometric mean needs positive values")
    return math.exp(statistics.fmean(math.log(v) for v in values))


def covered(intervals: Iterable[tuple[float, float]]) -> float:
    """Length of what (start, end) intervals cover together, overlaps counted once.

    Kernels overlap where one is launched before its predecessor has ended.
    """
    total, reached = 0.0, -math.inf
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total
