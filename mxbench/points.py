"""From records to a contest's points: gates, function points, and what each rank would be worth.

Pure. What a rule leaves open is decided by its file, whose `ambiguities` are shown with the result.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .record import Record
from .rules import ContestRule, Score
from .score import Tally, tally

SUITE = "functional"


@dataclass(frozen=True)
class Standing:
    """How one operator's kernel stands before the ranking."""

    op: str
    part: str
    """`preliminary` (a bonus) or `final` (weighted)."""
    kernel: str
    tally: Tally
    pass_rate: float
    """What the rule's gate asks for."""
    mean: float | None
    """Milliseconds: the rule's aggregate of the cases' means; None unless every case is timed."""
    baseline: float | None
    """The same of the kernel that must be beaten."""
    must_beat: str | None
    most: float
    """Function points of who passes every case."""
    ranks: tuple[float, ...]
    """Points for rank 1, 2, ..."""

    @property
    def enough_pass(self) -> bool:
        return self.tally.total > 0 and self.tally.share >= self.pass_rate

    @property
    def function(self) -> float:
        """Function points: pro rata of the cases passed; 0 below the gate."""
        return self.most * self.tally.share if self.enough_pass else 0.0

    @property
    def faster(self) -> bool | None:
        """Whether it beats the baseline; None if that is not asked or not measured."""
        if self.must_beat is None or self.mean is None or self.baseline is None:
            return None
        return self.mean < self.baseline

    @property
    def through(self) -> bool:
        """Whether the gate is known to be passed."""
        return self.enough_pass and (self.must_beat is None or self.faster is True)

    def performance(self, rank: int) -> float:
        """Points for a rank; those below the table earn none, and so does who fails the gate."""
        if not self.through or rank > len(self.ranks):
            return 0.0
        return self.ranks[rank - 1]


def standing(
    rule: ContestRule,
    op: str,
    score: Score,
    records: Sequence[Record],
    timed: Sequence[Record],
    kernel: str,
    cases: int,
) -> Standing:
    """How `kernel` of operator `op` stands.

    Args:
        records: the newest of each (case, kernel), of one device: the verdicts.
        timed: the newest of those with a time.
        cases: how many cases the functional suite has; those without a record did not pass.
    """

    def of(name: str | None, among: Sequence[Record]) -> list[Record]:
        return [r for r in among if (r.op, r.suite, r.kernel) == (op, SUITE, name)]

    counted = tally(of(kernel, records), cases)
    other = rule.gate.faster_than
    return Standing(
        op=op,
        part=score.part,
        kernel=kernel,
        tally=counted,
        pass_rate=rule.gate.pass_rate,
        mean=_aggregate(rule, of(kernel, timed), cases),
        baseline=_aggregate(rule, of(other, timed), cases),
        must_beat=other,
        most=score.function,
        ranks=score.ranks,
    )


def _aggregate(rule: ContestRule, records: Sequence[Record], cases: int) -> float | None:
    """Over the cases' means under this rule; None unless there is one of every case."""
    means = [r.timing.mean for r in records if r.timing is not None and r.rule == rule.name]
    if not means or len(means) < cases:
        return None
    return statistics.fmean(means) if rule.aggregate == "mean" else statistics.median(means)


@dataclass(frozen=True)
class Total:
    """Points of one choice of ranks."""

    technical: float
    """The better of the final's operators, before the weight."""
    best: str | None
    """Which operator that is."""
    bonus: float
    """The preliminary's points, which are not weighted."""
    points: float


def total(rule: ContestRule, standings: Sequence[Standing], ranks: Mapping[str, int]) -> Total:
    """Points under these ranks, by operator; an operator without a rank earns function points only.

    Of the final's operators one counts: the better.
    """

    def points(s: Standing) -> float:
        return s.function + (s.performance(ranks[s.op]) if s.op in ranks else 0.0)

    final = [s for s in standings if s.part == "final"]
    best = max(final, key=points, default=None)
    technical = points(best) if best else 0.0
    bonus = sum(points(s) for s in standings if s.part != "final")
    return Total(
        technical=technical,
        best=best.op if best else None,
        bonus=bonus,
        points=rule.technical_weight * technical + bonus,
    )


def choices(ranks: Mapping[str, Sequence[int]]) -> list[dict[str, int]]:
    """Every combination of the ranks supposed for each operator, best ranks first."""
    return [dict(zip(ranks, one, strict=True)) for one in itertools.product(*ranks.values())]


def overtakes(rival: Standing, favourite: Standing, favourite_rank: int) -> int | None:
    """The worst rank at which `rival` still earns more than `favourite` does at its rank."""
    mark = favourite.function + favourite.performance(favourite_rank)
    better = [
        rank
        for rank in range(1, len(rival.ranks) + 1)
        if rival.function + rival.performance(rank) > mark
    ]
    return max(better, default=None)
