"""A search from request to winners: survey, drop, compile, race, confirm. No torch."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .. import runs, versus
from ..device import DeviceInfo
from ..errors import MxbenchError, nearest
from ..plan import Request, make_steps
from ..roofline import Limits, profile_of
from ..runner.ahead import MAX_PROCESSES, compile_ahead
from ..runner.limits import reason_to_skip
from ..runner.protocol import (
    Build,
    Built,
    Contender,
    Heat,
    KernelRef,
    Lookup,
    Message,
    Probe,
    Probed,
    Survey,
    Surveyed,
)
from ..runner.referee import Referee
from ..runner.workshop import Workshop
from ..runs import Step
from ..verdict import Status
from ..versus import Ratio
from ..workspace import Workspace
from . import classes, fit, space, store
from .classes import ShapeClass, Trial, Winner

SURVEY_LIMIT, PROBE_LIMIT, BUILD_LIMIT = 60.0, 60.0, 120.0  # seconds for one call
HEAT = Heat(blocks=3, slot_ms=1.0, seconds=3.0, mode="graph")
FINAL = Heat(blocks=20, slot_ms=3.0, seconds=8.0, mode="graph")
COMBINED = 6
"""Of the schedules that paid, so many are combined in pairs."""
GAIN = 0.005
"""A winner is faster by more than this, with its whole interval: less is not worth an entry."""
PACKAGE = "mxbench_kernels"


@dataclass(frozen=True)
class Settings:
    """How to search, as the user said it."""

    target: str = "auto"
    programs: str | None = None
    """Glob over program names, such as `mla/hopper/*`."""
    wanted: dict[str, list[object]] = field(default_factory=dict)
    """--try: values of parameters instead of those found."""
    most: int = 48
    """Candidates of a class, combinations apart."""
    budget: float = 180.0
    """Seconds on the device: when they are spent, the final is held with what is known."""
    timeout: float = 20.0
    """Seconds a candidate's call may take."""
    fresh: bool = False


