"""One case of a public judge's problem in the worker: draw, baseline, submission, check, time."""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import torch

from .. import timing
from ..device import DeviceInfo
from ..measurement import Plan, Timing
from ..publicjudge.messages import (
    OpenProblem,
    ProblemOpened,
    ProblemOutcome,
    RunProblem,
)
from ..record import scrub
from ..verdict import Status
from . import faults, known, problem, timed
from .call import Call, Fault
from .fingerprint import Fingerprint
from .ondevice import OnDevice
from .problem import Problem, Theirs
from .protocol import Stage

SAID_LENGTH = 1000
Known = known.Recognised | None
Stamp = tuple[str, int, int]
"""A file as it was when it was imported."""


class ProblemBench(OnDevice):
    """What a worker keeps between the cases of a problem."""

    def __init__(self, device: DeviceInfo, enter: Callable[[Stage], None]) -> None:
        super().__init__(device)
        self.enter = enter
        self.fingerprint = Fingerprint(device.torch_device)
        self._problems: dict[Stamp, Problem] = {}
        self._submissions: dict[Stamp, Callable[..., object]] = {}
        self._stage: Stage = "genTestCase"
        self._seconds: dict[str, float] = {}
        self._torch = problem.functions_of_torch()

    def open(self, request: OpenProblem) -> ProblemOpened:
        """Import both files; what is wrong with them is part of the answer."""
        said: list[str] = []
        try:
            one = self._problem(request.folder)
            said = one.said
            opened = problem.describe(one)
            if request.submission:
                self._submission(request.submission, len(one.classes))
        except Theirs as fault:
            traceback.print_exc()
            opened = ProblemOpened(fault=fault.message, hint=fault.hint)
        return msgspec.structs.replace(opened, said=_joined(said))

    def _problem(self, folder: str) -> Problem:
        key = _stamped(Path(folder) / problem.CONFIG)
        if key not in self._problems:
            self._problems[key] = problem.load(Path(folder))
        return self._problems[key]

    def _submission(self, path: str, arity: int) -> Callable[..., object]:
        key = _stamped(Path(path))
        if key not in self._submissions:
            self._submissions[key] = problem.submission(Path(path), arity)
            if name := problem.replaced(self._torch):
                raise Theirs(
                    f"submission {Path(path).name} replaces {name}", "leave torch as it is"
                )
        return self._submissions[key]

    def run(self, request: RunProblem) -> ProblemOutcome:
        """Judge one case. Whatever their code does short of ending the process is an outcome."""
        self._seconds = {}
        one: Problem | None = None
        try:
            one = self._problem(request.folder)
            one.said.clear()
            outcome = self._run(one, request)
        except Fault as fault:
            outcome = ProblemOutcome(status=fault.status, reason=fault.reason)
        except Theirs as fault:
            traceback.print_exc()
            status = Status.OUT_OF_MEMORY if fault.memory else Status.RUNTIME_ERROR
            reason = f"{fault.message}; {fault.hint}" if fault.hint else fault.message
            outcome = ProblemOutcome(status=status, reason=reason)
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            reason = faults.describe(error, Path(request.submission).parent)
            if self._stage == "golden":
                reason = f"in mxbench's own golden: {reason}"
            outcome = ProblemOutcome(status=faults.classify(error), reason=reason)
        self.free()
        return msgspec.structs.replace(
            outcome,
            said=_joined(one.said if one else []),
            seconds=dict(self._seconds),
            poisoned=self.is_poisoned(),
        )

    @contextlib.contextmanager
    def _in(self, stage: Stage) -> Iterator[None]:
        self._stage = stage
        self.enter(stage)
        begin = time.perf_counter()
        try:
            yield
            self.synchronize()
        finally:
            spent = time.perf_counter() - begin
            self._seconds[stage] = round(self._seconds.get(stage, 0) + spent, 6)

    def _run(self, one: Problem, request: RunProblem) -> ProblemOutcome:
        function = self._submission(request.submission, len(one.classes))
        with self._in("genTestCase"):
            case = one.case(request.number)
            drawn = one.draw(case, self.device.torch_device)
            call = Call(case, one.classes, drawn)
            inputs = call.tensors("INPUT")
            call.prints = {i: self.fingerprint(tensor) for i, tensor in inputs.items()}
        self._baseline(one, call)
        call.mine = call.copies()
        returned = self._first_call(function, call)
        with self._in("check"):
            passed = one.accepts(case.shapes, call.drawn, call.mine, call.base)
        outcome = ProblemOutcome(
            status=Status.PASSED if passed else call.why_not(),
            reason=""
            if passed
            else call.reason(faults.gist(one.said[-1]) if one.said else "", returned),
            dtype=call.dtype,
        )
        outcome, found = self._with_strict(call, outcome)
        if outcome.status is not Status.PASSED or not request.timed:
            return outcome
        mine, base = self._timed(one, function, call, request.budget, found)
        return msgspec.structs.replace(outcome, timing=mine, baseline=base)

    def _baseline(self, one: Problem, call: Call) -> None:
        """Run the problem's baseline and hold the problem to its own check."""
        with self._in("baseline"):
            call.base = self._base(one, call)
            if written := self._written(call):
                raise Theirs(f"the problem's baseline writes to its INPUT {written}")
        with self._in("check"):
            again = call.copies(call.base)
            if not one.accepts(call.case.shapes, call.drawn, again, call.base):
                raise Theirs("the problem's check does not accept its own baseline")

    def _base(self, one: Problem, call: Call) -> list[Any]:
        args = call.copies()
        result = one.call("baseline", *args)
        whole = isinstance(result, list | tuple) and len(result) == len(args)
        return list(result) if whole else args

    def _first_call(self, function: Callable[..., object], call: Call) -> object:
        call.poison()
        written = call.tensors("OUTPUT", "INOUT")
        call.memory = {i: call.mine[i].detach() for i in written}
        with self._in("submission"), torch.no_grad():
            returned = function(*call.mine)
        if names := self._written(call):
            raise Fault(Status.INPUT_MUTATED, f"the submission wrote to its INPUT {names}")
        if name := problem.replaced(self._torch):
            raise Fault(Status.RUNTIME_ERROR, f"the submission replaced {name}")
        call.settle()
        return returned

    def _written(self, call: Call) -> str:
        """The INPUT arguments that changed, in words; empty if none did."""
        changed = [i for i, was in call.prints.items() if self.fingerprint(call.drawn[i]) != was]
        return ", ".join(f"argument {i}" for i in changed)

    # --- verdicts -------------------------------------------------------------------------------

    def _with_strict(self, call: Call, outcome: ProblemOutcome) -> tuple[ProblemOutcome, Known]:
        """The outcome with mxbench's own verdict, if this is an operator that it knows."""
        found = known.look(call.case.shapes, call.drawn)
        if isinstance(found, str):
            return msgspec.structs.replace(outcome, notes=[found] if found else []), None
        with self._in("golden"):
            golden = found.golden()
            other = found.why_other(call.base[found.out], golden)
            if other:
                return msgspec.structs.replace(outcome, notes=[other]), None
            verdict = found.verdict(call.memory[found.out], golden)
        reason = outcome.reason
        if verdict.strict is not Status.PASSED:
            said = scrub(verdict.reason)
            reason = f"{reason}; {said}" if reason else said
        outcome = msgspec.structs.replace(
            outcome,
            strict=verdict.strict,
            errors=verdict.errors,
            reason=reason,
            known=found.summary,
        )
        return outcome, found

    # --- times ----------------------------------------------------------------------------------

    def _timed(
        self,
        one: Problem,
        function: Callable[..., object],
        call: Call,
        budget: float | None,
        found: Known,
    ) -> tuple[Timing, Timing]:
        """Times of the submission and of the problem's baseline, under the problem's counts."""
        call.poison()
        with self._in("timing"):
            mine = self._time(lambda: function(*call.mine), call, "submission", budget, found)
            if names := self._written(call):
                raise Fault(Status.INPUT_MUTATED, f"a timed call wrote to its INPUT {names}")
        if "INOUT" not in call.classes:  # what many calls make of an INOUT is nobody's result
            with self._in("check"):
                if not one.accepts(call.case.shapes, call.drawn, call.mine, call.base):
                    raise Fault(
                        Status.MISMATCH, "after the timed calls the problem's check says no"
                    )
        args = call.copies()
        baseline = one.module.baseline
        with self._in("timing"), one.guard("the problem's baseline, when timed,"):
            base = self._time(lambda: baseline(*args), call, "baseline", budget, None)
        if found is not None:
            self._change_inputs(function, call, found)
        return mine, base

    def _time(
        self,
        function: Callable[[], object],
        call: Call,
        stage: str,
        budget: float | None,
        found: Known,
    ) -> Timing:
        case, on_cpu = call.case, self.device.torch_device == "cpu"
        first = self._seconds[stage] * 1e3
        if on_cpu:  # what a budget allows must not depend on how long compiling took
            begin = time.perf_counter()
            function()
            first = (time.perf_counter() - begin) * 1e3
        plan = Plan(
            warmup=case.warmup,
            repeat=case.repeat,
            extras=False,
            budget=budget if on_cpu else None,
        )
        calls = timing.Same(function)
        try:
            with torch.no_grad():
                if on_cpu:
                    return timing.time_cpu(calls, plan, first)
                measured = timing.time_gpu(calls, plan, timed.DEFAULT_L2_BYTES, first, list)
            if found is not None:
                timed.require_possible_here(measured.mean, found.case, found.inputs, self.device)
        except (timed.BelowFloor, timing.WorkUnseen) as error:
            raise Fault(Status.INTEGRITY, str(error)) from None
        return measured

    def _change_inputs(
        self, function: Callable[..., object], call: Call, found: known.Recognised
    ) -> None:
        """Negate the floating inputs in place: whoever kept a result by address is found out.

        Neither magnitudes nor rounding change, so the strict tolerance holds as before.
        """
        for tensor in call.tensors("INPUT").values():
            if tensor.is_floating_point():
                tensor.neg_()
        call.poison()
        with self._in("submission"), torch.no_grad():
            function(*call.mine)
        with self._in("golden"):
            verdict = found.verdict(call.memory[found.out], found.golden())
        if verdict.strict is not Status.PASSED:
            raise Fault(
                Status.MISMATCH,
                "wrong once the same tensors hold other numbers, so results may be kept across "
                f"calls: {scrub(verdict.reason)}",
            )


def _stamped(path: Path) -> Stamp:
    found = path.stat()
    return str(path), found.st_mtime_ns, found.st_size


def _joined(said: list[str]) -> str:
    text = "\n".join(said)
    return text if len(text) <= SAID_LENGTH else text[: SAID_LENGTH - 3] + "..."
