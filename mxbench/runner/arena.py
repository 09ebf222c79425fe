"""Several kernels on one case in the worker: each judged once, then timed against each other.

Everyone gets the same input and output tensors of the same process, so that what differs between
two figures is the kernels.
"""

from __future__ import annotations

import contextlib
import functools
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import torch

from .. import compare, reference
from .. import kernel as kernels
from ..case import Case
from ..record import scrub
from ..reference.draw import poison
from ..timing import NotCapturable, capture
from ..verdict import Status
from . import faults
from . import outputs as written
from .judging import Bench
from .outputs import Fault
from .protocol import Contender, Heat, Outcome, Race, Raced
from .subject import arguments
from .turns import Call, timed
from .worker import use_target

CAPTURE_WARM_UP = 3


class Arena:
    """One case at a time, with the contenders that were judged on it."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._case: bytes = b""
        self._passed: dict[bytes, Outcome] = {}
        """Outcomes by encoded contender; only of those that passed."""
        self._golden: tuple[dict[str, torch.Tensor], reference.Expected] | None = None
        """The golden, and the integer outputs that it was computed under."""

    def race(self, request: Race) -> Raced:
        """Judge everyone, and time everyone if everyone passed."""
        contenders = request.contenders
        try:
            self._set_up(request.case)
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            outcome = self._failed(error, Path(), "in mxbench's own inputs: ")
            return Raced(outcomes=[outcome] * len(contenders))
        outcomes = [self._judged(contender) for contender in contenders]
        if request.heat is None or any(o.status is not Status.PASSED for o in outcomes):
            return Raced(outcomes=outcomes)
        try:
            return self._timed(contenders, outcomes, request.heat)
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            failed = self._failed(error, Path(), "while timed: ")
            return Raced(outcomes=[failed] * len(contenders))

    def _set_up(self, data: bytes) -> None:
        if data == self._case:
            return
        self._case, self._golden = b"", None
        self._passed.clear()
        self.inputs: dict[str, Any] = {}
        self.outputs: dict[str, torch.Tensor] = {}
        self._bench.free()
        self._bench.enter("inputs")
        self.case = Case.decode(data)
        device = self._bench.device.torch_device
        self.inputs = reference.make_inputs(self.case, device)
        self.outputs = reference.make_outputs(self.case, self.inputs, device)
        self._prints = {
            name: self._bench.fingerprint(tensor)
            for name, tensor in self.inputs.items()
            if isinstance(tensor, torch.Tensor)
        }
        self._case = data

    # --- judging --------------------------------------------------------------------------------

    def _judged(self, contender: Contender) -> Outcome:
        key = msgspec.msgpack.encode(contender)
        if key in self._passed:
            return self._passed[key]
        home = Path(contender.kernel.path).parent
        try:
            outcome = self._judge(contender)
        except Fault as fault:
            outcome = Outcome(status=fault.status, reason=fault.reason)
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            outcome = self._failed(error, home, "")
        if outcome.status is Status.PASSED:
            self._passed[key] = outcome
        elif outcome.status is Status.INPUT_MUTATED:
            self._case = b""  # drawn anew for the next one
        return outcome

    def _judge(self, contender: Contender) -> Outcome:
        bench = self._bench
        function, schedules, dialect = self._function(contender)
        tensors, options = arguments(self.case.spec, self.inputs, self.outputs)
        memory = {name: tensor.detach() for name, tensor in self.outputs.items()}
        for tensor in memory.values():
            poison(tensor)
        schedules.take_used()
        seconds = {}
        with _overridden(schedules, contender), torch.no_grad():
            if contender.kernel.kernel().uses_dialect:
                bench.enter("compile")
                begin = time.perf_counter()
                meta = [torch.empty_like(tensor, device="meta") for tensor in tensors]
                with contextlib.suppress(_NotItsFault), dialect.compile_only():
                    _call_on_meta(function, meta, options)
                seconds["compile"] = time.perf_counter() - begin
            bench.enter("kernel")
            returned = function(*tensors, **options)
            bench.synchronize()
            begin = time.perf_counter()
            function(*tensors, **options)
            bench.synchronize()
            seconds["kernel"] = time.perf_counter() - begin
        used = schedules.take_used()
        hint = written.inspect(self.outputs, memory, self.inputs, returned)
        if evidence := bench.guard.evidence():
            raise Fault(Status.INTEGRITY, scrub(f"the call changed what judges it: {evidence}"))
        bench.enter("golden")
        for name, was in self._prints.items():
            if bench.fingerprint(self.inputs[name]) != was:
                raise Fault(Status.INPUT_MUTATED, f"the kernel wrote to its input {name}")
        verdict = self._compare(memory)
        return Outcome(
            status=verdict.status,
            strict=verdict.strict,
            errors=verdict.errors,
            reason=scrub(verdict.reason) + (hint if verdict.status is Status.NON_FINITE else ""),
            schedule=used,
            seconds=seconds,
        )

    def _compare(self, memory: dict[str, torch.Tensor]) -> Any:
        case = self.case
        chosen = {n: t for n, t in memory.items() if not t.is_floating_point()}
        kept = self._golden
        if kept is None or any(not torch.equal(kept[0][n], t) for n, t in chosen.items()):
            golden = reference.expected(case, self.inputs, memory, "fp32")
            kept = self._golden = ({n: t.clone() for n, t in chosen.items()}, golden)
        strict = case.spec.strict(case.params, case.dtype)
        return compare.judge(case.spec, case.tolerance, strict, memory, kept[1])

    def _function(self, contender: Contender) -> tuple[Callable[..., None], Any, Any]:
        folder, package = Path(contender.folder), contender.package
        kernel = contender.kernel.kernel()
        schedules = kernels.schedules(folder, package)
        dialect = kernels.dialect(folder, package)
        info = self._bench.device
        if dialect.current().schedules != info.schedules or dialect.current().kind != info.kind:
            use_target(folder, info, package)
        module = kernels.load(kernel, folder, package)
        return kernels.function(module, self.case.spec), schedules, dialect

    def _failed(self, error: BaseException, home: Path, before: str) -> Outcome:
        return Outcome(
            status=faults.classify(error),
            reason=before + faults.describe(error, home),
            poisoned=self._bench.is_poisoned(),
        )

    # --- timing ---------------------------------------------------------------------------------

    def _timed(self, contenders: list[Contender], outcomes: list[Outcome], heat: Heat) -> Raced:
        self._bench.enter("timing")
        on_gpu = self._bench.device.torch_device != "cpu"
        mode, note = (heat.mode, "") if on_gpu else ("cpu", "")
        with torch.no_grad():
            calls, contexts = self._calls(contenders)
            if mode == "graph":
                try:
                    calls = [
                        self._captured(call, c) for call, c in zip(calls, contexts, strict=True)
                    ]
                    contexts = [contextlib.nullcontext] * len(calls)
                except NotCapturable as error:
                    mode, note = "eager", str(error)
            beat = functools.partial(self._bench.enter, "timing")
            count, blocks = timed(calls, contexts, heat, on_gpu, beat)
            verdicts = [self._again(c, x) for c, x in zip(calls, contexts, strict=True)]
        for number, verdict in enumerate(verdicts):
            if verdict.status is not Status.PASSED:
                reason = f"after timed calls: {scrub(verdict.reason)}"
                outcomes[number] = Outcome(status=verdict.status, reason=reason)
                blocks = []
        return Raced(outcomes=outcomes, blocks=blocks, calls=count, mode=mode, note=note)

    def _calls(self, contenders: list[Contender]) -> tuple[list[Call], list[Any]]:
        """Each contender's call, and the context that its turns run in."""
        tensors, options = arguments(self.case.spec, self.inputs, self.outputs)
        calls: list[Call] = []
        contexts: list[Any] = []
        for contender in contenders:
            function, schedules, _ = self._function(contender)
            calls.append(lambda f=function: f(*tensors, **options))  # type: ignore[misc]
            contexts.append(lambda s=schedules, c=contender: _overridden(s, c))
        return calls, contexts

    def _captured(self, call: Call, context: Any) -> Call:
        with context():
            for _ in range(CAPTURE_WARM_UP):  # lazy set-up must not be captured
                call()
            self._bench.synchronize()
            return capture(call)

    def _again(self, call: Call, context: Any) -> Any:
        """The verdict on one more call of what was timed."""
        memory = {name: tensor.detach() for name, tensor in self.outputs.items()}
        for tensor in memory.values():
            poison(tensor)
        with context():
            call()
            self._bench.synchronize()
        return self._compare(memory)


class _NotItsFault(Exception):
    """A kernel that cannot take meta tensors; the rest shows in the real call."""


def _call_on_meta(function: Callable[..., None], meta: list[Any], options: dict[str, Any]) -> None:
    try:
        function(*meta, **options)
    except Exception as error:
        if faults.is_compile_error(error):
            raise
        raise _NotItsFault from error


@contextlib.contextmanager
def _overridden(schedules: Any, contender: Contender) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for name, use in contender.overrides.items():
            stack.enter_context(schedules.override(name, use))
        yield
