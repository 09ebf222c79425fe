"""The race of a shape class: heats that leave the slow behind, a final, and a confirmation."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from .. import versus
from ..errors import MxbenchError
from ..kernel import PACKAGE
from ..runner.protocol import Contender, Heat, KernelRef, Outcome
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


class Racer:
    """Races on one worker, with everything it finds out told to its owner."""

    def __init__(
        self,
        referee: Referee,
        kernels: Path,
        keep: Callable[[ShapeClass, Trial], None],
        on_change: Callable[[str], None],
        notes: list[str],
    ) -> None:
        """
        Args:
            kernels: the workspace's kernels folder.
            keep: called with every trial that is done with.
            on_change: called with what is being done.
            notes: gets what the user should know.
        """
        self.referee, self.kernels, self.keep = referee, kernels, keep
        self.on_change, self.notes = on_change, notes

    def heats(self, one: ShapeClass, deadline: float) -> None:
        """Each candidate against the default, a few blocks: enough to leave the slow ones out."""
        plain = self._contender(one.lead, {})
        for trial in one.waiting:
            if time.monotonic() > deadline:
                self.notes.append(f"{one.program}: out of time, {len(one.waiting)} not tried")
                break
            self.on_change(f"heats: {one.program}")
            mine = self._contender(one.lead, {one.program: trial.use})
            raced = self.referee.race(one.lead.case, [plain, mine], HEAT)
            if raced.outcomes[0].status is not Status.PASSED and not raced.blocks:
                # With a dead worker both have its outcome; alone, the default shows whose it was.
                alone = self.referee.race(one.lead.case, [plain], None).outcomes[0]
                if alone.status is not Status.PASSED:
                    self.notes.append(f"{one.lead.case.id}: the default fails: {alone.reason}")
                    return
            if raced.blocks:
                trial.ratio = versus.ratio(raced.blocks).ratio
                trial.fate = "slow"  # until the final says otherwise
            else:
                _failed(trial, raced.outcomes[1])
            self.keep(one, trial)

    def final(self, one: ShapeClass) -> None:
        """The best of the heats and the default together, on several cases of the class."""
        chosen = classes.finalists(one.trials)
        blocks: dict[str, list[list[tuple[float, float]]]] = {}
        for step in one.finals:
            self.on_change(f"final: {one.program}")
            chosen = [t for t in chosen if self._stands(one, t, step)]
            if not chosen:
                return
            racers = [self._contender(step, {})]
            racers += [self._contender(step, {one.program: t.use}) for t in chosen]
            raced = self.referee.race(step.case, racers, FINAL)
            if not raced.blocks:
                self.notes.append(f"{step.case.id}: no final: {raced.outcomes[0].reason}")
                return
            for number, trial in enumerate(chosen, 1):
                pairs = [(block[0], block[number]) for block in raced.blocks]
                blocks.setdefault(space.key(trial.use), []).append(pairs)
        ratios = []
        for trial in chosen:
            trial.fate = "raced"
            ratios.append((versus.geometric_mean(blocks[space.key(trial.use)]), trial))
            self.keep(one, trial)
        best, trial = min(ratios, key=lambda pair: pair[0].ratio)
        if best.high < 1 - GAIN:
            one.winner = Winner(trial.use, best)

    def _stands(self, one: ShapeClass, trial: Trial, step: Step) -> bool:
        """Whether a finalist is right on a case, too; judged alone, so that a crash is its own."""
        mine = self._contender(step, {one.program: trial.use})
        (outcome,) = self.referee.race(step.case, [mine], None).outcomes
        if outcome.status is Status.PASSED:
            return True
        _failed(trial, outcome)
        self.keep(one, trial)
        return False

    def _contender(self, step: Step, overrides: dict[str, space.Schedule]) -> Contender:
        return Contender(
            kernel=KernelRef.of(step.kernel),
            folder=str(self.kernels),
            package=PACKAGE,
            overrides=overrides,
        )

    def confirm(self, found: Sequence[ShapeClass]) -> list[tuple[str, Ratio]]:
        """All winners together over the files' schedules: they were found one by one."""
        won = [one for one in found if one.winner is not None]
        gains = []
        together: dict[str, tuple[Step, dict[str, space.Schedule]]] = {}
        for one in won:
            assert one.winner is not None
            for step in one.finals:
                _, overrides = together.setdefault(step.case.id, (step, {}))
                overrides[one.program] = one.winner.use
        for step, overrides in together.values():
            self.on_change("all winners together")
            racers = [self._contender(step, {}), self._contender(step, overrides)]
            raced = self.referee.race(step.case, racers, FINAL)
            if not raced.blocks:
                reason = next(o.reason for o in raced.outcomes if o.status is not Status.PASSED)
                raise MxbenchError(
                    f"{step.case.id} fails with all winners together: {reason}",
                    "tune one program at a time with --program",
                )
            gains.append((step.case.id, versus.ratio(raced.blocks)))
        return gains


def _failed(trial: Trial, outcome: Outcome) -> None:
    """Note what kept a trial from being timed."""
    fate: Fate = "wrong" if outcome.status in WRONG else "crashed"
    trial.fate, trial.reason = fate, f"{outcome.status.value}: {outcome.reason}"
