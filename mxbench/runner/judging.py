"""One case in the worker: draw inputs, call the kernel, look for foul play, compare."""

from __future__ import annotations

import contextlib
import gc
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from .. import compare, reference
from .. import kernel as kernels
from ..case import Case
from ..device import DeviceInfo
from ..kernel import Kernel
from ..measurement import Plan, Timing
from ..ops.base import Contract
from ..record import scrub
from ..reference.draw import poison
from ..timing import NotCapturable
from ..verdict import Status
from . import faults, timed
from .fingerprint import Fingerprint
from .protocol import Judge, Outcome, Stage


class Fault(Exception):
    """Ends a case with a status and a reason."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


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


class Bench:
    """What a worker keeps between cases: the device, the dialect and the loaded kernels."""

    def __init__(self, folder: Path, device: DeviceInfo, enter: Callable[[Stage], None]) -> None:
        self.folder = folder
        self.device = device
        self.enter = enter
        self.dialect = kernels.dialect(folder)
        self.schedules = kernels.schedules(folder)
        self.fingerprint = Fingerprint(device.torch_device)

    def load_problem(self, kernel: Kernel) -> str:
        """Why the kernel's module does not import; empty if it does."""
        try:
            kernels.load(kernel, self.folder)
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            return faults.describe(error, kernel.path.parent)
        return ""

    def judge(self, request: Judge) -> Outcome:
        """Run one case. Whatever the kernel does short of ending the process is an Outcome."""
        case, kernel = Case.decode(request.case), request.kernel.kernel()
        clock = _Clock(self.enter)
        self.schedules.take_used()
        before = self.dialect.compiled_count()
        try:
            outcome = self._judge(case, kernel, request, clock)
        except Fault as fault:
            outcome = Outcome(status=fault.status, reason=fault.reason)
        except (Exception, SystemExit) as error:
            outcome = self._failed(error, kernel, clock.stage)
        finally:
            self.free()
        return _with(
            outcome,
            schedule=self.schedules.take_used(),
            seconds=clock.seconds,
            programs=self.dialect.compiled_count() - before,
            poisoned=self.is_poisoned(),
        )

    def _judge(self, case: Case, kernel: Kernel, request: Judge, clock: _Clock) -> Outcome:
        spec, device = case.spec, self.device.torch_device
        with clock("inputs"):
            self.free()
            function = kernels.function(kernels.load(kernel, self.folder), spec)
            inputs = reference.make_inputs(case, device)
            outputs = reference.make_outputs(case, inputs, device)
            prints = self._fingerprints(inputs)
        tensors, options = arguments(spec, inputs, outputs)
        # What the caller allocated, whatever the kernel does to the tensor objects it is given.
        memory = {name: tensor.detach() for name, tensor in outputs.items()}
        if kernel.uses_dialect:
            with clock("compile"):
                self._compile(function, tensors, options)
        with clock("kernel"), torch.no_grad():
            returned = function(*tensors, **options)
            self.synchronize()
        hint = inspect_outputs(outputs, memory, returned)
        with clock("golden"):
            mutated = [n for n, was in prints.items() if self.fingerprint(inputs[n]) != was]
            if mutated:
                names = ", ".join(mutated)
                raise Fault(Status.INPUT_MUTATED, f"the kernel wrote to its input {names}")
            golden = reference.expected(case, inputs, memory, request.precision)
            strict = spec.strict(case.params, case.dtype)
            verdict = compare.judge(spec, case.tolerance, strict, memory, golden)
        if request.repeats and verdict.status is Status.PASSED:
            self._repeat(lambda: function(*tensors, **options), memory, request.repeats)
        timing = None
        if request.plan is not None and verdict.status is Status.PASSED:
            with clock("timing"):
                timing = self._time(
                    function,
                    case,
                    inputs,
                    outputs,
                    request.plan,
                    memory,
                    first_call=clock.seconds["kernel"] * 1e3,
                )
                again = compare.judge(spec, case.tolerance, strict, memory, golden)
            if again.status is not Status.PASSED:
                raise Fault(again.status, f"after a timed call: {scrub(again.reason)}")
        return Outcome(
            status=verdict.status,
            strict=verdict.strict,
            errors=verdict.errors,
            timing=timing,
            reason=scrub(verdict.reason) + (hint if verdict.status is Status.NON_FINITE else ""),
        )

    def _repeat(
        self, call: Callable[[], object], memory: dict[str, torch.Tensor], repeats: int
    ) -> None:
        """Fault unless every further call puts out the bits that the judged one did."""
        first = {name: tensor.clone() for name, tensor in memory.items()}
        for number in range(1, repeats + 1):
            for tensor in memory.values():
                poison(tensor)
            self.enter("kernel")  # the limit of one call holds for each
            with torch.no_grad():
                call()
                self.synchronize()
            for name, tensor in memory.items():
                if reason := _other_bits(first[name], tensor):
                    place = f"call {number + 1} put out other bits in {name}"
                    raise Fault(Status.NON_DETERMINISTIC, f"{place}: {reason}")

    def _time(
        self,
        function: Callable[..., None],
        case: Case,
        inputs: dict[str, Any],
        outputs: dict[str, torch.Tensor],
        plan: Plan,
        memory: dict[str, torch.Tensor],
        first_call: float,
    ) -> Timing:
        """Time the call that has just passed; its outputs are poisoned again before."""

        def call_on(inputs: dict[str, Any]) -> Callable[[], object]:
            tensors, options = arguments(case.spec, inputs, outputs)
            return lambda: function(*tensors, **options)

        def rotated() -> list[Callable[[], object]]:
            count = timed.copies_that_fit(inputs)
            return [call_on(_copied(inputs)) for _ in range(count)]

        for tensor in memory.values():
            poison(tensor)
        try:
            return timed.time_call(
                call_on(inputs), case, inputs, plan, self.device, first_call, rotated
            )
        except (timed.BelowFloor, NotCapturable) as error:
            raise Fault(Status.RUNTIME_ERROR, str(error)) from None

    def _fingerprints(self, inputs: dict[str, Any]) -> dict[str, tuple[object, ...]]:
        tensors = {n: t for n, t in inputs.items() if isinstance(t, torch.Tensor)}
        return {name: self.fingerprint(tensor) for name, tensor in tensors.items()}

    def _compile(
        self, function: Callable[..., None], tensors: list[torch.Tensor], options: dict[str, Any]
    ) -> None:
        """Compile what the call needs, so that its time is not the kernel's.

        A kernel that cannot take meta tensors fails here for no fault of its own: only the
        compiler's word counts, the rest shows again in the real call.
        """
        meta = [torch.empty_like(tensor, device="meta") for tensor in tensors]
        try:
            with self.dialect.compile_only(), torch.no_grad():
                function(*meta, **options)
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

    def synchronize(self) -> None:
        if self.device.torch_device == "cuda":
            torch.cuda.synchronize()

    def is_poisoned(self) -> bool:
        """Whether an earlier fault (an illegal access) makes every further call fail."""
        try:
            self.synchronize()
        except RuntimeError:
            return True
        return False

    def free(self) -> None:
        gc.collect()
        if self.device.torch_device == "cuda":
            # A poisoned context refuses this as everything else; `judge` reports it.
            with contextlib.suppress(RuntimeError):
                torch.cuda.empty_cache()


