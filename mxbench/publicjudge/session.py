"""One judging of a submission, from two files to records in the journal. No torch."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from .. import runs
from ..device import DeviceInfo
from ..errors import MxbenchError
from ..ops import contract
from ..record import Journal, Record, WorkDone, scrub
from ..runner.limits import CPU_FLOPS, GIB
from ..runs import Run
from ..verdict import Status
from ..view import Meter
from ..workspace import Workspace
from .driver import Driver
from .folder import ProblemFolder, SubmissionFile
from .messages import Judged, ProblemCase, ProblemOpened, ProblemOutcome, points
from .signature import recognise

TIMEOUT = 300.0
"""Seconds for one call of anybody's code: the first call of a submission compiles."""
BYTES = 2  # of an element, for the estimate before anything is drawn
COPIES = 4  # of an output: as drawn, of the baseline, of the submission, for the check


@dataclass(frozen=True)
class Settings:
    """How to judge, as the user said it."""

    target: str = "auto"
    timeout: float = TIMEOUT
    budget: float = 20.0
    """Seconds for timing one case on a CPU."""
    numbers: tuple[int, ...] = ()
    """The cases to judge; empty for all."""
    timed: bool = True
    fresh: bool = False


@dataclass
class Judging:
    """A judging in progress. After `run`, or an interruption of it, the fields tell the rest."""

    workspace: Workspace
    problem: ProblemFolder
    submission: SubmissionFile
    settings: Settings
    state: Path
    id: str = field(default_factory=runs.new_id)
    device: DeviceInfo | None = None
    opened: ProblemOpened | None = None
    cases: list[ProblemCase] = field(default_factory=list)
    trouble: MxbenchError | None = None
    """Why records could not be written any more."""
    _done: dict[int, Record] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        """Where the worker's output goes."""
        return runs.log_path(self.state, self.id)

    @property
    def records(self) -> list[Record]:
        """What is done so far, in the problem's order."""
        return [self._done[case.number] for case in self.cases if case.number in self._done]

    def run(self, meter: Meter, on_record: Callable[[Record], None]) -> None:
        """Do it all.

        Raises:
            MxbenchError: bad input, or an environment that lacks something.
            KeyboardInterrupt: what is finished stays.
        """
        Journal(self.state).close()
        (self.state / "runs").mkdir(exist_ok=True)
        settings = self.settings
        with Driver(self.workspace.kernels, settings.target, self.log, settings.timeout) as driver:
            meter.phase("starting", 1)
            self.device = device = driver.start()
            self.opened = driver.open(self.problem, self.submission)
            self.cases = chosen(self.opened.cases, settings.numbers)
            for note in (*driver.notes, *self.opened.notes, *self._room(device)):
                meter.note(f"note: {note}")
            meter.note(
                f"{device.name} ({device.kind}), problem {self.problem.path.name}: "
                f"{len(self.cases)} cases; submission {self.submission.path.name}"
            )
            run = self._open_run(device, meter)
            try:
                self._judge_all(run, driver, meter, on_record)
                self._finish(run)
            finally:
                run.close()

    def _room(self, device: DeviceInfo) -> list[str]:
        """A note if the device is smaller than the one that the problem is made for."""
        assert self.opened is not None
        wanted = self.opened.vram
        if wanted is None or wanted * 1e9 <= device.memory:
            return []
        return [
            f"the problem is made for {wanted:g} GB, {device.name} has {device.memory / 1e9:.0f}"
        ]

    def _open_run(self, device: DeviceInfo, meter: Meter) -> Run:
        """A new run, or the interrupted one of the same files and settings."""
        decisive = [
            self.problem.sha, self.submission.sha, self.submission.name, self.problem.slug,
            device.kind, device.name, device.env, self.settings.timeout, self.settings.budget,
            self.settings.timed, [case.number for case in self.cases],
        ]  # fmt: skip
        data = msgspec.json.encode(decisive, order="deterministic")
        plan = hashlib.sha256(data).hexdigest()[:16]
        earlier = None if self.settings.fresh else runs.resume(self.state, plan)
        if earlier is not None:
            self.id = earlier.id
            self._done = {r.judged.number: r for r in earlier.resumed if r.judged is not None}
            count = len(self._done)
            meter.note(f"continuing run {self.id}: {count} of {len(self.cases)} cases are done")
            return earlier
        title = f"judge {self.problem.slug} {self.submission.name}"
        header = runs.header(self.id, title, plan, len(self.cases), device.kind, device.name)
        return runs.start(self.state, header)

    def _judge_all(
        self, run: Run, driver: Driver, meter: Meter, on_record: Callable[[Record], None]
    ) -> None:
        assert self.device is not None and self.opened is not None
        settings = self.settings
        meter.phase("judging", len(self.cases))
        for case in self.cases:
            if case.number in self._done:
                continue
            meter.at(len(self._done), f"case {case.number}")
            skip = reason_to_skip(case, self.opened.classes, self.device, settings.timeout)
            if skip:
                outcome = ProblemOutcome(status=Status.SKIPPED, reason=skip)
            else:
                outcome = driver.run(
                    self.problem, self.submission, case.number, settings.budget, settings.timed
                )
            record = self._record(case, outcome)
            self._done[case.number] = record
            self._keep(run, record, meter)
            on_record(record)

    def _keep(self, run: Run, record: Record, meter: Meter) -> None:
        """Write the record; on a full disk go on without, so that no result is lost unseen."""
        if self.trouble is not None:
            return
        try:
            run.journal.append(record)
        except MxbenchError as error:
            self.trouble = error
            meter.note(f"warning: {error.message}; going on without writing")

    def _finish(self, run: Run) -> None:
        if self.trouble is None:
            passed = sum(r.passed for r in self.records)
            skipped = sum(r.skipped for r in self.records)
            run.finish(passed, len(self.records) - passed - skipped, skipped)

    def _record(self, case: ProblemCase, outcome: ProblemOutcome) -> Record:
        assert self.device is not None
        score = None
        if outcome.timing is not None and outcome.baseline is not None:
            score = round(points(outcome.timing.mean, outcome.baseline.mean), 4)
        elif outcome.status not in (Status.PASSED, Status.SKIPPED):
            score = 0.0
        return Record(
            schema=1,
            run=self.id,
            **self._identity(case, outcome),
            suite=f"problem-{self.problem.slug}",
            seed=0,
            kernel=self.submission.name,
            kernel_sha=self.submission.sha,
            target=self.device.kind,
            device=self.device.name,
            status=outcome.status,
            strict=outcome.strict,
            errors=outcome.errors,
            timing=outcome.timing,
            env=self.device.env,
            reason=scrub(outcome.reason),
            seconds=outcome.seconds,
            judged=Judged(
                number=case.number,
                baseline=outcome.baseline,
                points=score,
                said=outcome.said,
                notes=outcome.notes,
            ),
        )

    def _identity(self, case: ProblemCase, outcome: ProblemOutcome) -> dict[str, Any]:
        """Operator, contract, parameters and work: mxbench's own where it knows the operator."""
        known = outcome.known
        if known is not None:
            spec = contract(known.op, known.contract)
            params = msgspec.convert(known.params, spec.params)
            work = spec.work(params)
            return {
                "op": known.op,
                "contract": known.contract,
                "case": f"{case.number}-{params.label()}",
                "params": known.params,
                "dtype": known.dtype,
                "work": WorkDone(work.flops, work.bytes),
            }
        shaped = recognise(case.shapes)
        return {
            "op": shaped.signature.op if shaped else self.problem.slug,
            "contract": shaped.signature.contract if shaped else "run_kernel",
            "case": f"{case.number}-{label(case)}",
            "params": {"sizes": case.sizes},
            "dtype": outcome.dtype or "unknown",
            "work": WorkDone(int(case.flops or 0), int(case.bytes or 0)),
        }


