"""Processes that look at programs and compile them, for any target, with no device at hand.

A candidate that makes the compiler crash or hang costs its process, which is replaced, and is
named; the others go on.
"""

from __future__ import annotations

import contextlib
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import msgspec

from ..device import DeviceInfo
from ..kernel import Kernel
from ..record import scrub
from . import protocol
from .process import StartMethod, cause_of_death, kill, start_process
from .protocol import Build, Built, Lookup, Message, Probe, Probed, Survey, Surveyed

Request = Survey | Probe | Build
START_SECONDS = 300.0  # to import torch and tilelang where the machine is busy


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """What a workshop's process needs to start."""

    kernels: str
    log: str
    device: DeviceInfo
    """What to compile for; of a dry run made up from a profile."""


class Workshop:
    """Up to `count` processes. Use as a context manager, then `map`."""

    def __init__(
        self, kernels: Path, device: DeviceInfo, method: StartMethod, log: Path, count: int
    ) -> None:
        self._setup = Setup(kernels=str(kernels), log=str(log), device=device)
        self._method: StartMethod = method
        self._log, self._count = log, max(1, count)
        self._idle: list[tuple[BaseProcess, Connection]] = []

    def __enter__(self) -> Workshop:
        return self

    def __exit__(self, *unused: object) -> None:
        for process, pipe in self._idle:
            pipe.close()
            kill(process)
        self._idle.clear()

    def map(
        self,
        requests: Sequence[Request],
        limit: float,
        on_answer: Callable[[int, Message | str], None] = lambda number, answer: None,
    ) -> list[Message | str]:
        """The answer to each request, or in words what became of the process that had it.

        Args:
            limit: seconds a request may take.
            on_answer: called with a request's number and answer as soon as it is there.
        """
        answers: dict[int, Message | str] = {}
        waiting = deque(enumerate(requests))
        busy: dict[Connection, tuple[int, BaseProcess, float]] = {}

        def settle(number: int, answer: Message | str) -> None:
            answers[number] = answer
            on_answer(number, answer)

        try:
            while waiting or busy:
                while waiting and len(busy) < self._count:
                    number, request = waiting.popleft()
                    fresh = not self._idle
                    process, pipe = self._idle.pop() if self._idle else self._start()
                    protocol.send(pipe, request)
                    late = time.monotonic() + limit + (START_SECONDS if fresh else 0)
                    busy[pipe] = number, process, late
                self._collect(busy, settle, limit)
        finally:
            for pipe, (_, process, _) in busy.items():
                pipe.close()
                kill(process)
        return [answers[number] for number in range(len(requests))]

    def _start(self) -> tuple[BaseProcess, Connection]:
        return start_process(self._method, main, self._setup, self._log)

    def _collect(
        self,
        busy: dict[Connection, tuple[int, BaseProcess, float]],
        settle: Callable[[int, Message | str], None],
        limit: float,
    ) -> None:
        """Take in what is ready, and give up on what is dead or late."""
        soonest = min(late for _, _, late in busy.values())
        ready = wait(list(busy), max(0.0, soonest - time.monotonic()))
        for pipe in list(busy):
            number, process, late = busy[pipe]
            if pipe in ready:
                del busy[pipe]
                try:
                    settle(number, protocol.receive(pipe))
                    self._idle.append((process, pipe))
                except (EOFError, OSError, msgspec.MsgspecError):
                    process.join(10)
                    pipe.close()
                    kill(process)
                    settle(number, f"the compiling process {cause_of_death(process.exitcode)}")
            elif time.monotonic() > late:
                del busy[pipe]
                pipe.close()
                kill(process)
                settle(number, f"not compiled within {limit:g} s")


# --- in a workshop's process --------------------------------------------------------------------


def main(pipe: Connection, setup: Setup) -> None:
    """Serve requests until the pipe is closed."""
    import torch

    from .worker import become_child, use_target

    become_child(setup.log)
    folder = Path(setup.kernels)
    with contextlib.suppress(EOFError, OSError), torch.no_grad():
        use_target(folder, setup.device)
        bench = _Bench(folder)
        while True:
            request = protocol.receive(pipe)
            answer: Message
            if isinstance(request, Survey):
                answer = bench.survey(request)
            elif isinstance(request, Probe):
                answer = bench.probe(request)
            else:
                assert isinstance(request, Build), request
                answer = bench.build(request)
            protocol.send(pipe, answer)


class _Bench:
    """The dialect and schedules of one kernels folder, and the kernels loaded from it."""

    def __init__(self, folder: Path) -> None:
        from .. import kernel

        self.folder = folder
        self.dialect = kernel.dialect(folder)
        self.schedules = kernel.schedules(folder)
        self.default: dict[tuple[bytes, Any], set[str]] = {}
        """Programs of a call under the schedules in the files, by what identifies them."""

    def survey(self, request: Survey) -> Surveyed:
        try:
            call = self._call(request)
            with self.dialect.collect(), self.schedules.watched() as seen:
                call()
        except Exception as error:
            return Surveyed(problem=self._told(error, request))
        return Surveyed([Lookup(*one) for one in seen])

    def probe(self, request: Probe) -> Probed:
        from .footprint import footprint

        try:
            usual = self._usual(request)
            found = []
            for program, static in self._asked(request, request.overrides):
                if _identity(program, static) not in usual:
                    dialect = self.dialect.Dialect(self.dialect.current())
                    function = program.builder(dialect, **static)
                    found.append(footprint(function, program.pass_configs))
        except Exception as error:
            return Probed(problem=self._told(error, request))
        return Probed(found)

    def build(self, request: Build) -> Built:
        try:
            with self._overridden(request.overrides), self.dialect.compile_only():
                self._call(request)()
        except Exception as error:
            return Built(self._told(error, request))
        return Built()

    def _call(self, request: Request) -> Callable[[], None]:
        from .. import kernel
        from ..case import Case
        from .meta import arguments

        case = Case.decode(request.case)
        module = kernel.load(request.kernel.kernel(), self.folder)
        tensors, options = arguments(case)
        return lambda: kernel.function(module, case.spec)(*tensors, **options)

    def _usual(self, request: Probe) -> set[str]:
        place = request.case, request.kernel
        if place not in self.default:
            asked = self._asked(request, {})
            self.default[place] = {_identity(program, static) for program, static in asked}
        return self.default[place]

    def _asked(self, request: Request, overrides: dict[str, dict[str, Any]]) -> list[Any]:
        """(program, static sizes) that the call asks for, none twice."""
        with self._overridden(overrides), self.dialect.collect() as asked:
            self._call(request)()
        return list({_identity(*one): one for one in asked}.values())

    @contextlib.contextmanager
    def _overridden(self, overrides: dict[str, dict[str, Any]]) -> Any:
        with contextlib.ExitStack() as stack:
            for name, use in overrides.items():
                stack.enter_context(self.schedules.override(name, use))
            yield

    def _told(self, error: Exception, request: Request) -> str:
        from . import faults

        traceback.print_exc()
        kernel: Kernel = request.kernel.kernel()
        return scrub(faults.describe(error, kernel.path.parent))[:200]


def _identity(program: Any, static: dict[str, Any]) -> str:
    return f"{program.name} {sorted(map(str, static.items()))}"