def arguments(
    spec: Contract, inputs: dict[str, Any], outputs: dict[str, torch.Tensor]
) -> tuple[list[torch.Tensor], dict[str, Any]]:
    """A call's positional arguments and options."""
    tensors = [outputs[name] if name in outputs else inputs[name] for name in spec.tensors]
    return tensors, {name: inputs[name] for name in spec.options}


def _other_bits(first: torch.Tensor, again: torch.Tensor) -> str:
    """Where two results of the same call differ, and how much; empty if bit for bit equal."""
    bits = first.contiguous().view(torch.uint8) != again.contiguous().view(torch.uint8)
    if not bits.any():
        return ""
    element = first.element_size()
    wrong = bits.flatten().view(-1, element).any(-1)
    at = int(wrong.byte().argmax())
    index = [int(i) for i in torch.unravel_index(torch.tensor(at), first.shape)]
    values = float(first.flatten()[at]), float(again.flatten()[at])
    return f"{int(wrong.sum())} elements, first {index}, {values[0]:.6g} then {values[1]:.6g}"


def _copied(inputs: dict[str, Any]) -> dict[str, Any]:
    return {n: v.clone() if isinstance(v, torch.Tensor) else v for n, v in inputs.items()}


def _with(outcome: Outcome, **changes: Any) -> Outcome:
    fields = {name: getattr(outcome, name) for name in outcome.__struct_fields__}
    return Outcome(**{**fields, **changes})


def inspect_outputs(
    outputs: dict[str, torch.Tensor], memory: dict[str, torch.Tensor], returned: object
) -> str:
    """Raise Fault if an output changed its form; else a hint in case its memory is unwritten."""
    hint = ""
    if returned is not None:
        hint = f"; the kernel returned a {type(returned).__name__}: write the output arguments"
    for name, tensor in outputs.items():
        wanted = memory[name]
        if tensor.dtype != wanted.dtype:
            reason = f"{name} became {tensor.dtype}, it was {wanted.dtype}"
            raise Fault(Status.WRONG_DTYPE, reason.replace("torch.", ""))
        if (tensor.shape, tensor.stride()) != (wanted.shape, wanted.stride()):
            raise Fault(
                Status.WRONG_SHAPE,
                f"{name} became {list(tensor.shape)} with strides {list(tensor.stride())}, it was "
                f"{list(wanted.shape)} with {list(wanted.stride())}",
            )
        if tensor.data_ptr() != wanted.data_ptr():
            hint = f"; the kernel moved {name} to other memory: write the caller's in place"
    return hint