def label(case: ProblemCase) -> str:
    """The tensors' shapes, shortened: `6400x1792,6400x1792,...`."""
    shapes = ["x".join(map(str, size)) for size in case.sizes if size]
    shown = ",".join(shapes[:3])
    return f"{shown},..." if len(shapes) > 3 else shown or "scalars"


def chosen(cases: Sequence[ProblemCase], numbers: tuple[int, ...]) -> list[ProblemCase]:
    """The cases of these numbers, all if there are none; MxbenchError for one there is not."""
    known = [case.number for case in cases]
    for number in numbers:
        if number not in known:
            raise MxbenchError(
                f"the problem has no case {number}", f"it has {known[0]} to {known[-1]}"
            )
    return [case for case in cases if not numbers or case.number in numbers]


def reason_to_skip(
    case: ProblemCase, classes: Sequence[str], device: DeviceInfo, timeout: float
) -> str:
    """Why this device should not try the case; empty if it should."""
    needed = BYTES * sum(
        math.prod(size) * (1 if kind == "INPUT" else COPIES)
        for size, kind in zip(case.sizes, classes, strict=True)
        if size
    )
    if needed > device.free:
        return (
            f"its arguments need about {needed / GIB:.1f} GiB; "
            f"the device has {device.free / GIB:.1f} GiB free"
        )
    if device.kind == "cpu" and case.flops is not None:
        seconds = case.flops / CPU_FLOPS
        if seconds > timeout:
            return f"about {seconds:.0f} s on this CPU; raise --timeout ({timeout:g} s) to try"
    return ""


@dataclass(frozen=True)
class Summary:
    """The problem as a whole."""

    cases: int
    passed: int
    strict: int
    """Passed cases that pass mxbench's strict verdict too."""
    unknown: int
    """Passed cases without a strict verdict."""
    failed: int
    skipped: int
    score: float | None
    """Mean points of the cases with points: those timed, and the failed ones with 0."""
    scored: int


def summarise(records: Sequence[Record]) -> Summary:
    """Counts and the mean score. A skipped case has no points, and counts as no pass."""
    passed = [r for r in records if r.passed]
    scores = [r.judged.points for r in records if r.judged and r.judged.points is not None]
    skipped = sum(r.skipped for r in records)
    return Summary(
        cases=len(records),
        passed=len(passed),
        strict=sum(r.strict is Status.PASSED for r in passed),
        unknown=sum(r.strict is None for r in passed),
        failed=len(records) - len(passed) - skipped,
        skipped=skipped,
        score=sum(scores) / len(scores) if scores else None,
        scored=len(scores),
    )
