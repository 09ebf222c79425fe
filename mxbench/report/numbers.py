"""Figures as text: significant digits, units, shares. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

ABSENT = "–"


@dataclass(frozen=True)
class Unit:
    """A unit of time; `scale` turns milliseconds into it."""

    name: str
    scale: float

    def text(self, ms: float | None, digits: int = 4) -> str:
        """`ms` in this unit, without the unit's name."""
        return ABSENT if ms is None else significant(ms * self.scale, digits)


MS, US = Unit("ms", 1.0), Unit("µs", 1e3)


def unit_of(times_ms: Sequence[float]) -> Unit:
    """Microseconds if most of the times are below a millisecond, else milliseconds."""
    below = sum(t < 1 for t in times_ms)
    return US if 2 * below > len(times_ms) else MS


def significant(value: float, digits: int = 4) -> str:
    """`value` with so many significant digits and no exponent."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    rounded = float(f"{value:.{digits - 1}e}")
    decimals = digits - 1 - math.floor(math.log10(abs(rounded)))
    return f"{rounded:.{max(0, decimals)}f}"


def time_text(ms: float) -> str:
    """A time with the unit that suits it."""
    unit = US if ms < 1 else MS
    return f"{unit.text(ms)} {unit.name}"


def error_text(value: float) -> str:
    """An error figure, as in `2.31e-04`; an exact zero is `0`."""
    return "0" if value == 0 else f"{value:.2e}"


def percent(share: float) -> str:
    """A share with one decimal: `12.3 %`."""
    return f"{100 * share:.1f} %"


def pass_rate(passed: int, total: int) -> str:
    """Passed of total, rounded down, so that only a full house reads `100.0 %`."""
    tenths = passed * 1000 // total if total else 0
    return f"{tenths // 10}.{tenths % 10} %"


def matched(share: float) -> str:
    """The share of elements within tolerance, rounded down, so that `100 %` means all of them."""
    return "100 %" if share >= 1 else f"{math.floor(share * 1e5) / 1e3:.3f} %"


def ratio(value: float) -> str:
    """A speed-up: `1.53×`."""
    return f"{significant(value, 3)}×"


def amount(value: float, unit: str) -> str:
    """`value` with a decimal prefix: `2.89 TFLOP`, `75.5 MB`."""
    for prefix, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{significant(value / size, 3)} {prefix}{unit}"
    return f"{value:g} {unit}"


def span(low: str, high: str) -> str:
    """`low–high`, or the one value if they are the same."""
    return low if low == high else f"{low}–{high}"


def parameter(value: Any) -> str:
    """A case's parameter as its JSON file would have it."""
    if value is None:
        return ABSENT
    return value if isinstance(value, str) else json.dumps(value)
