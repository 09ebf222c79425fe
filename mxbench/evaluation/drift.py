"""Does a machine's baseline drift? Pure: baseline times in, deviations out.

All hand-ins are timed beside one baseline. What it takes on one machine, set against what it takes
on the others, says whether that machine can be trusted at the time: it throttles, or somebody else
uses it. The ratio to the baseline survives that better than the time does, but the time is ranked.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping

from ..record import Record
from ..stats import geometric_mean

LEAST = 3
"""Results of an operator before anything can be said of one."""
Times = Mapping[str, float]
"""Case id -> milliseconds."""


def baseline_times(records: tuple[Record, ...], baseline: str) -> dict[str, float]:
    """Milliseconds of the baseline by case."""
    return {r.id: r.timing.mean for r in records if r.kernel == baseline and r.timing is not None}


def ratios(records: tuple[Record, ...], baseline: str) -> dict[str, float]:
    """Baseline's time over the hand-in's, by case; only where both have one."""
    base = baseline_times(records, baseline)
    mine = {r.id: r.timing.mean for r in records if r.kernel != baseline and r.timing is not None}
    return {case: base[case] / mine[case] for case in mine if case in base}


class Baselines:
    """The baseline's times of one operator on all machines of one model."""

    def __init__(self) -> None:
        self._by_machine: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        self._results = 0

    def add(self, machine: str, times: Times) -> None:
        """What a finished task took there."""
        if times:
            self._results += 1
        for case, milliseconds in times.items():
            self._by_machine[machine][case].append(milliseconds)

    def remove(self, machine: str, times: Times) -> None:
        """Take back what `add` was told."""
        if times:
            self._results -= 1
        for case, milliseconds in times.items():
            self._by_machine[machine][case].remove(milliseconds)

    def deviation(self, times: Times) -> float | None:
        """Share by which the times are off the usual ones (0.05: 5 % slower); None if unknown.

        Usual is the median of each machine, and of these the median, the lower one of two: what
        goes wrong with a machine makes it slower.
        """
        if self._results < LEAST:
            return None
        found = []
        for case, milliseconds in times.items():
            each = [
                statistics.median(known[case])
                for known in self._by_machine.values()
                if known.get(case)
            ]
            if each:
                found.append(milliseconds / statistics.median_low(each))
        return geometric_mean(found) - 1 if found else None


def spread(means: list[float]) -> float:
    """Largest over smallest, less one: how far the machines are apart."""
    return max(means) / min(means) - 1
