"""One case in the worker: draw inputs, call the kernel, look for foul play, compare."""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from .. import kernel as kernels
from .. import reference
from ..case import Case
from ..device import DeviceInfo
from ..kernel import Kernel
from ..measurement import Plan, Timing
from ..record import scrub
from ..reference import mirror
from ..reference.draw import poison
from ..timing import NotCapturable, WorkUnseen
from ..verdict import Status, Verdict
from . import faults, probing, timed
from . import outputs as written
from .driver import Driver
from .fingerprint import Fingerprint
from .integrity import Guard
from .ondevice import OnDevice
from .outputs import Fault
from .protocol import Judge, Outcome, Stage
from .rounds import Rounds
from .subject import Subject, arguments, copied, other_bits

PROBE_LIMIT = 5.0  # seconds; a kernel that takes longer on a CPU is not called a second time


@dataclass
class _Clock:
    """Wall seconds of each stage."""

    enter: Callable[[Stage], None]
    seconds: dict[str, float] = field(default_factory=dict)
    stage: Stage = "inputs"

    @contextlib.contextmanager
    def __call__(self, stage: Stage) -> Iterator[None]:
        self.stage = stage
        self.enter(stage)
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = round(time.perf_counter() - begin, 6)


class _Tampered(Fault):
    """The kernel changed what judges it; this process is not to be trusted any more."""


