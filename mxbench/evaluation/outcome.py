"""From an evaluation's results to the organiser's table, and how far machines are apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from .. import ranking
from ..case import load_suite
from ..contest import Contest, HandIn
from ..ranking import Table, Unranked
from ..rules import ContestRule
from ..stats import geometric_mean
from ..workspace import Workspace
from . import drift
from .ledger import Entry, Ledger
from .messages import Work

Shown = tuple[Contest, list[Table], list[Unranked]]


def rank(
    here: Workspace,
    law: ContestRule,
    kept: Ledger,
    results: Mapping[Work, Entry],
    suites: Mapping[str, tuple[str, str]],
    *,
    cpu: bool,
    refuse_banned: bool,
) -> list[Shown]:
    """The table of each operator, as `mxbench rank` makes it.

    Args:
        suites: by operator, the suite of the gate and the one whose times are ranked.
        cpu: whether it was measured on a CPU.
        refuse_banned: whether what the lint found keeps a hand-in from being ranked.
    """
    shown = []
    for op, (gate, suite) in suites.items():
        contest = Contest(
            law, op, load_suite(here, op, gate).cases, load_suite(here, op, suite).cases, cpu=cpu
        )
        entries = [
            HandIn(work.hand_in, kept.records(work), {}, _faults(line, refuse_banned))
            for work, line in sorted(results.items())
            if work.op == op and not work.replica and _takes_part(line, len(suites))
        ]
        shown.append((contest, ranking.rank(contest, entries), ranking.missing(contest, entries)))
    return shown


def _takes_part(line: Entry, operators: int) -> bool:
    """Nobody must hand in every operator; the only one that is asked for is missed."""
    return line.status != "absent" or operators == 1


def empty(results: Mapping[Work, Entry]) -> list[str]:
    """Hand-ins without any of the operators asked for."""
    names = {work.hand_in for work in results}
    return sorted(names - {w.hand_in for w, line in results.items() if line.status != "absent"})


def _faults(line: Entry, refuse_banned: bool) -> tuple[str, ...]:
    faults = [] if line.status == "finished" else [f"{line.status}: {line.reason}"]
    if refuse_banned:
        faults += [f"banned: {offence}" for offence in line.lint[:3]]
    return tuple(faults)


@dataclass(frozen=True)
class Apart:
    """One hand-in's operator on several machines."""

    hand_in: str
    op: str
    machines: tuple[str, ...]
    speedups: tuple[float, ...]
    """Geometric mean over the cases of baseline time / time, by machine."""
    baseline: float
    """Largest over smallest baseline time of the machines, less one."""

    @property
    def ratio(self) -> float:
        """Largest over smallest speed-up, less one."""
        return drift.spread(list(self.speedups))


def apart(results: Mapping[Work, Entry]) -> list[Apart]:
    """How far the machines are apart, for every hand-in that ran on several (`--repeat-on`)."""
    groups: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for work, line in sorted(results.items()):
        if line.ratios:
            groups[work.hand_in, work.op].append(line)
    found = []
    for (hand_in, op), lines in groups.items():
        common = set.intersection(*(set(line.ratios) & set(line.baseline) for line in lines))
        if len(lines) > 1 and common:
            base = [geometric_mean([line.baseline[c] for c in common]) for line in lines]
            ratios = [geometric_mean([line.ratios[c] for c in common]) for line in lines]
            machines = tuple(line.machine for line in lines)
            found.append(Apart(hand_in, op, machines, tuple(ratios), drift.spread(base)))
    return found
