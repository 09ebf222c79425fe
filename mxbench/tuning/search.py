"""A search from request to winners: survey, drop, compile, race, confirm. No torch."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .. import runs
from ..device import DeviceInfo
from ..errors import MxbenchError, nearest
from ..plan import Request, make_steps
from ..roofline import Limits, profile_of
from ..runner.ahead import MAX_PROCESSES, compile_ahead
from ..runner.crew import Crew
from ..runner.limits import reason_to_skip
from ..runner.process import StartMethod
from ..runner.protocol import (
    Build,
    Built,
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
from ..versus import Ratio
from ..workspace import Workspace
from . import classes, fit, space, store
from .classes import ShapeClass, Trial
from .race import Racer

SURVEY_LIMIT, PROBE_LIMIT, BUILD_LIMIT = 60.0, 60.0, 120.0  # seconds for one call
COMBINED = 6
"""Of the schedules that paid, so many are combined in pairs."""


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
    """Seconds of racing: when they are spent, the final is held with what is known."""
    timeout: float = 20.0
    """Seconds a candidate's call may take."""
    devices: str | None = None
    """`--devices`: which GPUs take part."""
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

    def run(self, crew: Crew[Referee], workshop: Workshop, device: DeviceInfo, state: Path) -> None:
        """Compile and race everything that `look` has found.

        Args:
            crew: a referee for each device; all are of the model of `device`.
            workshop: compiles.
            state: folder for the log of what is tried.

        Raises:
            MxbenchError: the device, or the folder for the log, fails.
            KeyboardInterrupt: what is tried is kept, and the same search goes on from it.
        """
        self._store = store.Log(state, self._plan(device), fresh=self.settings.fresh)
        finished = False
        try:
            self._recall()
            self._compile(workshop, crew.method, device)
            # Seconds on the device begin here: compiling needs none.
            kernels = self.workspace.kernels
            racer = Racer(crew, kernels, self._keep, self.on_change, self.notes)
            self._deadline = time.monotonic() + self.settings.budget
            for number, one in enumerate(self.classes):
                share = (self._deadline - time.monotonic()) / (len(self.classes) - number)
                self._race(one, racer, workshop, time.monotonic() + share)
            self.gains = racer.confirm(self.classes)
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

    def _compile(self, workshop: Workshop, method: StartMethod, device: DeviceInfo) -> None:
        self.on_change("compiling")
        compile_ahead(
            self.steps, self.workspace.kernels, device, method, self._log,
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

    def _race(self, one: ShapeClass, racer: Racer, workshop: Workshop, deadline: float) -> None:
        racer.heats(one, deadline)
        joined = space.combined(
            one.default,
            classes.better(one.trials, COMBINED),
            (space.key(t.use) for t in one.trials),
        )
        if joined and time.monotonic() < deadline:
            one.trials += [Trial(use=u) for u in joined[: self.settings.most]]
            self._build(workshop)
            racer.heats(one, deadline)
        racer.final(one)
        one.decided = True
        self.on_change(f"{one.program}: decided")


def limits_of(device: DeviceInfo) -> Limits | None:
    """What a block may use on a device; None for a CPU, or a GPU that has no profile."""
    profile = profile_of(device.name) if device.kind != "cpu" else None
    return profile.limits if profile else None


def processes() -> int:
    """How many compile at the same time."""
    return max(1, min(len(os.sched_getaffinity(0)), MAX_PROCESSES))