class Bench(OnDevice):
    """What a worker keeps between cases: the device, the dialect and the loaded kernels."""

    def __init__(self, folder: Path, device: DeviceInfo, enter: Callable[[Stage], None]) -> None:
        super().__init__(device)
        self.folder = folder
        self.enter = enter
        self.dialect = kernels.dialect(folder)
        self.schedules = kernels.schedules(folder)
        self.fingerprint = Fingerprint(device.torch_device)
        self.driver = Driver(_uuid(device))
        self.guard = Guard(device.torch_device)
        self._tampered: dict[Path, str] = {}
        """What kernels did when they were imported."""

    def load_problem(self, kernel: Kernel) -> str:
        """Why the kernel's module does not import; empty if it does."""
        try:
            self._load(kernel)
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            return faults.describe(error, kernel.path.parent)
        return ""

    def _load(self, kernel: Kernel) -> Any:
        module = kernels.load(kernel, self.folder)
        if evidence := self.guard.evidence():
            self._tampered[kernel.path] = evidence
        return module

    def judge(self, request: Judge) -> Outcome:
        """Run one case. Whatever the kernel does short of ending the process is an Outcome."""
        case, kernel = Case.decode(request.case), request.kernel.kernel()
        clock = _Clock(self.enter)
        self.schedules.take_used()
        before = self.dialect.compiled_count()
        tampered = False
        try:
            outcome = self._judge(case, kernel, request, clock)
        except Fault as fault:
            outcome = Outcome(status=fault.status, reason=scrub(fault.reason))
            tampered = isinstance(fault, _Tampered)
        except (Exception, SystemExit) as error:
            outcome = self._failed(error, kernel, clock.stage)
        finally:
            self.free()
        return _with(
            outcome,
            schedule=self.schedules.take_used(),
            seconds=clock.seconds,
            programs=self.dialect.compiled_count() - before,
            poisoned=tampered or self.is_poisoned(),
        )

    def _judge(self, case: Case, kernel: Kernel, request: Judge, clock: _Clock) -> Outcome:
        with clock("inputs"):
            subject = self._subject(case, kernel, request.precision)
        if kernel.uses_dialect:
            with clock("compile"):
                self._compile(subject)
        memory = subject.memory
        late = probing.LateWrites(self.fingerprint, memory)
        with clock("kernel"), torch.no_grad():
            returned = subject.bind(subject.inputs, subject.outputs)()
            hint = written.inspect(subject.outputs, memory, subject.inputs, returned)
            late.returned()
            self.synchronize()
        with clock("golden"):
            self._require_untouched(subject)
            verdict = subject.judge(memory)
            late.settled()
        probes: list[str] = []
        if request.probe and verdict.status is Status.PASSED:
            probes = self._probe(subject, verdict, clock.seconds["kernel"])
        if request.repeats and verdict.status is Status.PASSED:
            self._repeat(subject.bind(subject.inputs, subject.outputs), memory, request.repeats)
        timing = None
        if request.plan is not None and verdict.status is Status.PASSED:
            with clock("timing"):
                timing = self._time(subject, verdict, request.plan, clock.seconds["kernel"] * 1e3)
        return Outcome(
            status=verdict.status,
            strict=verdict.strict,
            errors=verdict.errors,
            timing=timing,
            reason=scrub(verdict.reason) + (hint if verdict.status is Status.NON_FINITE else ""),
            probes=probes,
        )

    def _subject(self, case: Case, kernel: Kernel, precision: str) -> Subject:
        self.free()
        function = kernels.function(self._load(kernel), case.spec)
        if evidence := self._tampered.get(kernel.path):
            raise Fault(Status.INTEGRITY, f"importing it changed what judges it: {evidence}")
        device = self.device.torch_device
        inputs = reference.make_inputs(case, device)
        outputs = reference.make_outputs(case, inputs, device)
        memory = {name: tensor.detach() for name, tensor in outputs.items()}
        prints = self._fingerprints(inputs)
        return Subject(case, kernel, function, inputs, outputs, memory, prints, precision)

    def _require_untouched(self, subject: Subject, when: str = "") -> None:
        """Fault if an input, or something that verdicts and times rest on, was changed."""
        if evidence := self.guard.evidence():
            raise _Tampered(Status.INTEGRITY, f"the call changed what judges it: {evidence}")
        inputs = subject.inputs
        mutated = [n for n, was in subject.prints.items() if self.fingerprint(inputs[n]) != was]
        if mutated:
            names = ", ".join(mutated)
            raise Fault(Status.INPUT_MUTATED, f"the kernel wrote to its input {names}{when}")

    def _probe(self, subject: Subject, verdict: Verdict, seconds: float) -> list[str]:
        """A second call on mirrored inputs behind a queue; the names of what it tests."""
        if self.device.torch_device == "cpu" and seconds > PROBE_LIMIT:
            return []
        spec, memory, device = subject.case.spec, subject.memory, self.device.torch_device
        mirror.flip(spec, subject.inputs)
        self.synchronize()
        self.enter("kernel")  # the limit of one call
        with torch.no_grad():
            late = probing.LateWrites(self.fingerprint, memory)
            probing.queue_ahead(memory, device)
            subject.bind(subject.inputs, memory)()
            late.returned()
            self.synchronize()
        self.enter("golden")
        late.settled()
        mirror.flip(spec, subject.inputs)
        self._require_untouched(subject, " in a second call")
        probing.require_mirrored(spec, memory, lambda: subject.judge(memory), verdict)
        return ["late writes", "other numbers"]

    def _repeat(
        self, call: Callable[[], object], memory: dict[str, torch.Tensor], repeats: int
    ) -> None:
        """Fault unless every further call puts out the bits that the judged one did."""
        with torch.no_grad():
            call()  # probes have been there since
            self.synchronize()
        first = {name: tensor.clone() for name, tensor in memory.items()}
        for number in range(1, repeats + 1):
            for tensor in memory.values():
                poison(tensor)
            self.enter("kernel")  # the limit of one call holds for each
            with torch.no_grad():
                call()
                self.synchronize()
            for name, tensor in memory.items():
                if reason := other_bits(first[name], tensor):
                    place = f"call {number + 1} put out other bits in {name}"
                    raise Fault(Status.NON_DETERMINISTIC, f"{place}: {reason}")

    def _time(self, subject: Subject, verdict: Verdict, plan: Plan, first_call: float) -> Timing:
        """Time the call that has just passed, and look again at all that may be wrong with it."""
        inputs, memory = subject.inputs, subject.memory

        def rotated() -> list[Callable[[], object]]:
            count = timed.copies_that_fit(inputs)
            return [subject.bind(copied(inputs), memory) for _ in range(count)]

        strict = verdict.strict is Status.PASSED
        rounds = Rounds(
            subject.case.spec, inputs, memory, subject.bind, subject.judge, self._room(), strict
        )
        try:
            timing = timed.time_call(
                rounds, subject.case, plan, self.device, self.driver, first_call, rotated
            )
            with torch.no_grad():
                self._require_uncached(rounds, first_call, plan)
        except Fault:
            self._require_untouched(subject, " in a timed call")  # names the cause, if it is one
            raise
        except NotCapturable as error:
            raise Fault(Status.RUNTIME_ERROR, str(error)) from None
        except (timed.BelowFloor, WorkUnseen) as error:
            raise Fault(Status.INTEGRITY, str(error)) from None
        self._require_untouched(subject, " in a timed call")
        return timing

    def _require_uncached(self, rounds: Rounds, first_call: float, plan: Plan) -> None:
        if plan.budget is not None and 2 * probing.PAIRS * first_call / 1e3 > plan.budget:
            return  # a CPU would take too long
        probing.require_uncached(rounds.one, rounds.inputs, self.device.torch_device)

    def _room(self) -> int:
        """Bytes of the device that are free now."""
        if self.device.torch_device == "cuda":
            return int(torch.cuda.mem_get_info()[0])
        return self.device.free

    def _fingerprints(self, inputs: dict[str, Any]) -> dict[str, tuple[object, ...]]:
        tensors = {n: t for n, t in inputs.items() if isinstance(t, torch.Tensor)}
        return {name: self.fingerprint(tensor) for name, tensor in tensors.items()}

    def _compile(self, subject: Subject) -> None:
        """Compile what the call needs, so that its time is not the kernel's.

        A kernel that cannot take meta tensors fails here for no fault of its own: only the
        compiler's word counts, the rest shows again in the real call.
        """
        tensors, options = arguments(subject.case.spec, subject.inputs, subject.outputs)
        meta = [torch.empty_like(tensor, device="meta") for tensor in tensors]
        try:
            with self.dialect.compile_only(), torch.no_grad():
                subject.function(*meta, **options)
        except Exception as error:
            if faults.is_compile_error(error):
                raise

    def _failed(self, error: BaseException, kernel: Kernel, stage: Stage) -> Outcome:
        traceback.print_exc()
        reason = faults.describe(error, kernel.path.parent)
        if stage in ("inputs", "golden"):
            # Not the kernel's doing; say so, and never call it a compile error.
            memory = faults.is_out_of_memory(error)
            status = Status.OUT_OF_MEMORY if memory else Status.RUNTIME_ERROR
            return Outcome(status=status, reason=f"in mxbench's own {stage}: {reason}")
        return Outcome(status=faults.classify(error), reason=reason)


def _with(outcome: Outcome, **changes: Any) -> Outcome:
    fields = {name: getattr(outcome, name) for name in outcome.__struct_fields__}
    return Outcome(**{**fields, **changes})


def _uuid(device: DeviceInfo) -> str | None:
    """The GPU's name for its driver; None on a CPU, on MACA, or with a torch that lacks it."""
    if device.kind != "cuda":
        return None
    uuid = getattr(torch.cuda.get_device_properties(0), "uuid", None)
    return None if uuid is None else f"GPU-{uuid}"
