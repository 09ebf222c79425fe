"""From many hand-ins' journals to the organiser's table. Pure: records in, places out.

A hand-in is ranked only where its journal adds up: every case of the suites, as the suite files
give them, under the rule's counts, of one source. What was measured on another device, another
slice of one, or under another rule stands in a table of its own.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from . import auditing
from .auditing import newest
from .case import Case
from .contest import Contest, HandIn, Where
from .points import Standing
from .record import Record
from .rules import ContestRule
from .score import Tally, tally
from .stats import geometric_mean

__all__ = ["Contest", "HandIn", "Place", "Table", "Unranked", "Where", "missing", "rank"]

GIB = 1 << 30


@dataclass(frozen=True)
class Place:
    """One hand-in's line."""

    hand_in: str
    kernel: str
    standing: Standing
    means: dict[str, float]
    """Milliseconds by case id."""
    speedup: float | None
    """Geometric mean over the cases of baseline time / time."""
    judge: float | None
    """The public judge's mean over the cases of 100 s / (1 + s), s = baseline time / time."""
    rank: int | None
    """None if it fails the gate, or the gate is not known to be passed."""
    points: float
    """Function points, and those of the rank."""
    why: str = ""
    """Why it has no rank."""


@dataclass(frozen=True)
class Unranked:
    """A hand-in whose journal does not add up there."""

    hand_in: str
    faults: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """The hand-ins that were measured alike."""

    where: Where
    places: tuple[Place, ...]
    """Ranked ones first, best first; then those that fail the gate."""
    unranked: tuple[Unranked, ...]


def rank(contest: Contest, hand_ins: Sequence[HandIn]) -> list[Table]:
    """A table for each device, slice and rule; those with the most hand-ins first."""
    groups: dict[Where, list[tuple[HandIn, list[Record]]]] = {}
    for one in hand_ins:
        for where, records in _apart(contest, one).items():
            groups.setdefault(where, []).append((one, records))
    tables = [_table(contest, where, members) for where, members in groups.items()]
    return sorted(tables, key=lambda t: (-len(t.places), str(t.where)))


def missing(contest: Contest, hand_ins: Sequence[HandIn]) -> list[Unranked]:
    """Hand-ins that stand in no table: without a record of the operator."""
    return [
        Unranked(one.name, (*one.faults, f"no record of {contest.op}"))
        for one in hand_ins
        if not any(r.op == contest.op for r in one.records)
    ]


def _apart(contest: Contest, hand_in: HandIn) -> dict[Where, list[Record]]:
    """The operator's records by where they were made.

    `check` knows no rule: its verdicts belong to every rule that was timed on the same device.
    Times under another rule than the contest's matter only where there are none under it.
    """
    mine = [r for r in hand_in.records if r.op == contest.op]
    # Checks on a laptop say nothing where a GPU has been at work, too.
    mine = [r for r in mine if r.target != "cpu"] or mine
    devices: dict[tuple[str, int, int], list[Record]] = {}
    for record in mine:
        key = (record.device, record.env.sms, round(record.env.memory / GIB))
        devices.setdefault(key, []).append(record)
    found = {}
    for (device, sms, gib), records in devices.items():
        rules: dict[str, None] = dict.fromkeys(
            r.rule for r in records if r.timing is not None and r.rule
        )
        if not rules or contest.rule.name in rules:
            rules = {contest.rule.name: None}
        for rule in rules:
            of_rule = [r for r in records if r.timing is None or r.rule == rule]
            cpu = all(r.target == "cpu" for r in records)
            found[Where(device, sms, gib, rule, cpu)] = of_rule
    return found


# --- one hand-in --------------------------------------------------------------------------------


def _table(contest: Contest, where: Where, members: Sequence[tuple[HandIn, list[Record]]]) -> Table:
    places, unranked = [], []
    for hand_in, records in members:
        kernel, faults = _kernel(contest, records)
        faults = [*hand_in.faults, *faults]
        if kernel is not None:
            faults += auditing.faults(contest, where, hand_in, kernel, records)
        if kernel is None or faults:
            unranked.append(Unranked(hand_in.name, tuple(faults)))
        else:
            places.append(_place(contest, hand_in, kernel, records))
    return Table(where, tuple(_ranked(contest.rule, places)), tuple(unranked))


