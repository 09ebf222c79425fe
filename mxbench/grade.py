"""How far a timing can be trusted: noise, drift, throttling, company on the device. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Literal

import msgspec

from .stats import quantile

NOISE = 0.10
"""Half of p10..p90 over the median: what more is unstable..."""
NOISE_MS = 0.002
"""...unless it is less than device events resolve."""
DRIFT = 0.05
"""Median of the last quarter of the calls against the first: what more is unstable..."""
DRIFT_MS = 0.001
STRAY = 0.10
"""Mean over median, less 1: what more says that a few calls decide the mean, which is unstable."""
FEWEST = 8
"""Calls below which their spread says nothing."""
THROTTLED = 0.02
"""Share of the time a limit was in force that is worth a word."""

Letter = Literal["A", "B", "C"]


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """What the driver says about the time of a measurement; None where it does not say."""

    throttled: dict[str, float] = {}
    """Limit in force (`power`, `thermal`, ...) -> share of the time, at most 1."""
    others: int | None = None
    """Other processes on the GPU."""
    busy: float | None = None
    """Share of the time that the GPU was busy with others' work just before, at most 1."""

    @property
    def limited(self) -> bool:
        """Whether a limit was in force for a time that is worth a word."""
        return any(share >= THROTTLED for share in self.throttled.values())


class Grade(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A: steady. B: steady, with a reservation. C: unstable, not to be relied on."""

    letter: Letter
    noise: float | None = None
    """Half of p10..p90 over the median."""
    drift: float | None = None
    """Median of the last quarter over that of the first, less 1."""
    stray: float | None = None
    """Mean over median, less 1: the weight of single slow calls."""
    throttled: dict[str, float] = {}
    others: int | None = None
    busy: float | None = None
    tries: int = 1
    """How often it was measured; what is kept is the first steady try, else the steadiest."""
    reasons: list[str] = []
    """What keeps it from an A."""

    @property
    def unstable(self) -> bool:
        return self.letter == "C"


class _Spread(msgspec.Struct, frozen=True):
    """Noise, drift and stray of samples, with what is tolerated of each."""

    figures: tuple[float, float, float]
    allowed: tuple[float, float, float]

    @property
    def excess(self) -> float:
        return max(abs(f) / a for f, a in zip(self.figures, self.allowed, strict=True))


def _spread(samples: Sequence[float]) -> _Spread | None:
    """Of per-call milliseconds in calling order; None from too few calls."""
    if len(samples) < FEWEST:
        return None
    ordered = sorted(samples)
    median = quantile(ordered, 0.5)
    quarter = len(samples) // 4
    first = statistics.median(samples[:quarter])
    last = statistics.median(samples[-quarter:])
    if not median or not first:
        return None
    noise = (quantile(ordered, 0.9) - quantile(ordered, 0.1)) / 2 / median
    stray = max(0.0, statistics.fmean(samples) / median - 1)
    return _Spread(
        (noise, last / first - 1, stray),
        (
            max(NOISE, NOISE_MS / median),
            max(DRIFT, DRIFT_MS / median),
            max(STRAY, NOISE_MS / median),
        ),
    )


def excess(samples: Sequence[float]) -> float:
    """How unsteady samples are in units of what is tolerated; 1 and less is steady."""
    spread = _spread(samples)
    return 0.0 if spread is None else spread.excess


def grade(samples: Sequence[float], conditions: Conditions, tries: int = 1) -> Grade:
    """The grade of a timing with these per-call milliseconds, in calling order."""
    spread = _spread(samples)
    unstable, reserved = [], []
    if spread is None:
        reserved.append(f"{len(samples)} calls are too few to tell their spread")
    else:
        noise, drift, stray = spread.figures
        words = f"noise {noise:.0%}", f"drift {drift:+.0%}", f"mean {stray:.0%} above the median"
        for figure, allowed, text in zip(spread.figures, spread.allowed, words, strict=True):
            if abs(figure) > allowed:
                unstable.append(text.replace("%", " %"))
    for limit, share in conditions.throttled.items():
        if share >= THROTTLED:
            reserved.append(f"{limit} limit {_percent(share)} of the time")
    company = f"{conditions.others or 'some'} other processes on the GPU"
    if conditions.busy:
        unstable.append(f"{company}, which kept it busy {_percent(conditions.busy)} of the time")
    elif conditions.others:
        reserved.append(company)
    figures = [None] * 3 if spread is None else [float(f"{f:.3g}") for f in spread.figures]
    return Grade(
        letter="C" if unstable else "B" if reserved else "A",
        noise=figures[0],
        drift=figures[1],
        stray=figures[2],
        throttled={k: float(f"{v:.3g}") for k, v in conditions.throttled.items()},
        others=conditions.others,
        busy=conditions.busy,
        tries=tries,
        reasons=unstable + reserved,
    )


def _percent(share: float) -> str:
    return f"{share:.0%}".replace("%", " %")
