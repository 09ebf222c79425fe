"""The race of a shape class: heats that leave the slow behind, a final, and a confirmation."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import versus
from ..errors import MxbenchError
from ..kernel import PACKAGE
from ..runner.crew import Crew
from ..runner.protocol import Contender, Heat, KernelRef, Outcome, Raced
from ..runner.referee import Referee
from ..runs import Step
from ..verdict import Status
from ..versus import Ratio
from . import classes, space
from .classes import Fate, ShapeClass, Trial, Winner

HEAT = Heat(blocks=3, slot_ms=1.0, seconds=3.0, mode="graph")
FINAL = Heat(blocks=20, slot_ms=3.0, seconds=8.0, mode="graph")
GAIN = 0.005
"""A winner is faster by more than this, with its whole interval: less is not worth an entry."""
WRONG = (Status.MISMATCH, Status.NON_FINITE, Status.INPUT_MUTATED)


@dataclass(frozen=True)
class _Leg:
    """One case of a final."""

    standing: list[Trial]
    """Who was right, and so was raced, in the order of the blocks."""
    fallen: list[tuple[Trial, Outcome]]
    raced: Raced | None
    """None if nobody stood."""


class Racer:
    """Races on one device or several, with everything it finds out told to its owner.

    A candidate meets the default, and whomever it is compared with, on one and the same device.
    """

    def __init__(
        self,
        crew: Crew[Referee],
        kernels: Path,
        keep: Callable[[ShapeClass, Trial], None],
        on_change: Callable[[str], None],
        notes: list[str],
    ) -> None:
        """
        Args:
            crew: a referee for each device.
            kernels: the workspace's kernels folder.
            keep: called with every trial that is done with.
            on_change: called with what is being done.
            notes: gets what the user should know.
        """
        self.crew, self.kernels, self.keep = crew, kernels, keep
        self.on_change, self.notes = on_change, notes

    def heats(self, one: ShapeClass, deadline: float) -> None:
        """Each candidate against the default, a few blocks: enough to leave the slow ones out."""
        plain = self._contender(one.lead, {})
        default_fails: list[str] = []

        def race(referee: Referee, trial: Trial) -> Raced | None:
            if default_fails or time.monotonic() > deadline:
                return None
            mine = self._contender(one.lead, {one.program: trial.use})
            raced = referee.race(one.lead.case, [plain, mine], HEAT)
            if raced.outcomes[0].status is not Status.PASSED and not raced.blocks:
                # With a dead worker both have its outcome; alone, the default shows whose it was.
                alone = referee.race(one.lead.case, [plain], None).outcomes[0]
                if alone.status is not Status.PASSED:
                    default_fails.append(alone.reason)
                    return None
            return raced

        self.on_change(f"heats: {one.program}")
        for trial, raced in self.crew.share([[trial] for trial in one.waiting], race):
            if raced is None:
                continue
            if raced.blocks:
                trial.ratio = versus.ratio(raced.blocks).ratio
                trial.fate = "slow"  # until the final says otherwise
            else:
                _failed(trial, raced.outcomes[1])
            self.keep(one, trial)
            self.on_change(f"heats: {one.program}")
        if default_fails:
            self.notes.append(f"{one.lead.case.id}: the default fails: {default_fails[0]}")
        elif one.waiting:
            self.notes.append(f"{one.program}: out of time, {len(one.waiting)} not tried")

    def final(self, one: ShapeClass) -> None:
        """The best of the heats and the default together, on several cases of the class."""
        chosen = classes.finalists(one.trials)
        fallen: set[str] = set()

        def run(referee: Referee, step: Step) -> _Leg:
            left = [t for t in chosen if space.key(t.use) not in fallen]
            leg = self._leg(referee, one, step, left)
            fallen.update(space.key(t.use) for t, _ in leg.fallen)
            return leg

        self.on_change(f"final: {one.program}")
        legs = []
        for step, leg in self.crew.share([[step] for step in one.finals] if chosen else [], run):
            self.on_change(f"final: {one.program}")
            legs.append(leg)
            for trial, outcome in leg.fallen:
                _failed(trial, outcome)
                self.keep(one, trial)
            if leg.raced is not None and not leg.raced.blocks:
                reason = leg.raced.outcomes[0].reason
                self.notes.append(f"{step.case.id}: no final: {reason}")
        left = [t for t in chosen if space.key(t.use) not in fallen]
        if left and all(leg.raced is not None and leg.raced.blocks for leg in legs):
            self._decide(one, left, legs)

    def _leg(self, referee: Referee, one: ShapeClass, step: Step, chosen: Sequence[Trial]) -> _Leg:
        """Judge each alone, so that a crash is its own, then race those that are right."""
        standing, fallen = [], []
        for trial in chosen:
            mine = self._contender(step, {one.program: trial.use})
            (outcome,) = referee.race(step.case, [mine], None).outcomes
            if outcome.status is Status.PASSED:
                standing.append(trial)
            else:
                fallen.append((trial, outcome))
        if not standing:
            return _Leg([], fallen, None)
        racers = [self._contender(step, {})]
        racers += [self._contender(step, {one.program: t.use}) for t in standing]
        return _Leg(standing, fallen, referee.race(step.case, racers, FINAL))

    def _decide(self, one: ShapeClass, chosen: Sequence[Trial], legs: Sequence[_Leg]) -> None:
        """The winner, if one of those who stood everywhere is surely faster than the default."""
        ratios = []
        for trial in chosen:
            blocks = []
            for leg in legs:
                assert leg.raced is not None
                number = 1 + leg.standing.index(trial)
                blocks.append([(block[0], block[number]) for block in leg.raced.blocks])
            trial.fate = "raced"
            ratios.append((versus.geometric_mean(blocks), trial))
            self.keep(one, trial)
        best, trial = min(ratios, key=lambda pair: pair[0].ratio)
        if best.high < 1 - GAIN:
            one.winner = Winner(trial.use, best)

    def _contender(self, step: Step, overrides: dict[str, space.Schedule]) -> Contender:
        return Contender(
            kernel=KernelRef.of(step.kernel),
            folder=str(self.kernels),
            package=PACKAGE,
            overrides=overrides,
        )

    def confirm(self, found: Sequence[ShapeClass]) -> list[tuple[str, Ratio]]:
        """All winners together over the files' schedules: they were found one by one."""
        together: dict[str, tuple[Step, dict[str, space.Schedule]]] = {}
        for one in found:
            if one.winner is None:
                continue
            for step in one.finals:
                _, overrides = together.setdefault(step.case.id, (step, {}))
                overrides[one.program] = one.winner.use

        def run(referee: Referee, name: str) -> Raced:
            step, overrides = together[name]
            racers = [self._contender(step, {}), self._contender(step, overrides)]
            return referee.race(step.case, racers, FINAL)

        self.on_change("all winners together")
        gains = {}
        for name, raced in self.crew.share([[name] for name in together], run):
            if not raced.blocks:
                reason = next(o.reason for o in raced.outcomes if o.status is not Status.PASSED)
                raise MxbenchError(
                    f"{name} fails with all winners together: {reason}",
                    "tune one program at a time with --program",
                )
            gains[name] = versus.ratio(raced.blocks)
        return [(name, gains[name]) for name in together]


def _failed(trial: Trial, outcome: Outcome) -> None:
    """Note what kept a trial from being timed."""
    fate: Fate = "wrong" if outcome.status in WRONG else "crashed"
    trial.fate, trial.reason = fate, f"{outcome.status.value}: {outcome.reason}"
