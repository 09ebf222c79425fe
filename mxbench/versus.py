"""From interleaved times of two kernels to a ratio, its interval and a verdict. Pure.

scipy is imported when a ratio is computed: it takes a second.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

RESAMPLES = 4999
CONFIDENCE = 0.95
TRIMMED = 0.2
"""Share of the blocks at either end that the mean leaves out."""
RESOLUTION = 0.002
"""Ratios nearer to 1 are never called a difference: the same program loaded twice, at other
addresses, may well run that much faster or slower for good. On an H100, a kernel of 0.31 ms against
itself, 20 comparisons of 16 blocks: ratios 0.9987 to 1.0007, intervals some 0.0013 to either side;
without this, one of the 20 would have been called a difference."""


class Verdict(str, Enum):
    """What an interval says of B against A."""

    FASTER = "faster"
    SLOWER = "slower"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Ratio:
    """Time of B over time of A: below 1, B is faster."""

    ratio: float
    """Geometric mean over the blocks, the fastest and slowest fifth left out."""
    low: float
    high: float
    """95 % interval of it."""
    samples: int
    """Blocks (of a mean over cases: cases) behind it."""

    def verdict(self, resolution: float = RESOLUTION) -> Verdict:
        """Faster or slower if the whole interval is, by more than `resolution`."""
        if self.high < 1 - resolution:
            return Verdict.FASTER
        return Verdict.SLOWER if self.low > 1 + resolution else Verdict.UNDECIDED

    def exceeds(self, tolerance: float) -> bool:
        """Whether B is slower by more than `tolerance`, with the interval's confidence."""
        return self.low > 1 + tolerance


def log_ratios(blocks: Sequence[Sequence[float]]) -> list[float]:
    """log(B / A) of each block, whose first two entries are the times of A and B."""
    return [math.log(block[1] / block[0]) for block in blocks]


def ratio(blocks: Sequence[Sequence[float]]) -> Ratio:
    """B over A from blocks of times, each (A, B, ...) in one unit.

    Raises:
        ValueError: fewer than two blocks.
    """
    return _bootstrapped([log_ratios(blocks)], len(blocks))


def geometric_mean(cases: Sequence[Sequence[Sequence[float]]]) -> Ratio:
    """Over the cases, each a list of blocks; the interval is of these very cases' mean."""
    return _bootstrapped([log_ratios(blocks) for blocks in cases], len(cases))


def _bootstrapped(samples: list[list[float]], count: int) -> Ratio:
    """Mean of the samples' trimmed means, with the bootstrap's percentile interval.

    Single blocks that something disturbed are far off; a mean trimmed by a fifth at either end
    does not follow them, and the percentile bootstrap of it keeps its confidence from some fifteen
    blocks on (Wilcox, Introduction to Robust Estimation and Hypothesis Testing, chapter 4).
    """
    import numpy as np
    from scipy import stats

    if not samples or min(map(len, samples)) < 2:
        raise ValueError("an interval needs at least two blocks")
    arrays = [np.asarray(values) for values in samples]

    def centre(*drawn: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.mean([stats.trim_mean(d, TRIMMED, axis=axis) for d in drawn], axis=0)

    found = stats.bootstrap(
        arrays, centre, n_resamples=RESAMPLES, confidence_level=CONFIDENCE, method="percentile",
        rng=np.random.default_rng(0), vectorized=True,
    ).confidence_interval  # fmt: skip
    ratio, low, high = (math.exp(x) for x in (centre(*arrays), found.low, found.high))
    return Ratio(ratio, low, high, count)
