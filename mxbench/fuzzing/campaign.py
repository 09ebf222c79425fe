"""Judge drawn cases until one fails, shrink it, and go on with what is left of the runs."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, Phase, Verbosity, errors, given, settings
from hypothesis import seed as seeded

from ..case import Case
from ..runner.protocol import Outcome
from ..verdict import JUDGED, Status

Judge = Callable[[Case, str], Outcome]
"""(case, precision of the golden) -> its outcome."""

MOST_FOUND = 5  # different faults after which a campaign ends
MOST_SHRINKS = 500  # cases tried to make a failing one smaller...
SHRINK_SECONDS = 60.0  # ...within this time
OWN_INPUTS = "in mxbench's own inputs: ValueError"  # parameters without such inputs (all ties)


@dataclass(frozen=True)
class Finding:
    """The smallest case with some fault."""

    case: Case
    outcome: Outcome
    first: Case
    """The case that showed the fault first."""
    shrinks: int
    """Cases tried on the way from `first` to `case`."""
    steady: bool = True
    """Whether it failed again when it was run again."""


@dataclass
class Tally:
    """What became of the cases of a campaign, shrinking left out."""

    runs: int = 0
    passed: int = 0
    not_served: int = 0
    """The kernel says that it does not implement the case."""
    undrawable: int = 0
    """There are no such inputs."""
    skipped: int = 0
    """More than the device holds."""
    golden: int = 0
    """Off from the fp32 golden but not from the fp64 one."""
    known: int = 0
    """Failed as an earlier, already shrunk one."""
    contracts: dict[str, int] = field(default_factory=dict)
    """Cases by contract."""
    interrupted: bool = False
    """Whether Ctrl-C ended it; what was judged until then counts."""


class _Failed(Exception):
    """Tells hypothesis that a case shows the fault."""


@dataclass
class _Hunt:
    """One run of hypothesis, up to the first new fault and its smallest case."""

    judge: Judge
    tally: Tally
    known: set[str]
    on_case: Callable[[int], None]
    deadline: float = float("inf")
    """Of the monotonic clock; afterwards no new case is judged."""
    fault: str = ""
    first: Case | None = None
    smallest: tuple[Case, Outcome] | None = None
    shrinks: int = 0
    shrink_until: float = float("inf")

    def look(self, case: Case) -> None:
        """Judge one case; raises _Failed if it shows the fault that is hunted, or a new one."""
        if self.first is None and time.monotonic() > self.deadline:
            return
        if self.smallest is not None and case != self.smallest[0]:
            self.shrinks += 1
            if self.shrinks > MOST_SHRINKS or time.monotonic() > self.shrink_until:
                return
        outcome, fault = self._judged(case)
        if self.first is None:
            self.tally.runs += 1
            counts = self.tally.contracts
            counts[case.contract] = counts.get(case.contract, 0) + 1
            self.on_case(self.tally.runs)
            _count(self.tally, outcome, fault, fault in self.known)
        if not fault or fault in self.known or (self.fault and fault != self.fault):
            return
        if self.first is None:
            self.fault, self.first = fault, case
            self.shrink_until = time.monotonic() + SHRINK_SECONDS
        self.smallest = case, outcome
        raise _Failed

    def _judged(self, case: Case) -> tuple[Outcome, str]:
        """The outcome, and the fault it shows; confirmed in fp64 if it is a matter of numbers."""
        outcome = self.judge(case, "fp32")
        fault = fault_of(case, outcome)
        if fault and outcome.status in JUDGED:
            again = self.judge(case, "fp64")
            if not fault_of(case, again):
                return again, "golden"
            return again, fault_of(case, again)
        return outcome, fault


def fault_of(case: Case, outcome: Outcome) -> str:
    """What a failing outcome has in common with others of the same cause; empty if it is none.

    Of a judged one the strict verdict counts: the official tolerance is absolute, and so means
    nothing at scales that a contest never uses.
    """
    status, strict = outcome.status, outcome.strict
    if strict is Status.PASSED:
        return ""
    if status in (Status.NOT_IMPLEMENTED, Status.SKIPPED) or outcome.reason.startswith(OWN_INPUTS):
        return ""
    parts = [case.contract, (strict or status).value]
    if status not in JUDGED:
        parts.append(re.sub(r"[\d.]+", "#", outcome.reason)[:80])
    return " ".join(parts)


def _count(tally: Tally, outcome: Outcome, fault: str, known: bool) -> None:
    tally.passed += outcome.strict is Status.PASSED and not fault
    tally.not_served += outcome.status is Status.NOT_IMPLEMENTED
    tally.skipped += outcome.status is Status.SKIPPED
    tally.undrawable += outcome.reason.startswith(OWN_INPUTS)
    tally.golden += fault == "golden"
    tally.known += known and fault != "golden"


def run(
    strategy: Any,
    judge: Judge,
    runs: int,
    seed: int,
    on_case: Callable[[int], None],
    budget: float = float("inf"),
    expect: Callable[[Sequence[Case]], None] | None = None,
) -> tuple[Tally, list[Finding]]:
    """Judge `runs` drawn cases; each different fault is shrunk once. Ctrl-C ends it early.

    Args:
        on_case: called with the number of cases so far.
        budget: seconds after which no new case is judged.
        expect: called with the cases that come next if none of them fails.
    """
    deadline = time.monotonic() + budget
    tally = Tally()
    found: list[Finding] = []
    known = {"golden"}
    while tally.runs < runs and len(found) < MOST_FOUND and not tally.interrupted:
        before = tally.runs
        hunt = _Hunt(judge, tally, known, on_case, deadline)
        left, its_seed = runs - tally.runs, seed + len(found)
        steady = True
        try:
            if expect is not None:
                expect(drawn(strategy, left, its_seed))
            steady = _hypothesis(strategy, hunt.look, left, its_seed)
        except KeyboardInterrupt:
            tally.interrupted = True
        if hunt.smallest is not None and hunt.first is not None:
            found.append(Finding(*hunt.smallest, hunt.first, hunt.shrinks, steady))
            known.add(hunt.fault)
        elif tally.runs == before:
            break  # the space has no more cases than were drawn
    return tally, found


def drawn(strategy: Any, runs: int, seed: int) -> list[Case]:
    """The cases that `run` is going to judge if none fails."""
    cases: list[Case] = []
    _hypothesis(strategy, cases.append, runs, seed)
    return cases


def _hypothesis(strategy: Any, look: Callable[[Case], None], runs: int, seed: int) -> bool:
    """Let hypothesis draw and shrink; False if the fault did not show again."""

    @seeded(seed)
    @settings(
        max_examples=runs,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
        report_multiple_bugs=False,
    )
    @given(strategy)
    def property_of(case: Case) -> None:
        look(case)

    try:
        property_of()
    except _Failed:
        return True
    except errors.Flaky:
        return False
    return True