def _kernel(contest: Contest, records: Sequence[Record]) -> tuple[str | None, list[str]]:
    """Whose records count, or why that is not known."""
    names = dict.fromkeys(r.kernel for r in records if r.kernel != contest.rule.gate.faster_than)
    if contest.kernel is not None:
        if contest.kernel in names:
            return contest.kernel, []
        return None, [f"no record of kernel {contest.kernel}"]
    if len(names) == 1:
        return next(iter(names)), []
    if not names:
        return None, ["no record of a kernel but the baseline's"]
    return None, [f"records of several kernels ({', '.join(names)}): say which with --kernel"]


def _place(contest: Contest, hand_in: HandIn, kernel: str, records: Sequence[Record]) -> Place:
    rule = contest.rule
    score = rule.scores.get(contest.op)  # type: ignore[call-overload]  # keys are operators
    mine = newest([r for r in records if r.kernel == kernel])
    counted = [mine[c.id] for c in contest.functional]
    means = _means(contest.ranked, [r for r in records if r.kernel == kernel])
    other = rule.gate.faster_than
    base = _means(contest.ranked, [r for r in records if other and r.kernel == other])
    ratios = [base[i] / means[i] for i in means if i in base]
    complete = len(ratios) == len(contest.ranked)
    standing = Standing(
        op=contest.op,
        part=score.part if score else "",
        kernel=kernel,
        tally=tally(counted),
        pass_rate=rule.gate.pass_rate,
        mean=_aggregate(rule, means, contest.ranked),
        baseline=_aggregate(rule, base, contest.ranked),
        must_beat=other,
        most=score.function if score else 0.0,
        ranks=score.ranks if score else (),
    )
    return Place(
        hand_in=hand_in.name,
        kernel=kernel,
        standing=standing,
        means=means,
        speedup=geometric_mean(ratios) if complete else None,
        judge=statistics.fmean(100 * s / (1 + s) for s in ratios) if complete else None,
        rank=None,
        points=standing.function,
        why=_why(standing),
    )


def _means(cases: Sequence[Case], records: Sequence[Record]) -> dict[str, float]:
    """Milliseconds by case id, of the newest time; a case that failed later on has none."""
    verdicts = newest(records)
    times = newest([r for r in records if r.timing is not None])
    return {
        c.id: times[c.id].timing.mean  # type: ignore[union-attr]  # only those with a timing
        for c in cases
        if c.id in times and verdicts[c.id].passed
    }


def _aggregate(
    rule: ContestRule, means: Mapping[str, float], cases: Sequence[Case]
) -> float | None:
    if not cases or len(means) < len(cases):
        return None
    average = statistics.fmean if rule.aggregate == "mean" else statistics.median
    return average(means.values())


def _why(standing: Standing) -> str:
    """Why a hand-in that adds up is not ranked; empty if it is."""
    counted: Tally = standing.tally
    if not standing.enough_pass:
        return f"gate: {counted.passed} of {counted.total} cases passed"
    if standing.mean is None:
        return "not every ranked case passed"
    if standing.faster is None and standing.must_beat is not None:
        return f"gate: no times of {standing.must_beat} beside"
    if standing.faster is False:
        return f"gate: not faster than {standing.must_beat}"
    return ""


# --- places -------------------------------------------------------------------------------------


def _ranked(rule: ContestRule, places: Sequence[Place]) -> list[Place]:
    """Best first. Equal means share a rank: the better one, or the worse one, as the rule says."""
    through = [(p.standing.mean, p) for p in places if not p.why and p.standing.mean is not None]
    times = [mean for mean, _ in through]
    found = []
    for mean, one in sorted(through, key=lambda pair: (pair[0], pair[1].hand_in)):
        better, alike = sum(t < mean for t in times), times.count(mean)
        place = better + (1 if rule.ties == "better" else alike)
        worth = one.standing.function + one.standing.performance(place)
        found.append(replace(one, rank=place, points=worth))
    return found + sorted((p for p in places if p.why), key=lambda p: p.hand_in)