class Search:
    """A search in progress. After `look`, or an interruption, the attributes tell the rest."""

    def __init__(
        self,
        workspace: Workspace,
        request: Request,
        settings: Settings,
        log: Path,
        on_change: Callable[[str], None] = lambda phase: None,
    ) -> None:
        self.workspace, self.request, self.settings = workspace, request, settings
        self.on_change = on_change
        """Called with what is being done whenever something has changed."""
        self.classes: list[ShapeClass] = []
        self.steps: list[Step] = []
        self.notes: list[str] = []
        self.gains: list[tuple[str, Ratio]] = []
        """Of every case of a class with a winner: all winners together over the files'."""
        self._log = log
        self._store: store.Log | None = None
        self._deadline = 0.0
        self._tables = store.tables(workspace.kernels / "common" / "schedules")

    # --- the space ------------------------------------------------------------------------------

    def look(self, workshop: Workshop, device: DeviceInfo, limits: Limits | None) -> None:
        """Find the classes and their candidates, and drop what cannot fit.

        Raises:
            MxbenchError: bad input, or a kernel that looks up no schedule.
        """
        self.on_change("looking up schedules")
        steps = make_steps(self.workspace, self.request, device.kind)
        self.steps = [s for s in steps if not reason_to_skip(s.case, device, float("inf"))]
        if not self.steps:
            raise MxbenchError(
                "no case fits the device's memory", "choose smaller ones with --case"
            )
        requests = [Survey(s.case.encode(), KernelRef.of(s.kernel)) for s in self.steps]
        surveys = []
        for step, answer in zip(self.steps, workshop.map(requests, SURVEY_LIMIT), strict=True):
            surveys.append((step, self._lookups(step, answer)))
        self.classes = classes.group(surveys, self.settings.programs)
        if not self.classes:
            raise self._nothing(surveys)
        for one in self.classes:
            found = space.values(self._tables, device.schedules, one.program, one.default)
            wanted = {
                k: v
                for k, v in self.settings.wanted.items()
                if len(self.classes) == 1 or k in found
            }
            one.values = space.narrowed(found, wanted, one.program)
            one.trials = [Trial(use=u) for u in space.candidates(one.values, self.settings.most)]
        self._check_wanted()
        self._drop(workshop, limits)

    def _lookups(self, step: Step, answer: Message | str) -> list[Lookup]:
        if isinstance(answer, Surveyed) and not answer.problem:
            return answer.lookups
        problem = answer if isinstance(answer, str) else getattr(answer, "problem", "")
        self.notes.append(f"{step.case.id}: left out, {problem}")
        return []

    def _nothing(self, surveys: Sequence[tuple[Step, Sequence[Lookup]]]) -> MxbenchError:
        known = {one.program for _, lookups in surveys for one in lookups}
        if known and self.settings.programs is not None:
            return MxbenchError(
                f"no program matches {self.settings.programs!r}",
                nearest(self.settings.programs, known),
            )
        names = ", ".join(sorted({step.kernel.name for step in self.steps}))
        why = f"; {self.notes[0]}" if self.notes else ""
        return MxbenchError(
            f"kernel {names} looks up no schedule, so there is nothing to tune{why}",
            "take its tile sizes from kernels/common/schedule.py",
        )

    def _check_wanted(self) -> None:
        for name in self.settings.wanted:
            if not any(name in one.values for one in self.classes):
                known = {key for one in self.classes for key in one.values}
                raise MxbenchError(
                    f"--try: no program has a parameter {name!r}", nearest(name, known)
                )

    def _drop(self, workshop: Workshop, limits: Limits | None) -> None:
        """Mark the candidates that do not build, or need more than the device has."""
        self._each(workshop, Probe, PROBE_LIMIT, "looking at candidates", self._on_probe(limits))

    def _on_probe(self, limits: Limits | None) -> Callable[[Trial, Message | str], None]:
        def judge(trial: Trial, answer: Message | str) -> None:
            if isinstance(answer, Probed):
                reasons = [fit.reason(f, limits) for f in answer.footprints] if limits else []
                problem = next(filter(None, reasons), "")
                if answer.problem:
                    problem = f"does not build: {answer.problem}"
            else:
                problem = str(answer)
            if problem:
                trial.fate, trial.reason = "dropped", problem

        return judge

    def _each(
        self,
        workshop: Workshop,
        kind: type[Probe] | type[Build],
        limit: float,
        phase: str,
        judge: Callable[[Trial, Message | str], None],
    ) -> None:
        """Send a request for every waiting trial of every class; `judge` gets the answers."""
        jobs = [(one, trial) for one in self.classes for trial in one.waiting]
        requests = [
            kind(one.lead.case.encode(), KernelRef.of(one.lead.kernel), {one.program: t.use})
            for one, t in jobs
        ]

        def on_answer(number: int, answer: Message | str) -> None:
            judge(jobs[number][1], answer)
            self.on_change(phase)

        self.on_change(phase)
        workshop.map(requests, limit, on_answer)

    # --- the race -------------------------------------------------------------------------------

    def run(self, referee: Referee, workshop: Workshop, device: DeviceInfo, state: Path) -> None:
        """Compile and race everything that `look` has found.

        Raises:
            MxbenchError: the device, or the folder for the log, fails.
            KeyboardInterrupt: what is tried is kept, and the same search goes on from it.
        """
        referee.timeout = self.settings.timeout
        self._store = store.Log(state, self._plan(device), fresh=self.settings.fresh)
        finished = False
        try:
            self._recall()
            self._compile(workshop, referee, device)
            # Seconds on the device begin here: compiling needs none.
            self._deadline = time.monotonic() + self.settings.budget
            for number, one in enumerate(self.classes):
                share = (self._deadline - time.monotonic()) / (len(self.classes) - number)
                self._race(one, referee, workshop, time.monotonic() + share)
            self._confirm(referee)
            finished = True
        finally:
            self._store.close(finished=finished)

    def _plan(self, device: DeviceInfo) -> str:
        content = [(one.key, sorted(space.key(t.use) for t in one.trials)) for one in self.classes]
        return runs.plan_hash(self.steps, {"tune": [content, device.name, device.schedules]})

    def _recall(self) -> None:
        assert self._store is not None
        known = self._store.recall()
        for one in self.classes:
            found = {space.key(t.use): t for t in one.trials}
            for (name, key), trial in known.items():
                if name != one.key:
                    continue
                if key in found:
                    one.trials[one.trials.index(found[key])] = trial
                else:  # a combination
                    one.trials.append(trial)
        if known:
            self.notes.append(f"continuing: {len(known)} candidates were tried before")

    def _compile(self, workshop: Workshop, referee: Referee, device: DeviceInfo) -> None:
        self.on_change("compiling")
        compile_ahead(
            self.steps, self.workspace.kernels, device, referee.method, self._log,
            lambda share, programs: None,
        )  # fmt: skip
        self._build(workshop)

    def _build(self, workshop: Workshop) -> None:
        def judge(trial: Trial, answer: Message | str) -> None:
            problem = answer.problem if isinstance(answer, Built) else str(answer)
            if problem:
                trial.fate, trial.reason = "crashed", f"compiling: {problem}"

        self._each(workshop, Build, BUILD_LIMIT, "compiling", judge)
        for one in self.classes:
            for trial in one.trials:
                if trial.fate == "crashed":
                    self._keep(one, trial)

    def _keep(self, one: ShapeClass, trial: Trial) -> None:
        if self._store is not None:
            self._store.keep(one.key, trial)

    def _race(self, one: ShapeClass, referee: Referee, workshop: Workshop, deadline: float) -> None:
        self._heats(one, referee, deadline)
        joined = space.combined(
            one.default,
            classes.better(one.trials, COMBINED),
            (space.key(t.use) for t in one.trials),
        )
        if joined and time.monotonic() < deadline:
            one.trials += [Trial(use=u) for u in joined[: self.settings.most]]
            self._build(workshop)
            self._heats(one, referee, deadline)
        self._final(one, referee)
        one.decided = True
        self.on_change(f"{one.program}: decided")

    def _heats(self, one: ShapeClass, referee: Referee, deadline: float) -> None:
        """Each candidate against the default, a few blocks: enough to leave the slow ones out."""
        plain = self._contender(one.lead, {})
        for trial in one.waiting:
            if time.monotonic() > deadline:
                self.notes.append(f"{one.program}: out of time, {len(one.waiting)} not tried")
                break
            self.on_change(f"heats: {one.program}")
            mine = self._contender(one.lead, {one.program: trial.use})
            raced = referee.race(one.lead.case, [plain, mine], HEAT)
            if raced.outcomes[0].status is not Status.PASSED and not raced.blocks:
                # With a dead worker both have its outcome; alone, the default shows whose it was.
                alone = referee.race(one.lead.case, [plain], None).outcomes[0]
                if alone.status is not Status.PASSED:
                    self.notes.append(f"{one.lead.case.id}: the default fails: {alone.reason}")
                    return
            outcome = raced.outcomes[1]
            if raced.blocks:
                trial.ratio = versus.ratio(raced.blocks).ratio
                trial.fate = "slow"
            elif outcome.status in (Status.MISMATCH, Status.NON_FINITE, Status.INPUT_MUTATED):
                trial.fate, trial.reason = "wrong", outcome.reason
            else:
                trial.fate, trial.reason = "crashed", f"{outcome.status.value}: {outcome.reason}"
            self._keep(one, trial)

    def _final(self, one: ShapeClass, referee: Referee) -> None:
        """The best of the heats and the default together, on several cases of the class."""
        chosen = classes.finalists(one.trials)
        blocks: dict[str, list[list[tuple[float, float]]]] = {}
        for step in one.finals:
            self.on_change(f"final: {one.program}")
            chosen = [t for t in chosen if self._stands(one, t, step, referee)]
            if not chosen:
                return
            racers = [self._contender(step, {})]
            racers += [self._contender(step, {one.program: t.use}) for t in chosen]
            raced = referee.race(step.case, racers, FINAL)
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
            self._keep(one, trial)
        best, trial = min(ratios, key=lambda pair: pair[0].ratio)
        if best.high < 1 - GAIN:
            one.winner = Winner(trial.use, best)

    def _stands(self, one: ShapeClass, trial: Trial, step: Step, referee: Referee) -> bool:
        """Whether a finalist is right on a case, too; judged alone, so that a crash is its own."""
        mine = self._contender(step, {one.program: trial.use})
        (outcome,) = referee.race(step.case, [mine], None).outcomes
        if outcome.status is Status.PASSED:
            return True
        right = outcome.status in (Status.MISMATCH, Status.NON_FINITE, Status.INPUT_MUTATED)
        trial.fate, trial.reason = "wrong" if right else "crashed", outcome.reason
        self._keep(one, trial)
        return False

    def _contender(self, step: Step, overrides: dict[str, space.Schedule]) -> Contender:
        return Contender(
            kernel=KernelRef.of(step.kernel),
            folder=str(self.workspace.kernels),
            package=PACKAGE,
            overrides=overrides,
        )

    def _confirm(self, referee: Referee) -> None:
        """All winners together over the files' schedules: they were found one by one."""
        won = [one for one in self.classes if one.winner is not None]
        together: dict[str, tuple[Step, dict[str, space.Schedule]]] = {}
        for one in won:
            assert one.winner is not None
            for step in one.finals:
                _, overrides = together.setdefault(step.case.id, (step, {}))
                overrides[one.program] = one.winner.use
        for step, overrides in together.values():
            self.on_change("all winners together")
            racers = [self._contender(step, {}), self._contender(step, overrides)]
            raced = referee.race(step.case, racers, FINAL)
            if not raced.blocks:
                reason = next(o.reason for o in raced.outcomes if o.status is not Status.PASSED)
                raise MxbenchError(
                    f"{step.case.id} fails with all winners together: {reason}",
                    "tune one program at a time with --program",
                )
            self.gains.append((step.case.id, versus.ratio(raced.blocks)))


def limits_of(device: DeviceInfo) -> Limits | None:
    """What a block may use on a device; None for a CPU, or a GPU that has no profile."""
    profile = profile_of(device.name) if device.kind != "cpu" else None
    return profile.limits if profile else None


def processes() -> int:
    """How many compile at the same time."""
    return max(1, min(len(os.sched_getaffinity(0)), MAX_PROCESSES))
