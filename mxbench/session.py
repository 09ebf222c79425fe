"""One run from request to records: plan, worker, compile ahead, judge, time, journal. No torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import msgspec

from . import devices, roofline, runs
from .case import Case
from .device import DeviceInfo
from .errors import MxbenchError
from .plan import AUTO, Request, default_suite, make_steps, with_baseline
from .record import Journal, Record, case_fields, read_journal, scrub
from .roofline import Bound, Rates
from .runner import sanitizer
from .runner.ahead import compile_ahead
from .runner.fleet import Fleet, Seat, folder_of
from .runner.limits import default_timeout, reason_to_skip
from .runner.protocol import Outcome
from .runs import Run, Step
from .settings import Settings
from .verdict import Status
from .view import Meter
from .workspace import Workspace

RUN_BUDGETS = 4
"""On a CPU, a whole `perf` run may take this many times the budget of one case."""


class Session:
    """A check in progress. After `run`, or an interruption of it, the attributes tell the rest."""

    def __init__(
        self,
        workspace: Workspace,
        request: Request,
        settings: Settings,
        state: Path,
        given: Sequence[Record] = (),
    ) -> None:
        """`given`: records of another run; what they say of this plan's cases is not redone."""
        self.workspace, self.request, self.settings, self.state = (
            workspace,
            request,
            settings,
            state,
        )
        self._given = given
        self.id = runs.new_id()
        self.log = runs.log_path(state, self.id)
        self.device: DeviceInfo | None = None
        self.steps: list[Step] = []
        self._ahead = 0  # programs compiled ahead
        self._loaded = 0  # programs that the worker compiled or found in the cache
        self.trouble: MxbenchError | None = None
        """Why records could not be written any more."""
        self._done: dict[tuple[str, str], Record] = {}
        self._measured: Rates | None = None
        """Rates of the device, if `mxbench env --measure` has measured them here."""

    @property
    def programs(self) -> int:
        """Different programs compiled for this run, or found in TileLang's cache."""
        return self._ahead or self._loaded

    @property
    def finished(self) -> list[tuple[Step, Record]]:
        """What is done so far, in the order of the plan."""
        return [(step, self._done[step.key]) for step in self.steps if step.key in self._done]

    @property
    def records(self) -> list[Record]:
        """Of what is finished, in the order of the plan."""
        return [record for _, record in self.finished]

    def run(self, meter: Meter, on_record: Callable[[Record], None]) -> None:
        """Do it all.

        Raises:
            MxbenchError: bad input, or an environment that lacks something.
            KeyboardInterrupt: what is finished stays.
        """
        self._check_early()
        with self._fleet() as fleet:
            meter.phase("starting", 1)
            self.device = device = fleet.start()
            if self.settings.sanitize:
                sanitizer.require_nvidia(device)
            self._check_one_device(device, len(fleet.seats))
            self._measured = roofline.load_measured(self.workspace.state, device.name)
            for note in fleet.notes:
                meter.note(f"note: {note}")
            self.steps = self._make_steps(device.kind)
            timeout = self.settings.timeout or default_timeout(device)
            fleet.allow(timeout)
            for kernel in dict.fromkeys(step.kernel for step in self.steps):
                fleet.load(kernel)
            meter.note(self._heading(device, len(fleet.seats)))
            run = self._open_run(device, timeout, meter)
            try:
                self._judge_all(run, fleet, timeout, meter, on_record)
                self._finish(run)
            finally:
                run.close()

    def _check_early(self) -> None:
        """Find what is wrong before the seconds that starting a worker takes."""
        if self.settings.sanitize:
            sanitizer.find()
        Journal(self.state).close()
        (self.state / "runs").mkdir(exist_ok=True)
        target = self.settings.target
        if target != AUTO or self.request.suites:
            self._make_steps("cpu" if target == AUTO else target)

    def _make_steps(self, kind: str) -> list[Step]:
        steps = make_steps(self.workspace, self.request, kind)
        if self.settings.smallest_first:
            steps.sort(key=lambda step: (step.case.work.flops, step.case.footprint))
        timing = self.settings.timing
        if timing is None or timing.baseline is None:
            return steps
        return with_baseline(timing.against or self.workspace, steps, timing.baseline)

    def _fleet(self) -> Fleet:
        timing, target = self.settings.timing, self.settings.target
        folders: dict[Path, Mapping[str, str]] = {self.workspace.kernels: {}}
        if timing is not None and timing.against is not None:
            folders[timing.against.kernels] = timing.environ
        seen = devices.visible(self.settings.devices, target)
        return Fleet([Seat(folders, target, self.log, one) for one in seen])

    def _check_one_device(self, device: DeviceInfo, workers: int) -> None:
        """What must have a device for itself: the cores of a CPU, and the sanitizer's process."""
        if self.settings.timing is not None:
            devices.require_apart(device.kind, workers, "perf")
        if workers > 1 and self.settings.sanitize:
            raise MxbenchError(
                "the sanitizer runs on the first device only", "leave --devices or --sanitize out"
            )

    def _heading(self, device: DeviceInfo, workers: int) -> str:
        served = dict.fromkeys(
            f"{step.case.op} {step.case.contract}: {step.kernel.name}" for step in self.steps
        )
        where = f"{device.name} ({device.kind})"
        if workers > 1:
            where = f"{workers} {'workers' if device.kind == 'cpu' else 'devices'}, {where}"
        return f"{where}, {len(self.steps)} cases; {', '.join(served)}"

    def _open_run(self, device: DeviceInfo, timeout: float, meter: Meter) -> Run:
        """A new run, or the interrupted one of the same plan."""
        _, damaged = read_journal(self.state / "journal.jsonl")
        for message in damaged:
            meter.note(f"note: {message}")
        timing = self.settings.timing
        decisive = [device.kind, device.name, device.env, timeout, self.settings.precision]
        if self.settings.repeats:
            decisive.append(self.settings.repeats)
        if self.settings.sanitize:
            decisive.append("sanitize")
        if timing is not None:
            decisive += [timing.rule, timing.mode, timing.extras, timing.budget]
        plan = runs.plan_hash(self.steps, {"settings": msgspec.to_builtins(decisive)})
        earlier = None if self.settings.fresh else runs.resume(self.state, plan)
        if earlier is not None:
            self.id = earlier.id
            self._done = {(r.id, r.kernel): r for r in earlier.resumed}
            count = len(earlier.resumed)
            meter.note(f"continuing run {self.id}: {count} of {len(self.steps)} cases are done")
            return earlier
        suites = ",".join(self.request.suites or (default_suite(self.request, device.kind),))
        title = f"{'perf' if timing else 'check'} {self.request.op} {suites}"
        self._done = self._taken(device)
        header = runs.header(self.id, title, plan, len(self.steps), device.kind, device.name)
        return runs.start(self.state, header)

    def _taken(self, device: DeviceInfo) -> dict[tuple[str, str], Record]:
        """Of the records given, those of this plan, these sources and this device model."""
        timing = self.settings.timing
        here = (timing.rule.name if timing else None, device.name, device.env)
        found = {(r.id, r.kernel): r for r in self._given if (r.rule, r.device, r.env) == here}
        hashes = {step.key: step.kernel.sha for step in self.steps}
        return {key: r for key, r in found.items() if hashes.get(key) == r.kernel_sha}

    def _judge_all(
        self,
        run: Run,
        fleet: Fleet,
        timeout: float,
        meter: Meter,
        on_record: Callable[[Record], None],
    ) -> None:
        device = self.device
        assert device is not None
        pending = [step for step in self.steps if step.key not in self._done]
        skips = {step.key: reason_to_skip(step.case, device, timeout) for step in pending}
        runnable = [step for step in pending if not skips[step.key]]
        self._compile(runnable, device, fleet, meter)
        timing = self.settings.timing
        meter.phase("timing" if timing else "checking", len(self.steps))
        begin = time.monotonic()
        longest = 0.0  # seconds of a case so far

        def ask(seat: Seat, step: Step) -> Outcome:
            nonlocal longest
            meter.at(len(self._done), step.case.id)
            started = time.monotonic()
            skip = skips[step.key] or self._out_of_budget(started - begin, longest)
            if skip:
                return Outcome(status=Status.SKIPPED, reason=skip)
            plan = timing.plan(step.case, device) if timing else None
            settings = self.settings
            outcome = seat.judge(step, settings.precision, plan, settings.repeats)
            if settings.sanitize and outcome.status is Status.PASSED:
                folder = self.workspace.kernels
                outcome = sanitizer.confirm(outcome, step.case, step.kernel, folder)
            longest = max(longest, time.monotonic() - started)
            return outcome

        with closing(fleet.outcomes(pending, ask)) as outcomes:
            for step, outcome in outcomes:
                self._loaded += outcome.programs
                record = self._record(step, outcome)
                self._done[step.key] = record
                self._keep(run, record, meter)
                on_record(record)
                if self.settings.fail_fast and not record.passed and not record.skipped:
                    return

    def _out_of_budget(self, spent: float, longest: float) -> str:
        """Why a CPU should time no further case; empty if one as long as the longest still fits."""
        timing, device = self.settings.timing, self.device
        if timing is None or device is None or device.kind != "cpu":
            return ""
        allowed = RUN_BUDGETS * timing.budget
        if not longest or spent + longest <= allowed:
            return ""
        return (
            f"{spent:.0f} of this run's {allowed:.0f} s on a CPU are spent; "
            f"raise --budget ({timing.budget:g} s)"
        )

    def _compile(self, steps: list[Step], device: DeviceInfo, fleet: Fleet, meter: Meter) -> None:
        meter.phase("compiling", 1)
        begin = time.monotonic()
        for folder in dict.fromkeys(folder_of(step.kernel) for step in steps):
            self._ahead += compile_ahead(
                [step for step in steps if folder_of(step.kernel) == folder],
                folder,
                device,
                fleet.method,
                self.log,
                lambda share, programs: meter.at(share, f"{programs} programs"),
                environ=fleet.environ(folder),
            )
        if self._ahead:
            seconds = time.monotonic() - begin
            meter.note(f"{self._ahead} programs compiled or found in the cache, {seconds:.1f} s")

    def _record(self, step: Step, outcome: Outcome) -> Record:
        device, timing = self.device, self.settings.timing
        assert device is not None
        return Record(
            schema=1,
            run=self.id,
            **case_fields(step.case),
            kernel=step.kernel.name,
            kernel_sha=step.kernel.sha,
            schedule=outcome.schedule,
            target=device.kind,
            device=device.name,
            rule=timing.rule.name if timing else None,
            status=outcome.status,
            strict=outcome.strict,
            errors=outcome.errors,
            timing=outcome.timing,
            bound=self._bound(step.case, outcome),
            env=device.env,
            reason=scrub(outcome.reason),
            precision=self.settings.precision,
            repeats=self.settings.repeats,
            probes=outcome.probes,
            seconds=outcome.seconds,
        )

    def _bound(self, case: Case, outcome: Outcome) -> Bound | None:
        """How fast the device could be; None without a time, on a CPU, or with unknown peaks."""
        device, timing = self.device, self.settings.timing
        if outcome.timing is None or timing is None or device is None or device.kind == "cpu":
            return None
        peaks = roofline.peaks_of(device.name, self._measured)
        if peaks is None:
            return None
        return roofline.bound(case.work, case.dtype, outcome.timing.mean, peaks)

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
        if self.trouble is not None:
            return
        records = list(self._done.values())
        passed, skipped = sum(r.passed for r in records), sum(r.skipped for r in records)
        run.finish(passed, len(records) - passed - skipped, skipped)
