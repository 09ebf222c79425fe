"""Workers side by side: one seat a device, each with cases of its own. Never imports torch.

Two rules keep times honest: a device serves one case at a time, and a case's baseline is timed on
the device that has just timed the case.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from types import TracebackType

from ..device import DeviceInfo
from ..errors import EXIT_ENVIRONMENT, MxbenchError
from ..kernel import Kernel
from ..measurement import Plan
from ..runs import Step
from .process import StartMethod
from .protocol import Outcome
from .supervisor import Supervisor


def folder_of(kernel: Kernel) -> Path:
    """The kernels folder that a kernel belongs to."""
    return (kernel.home or kernel.path.parent).parent


class Seat:
    """One device, with a worker for each kernels folder: sources of two parties never meet."""

    def __init__(
        self, folders: Sequence[Path], target: str, log: Path, visible: str | None
    ) -> None:
        """
        Args:
            folders: kernels folders; the first serves every kernel of no other one.
            target, log: as of `Supervisor`.
            visible: the only GPU that the workers see; None for the first there is.
        """
        beside = len(folders) - 1
        self._supervisors = {
            f: Supervisor(f, target, log, visible=visible, companions=beside) for f in folders
        }
        self._first = next(iter(self._supervisors.values()))

    def start(self) -> DeviceInfo:
        """Start the workers; MxbenchError as of `Supervisor.start`."""
        device, *_ = [one.start() for one in self._supervisors.values()]
        return device

    def close(self) -> None:
        for one in self._supervisors.values():
            one.close()

    def kill(self) -> None:
        """End the workers from another thread: whoever waits for them hears of their death."""
        for one in self._supervisors.values():
            if (pid := one.pid) is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    @property
    def method(self) -> StartMethod:
        return self._first.method

    @property
    def notes(self) -> list[str]:
        return [note for one in self._supervisors.values() for note in one.notes]

    def allow(self, timeout: float) -> None:
        """Seconds that a kernel may take."""
        for one in self._supervisors.values():
            one.timeout = timeout

    def load(self, kernel: Kernel) -> None:
        self._of(kernel).load(kernel)

    def judge(self, step: Step, precision: str, plan: Plan | None, repeats: int) -> Outcome:
        return self._of(step.kernel).judge(step.case, step.kernel, precision, plan, repeats)

    def _of(self, kernel: Kernel) -> Supervisor:
        return self._supervisors.get(folder_of(kernel), self._first)


Ask = Callable[[Seat, Step], Outcome]


class Fleet:
    """All seats of a run. Use as a context manager."""

    def __init__(self, seats: Sequence[Seat]) -> None:
        self.seats = tuple(seats)

    def __enter__(self) -> Fleet:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for seat in self.seats:
            seat.close()

    def start(self) -> DeviceInfo:
        """Start every seat's workers; the device, which must be of one model everywhere.

        Raises:
            MxbenchError: exit code 3; as of `Supervisor.start`, or the devices differ.
        """
        # One after the other: starting a worker redirects this process's output for a moment.
        found = [seat.start() for seat in self.seats]
        models = {(d.name, d.sms, d.memory >> 30) for d in found}
        if len(models) > 1:
            raise MxbenchError(
                f"the devices differ: {', '.join(dict.fromkeys(d.name for d in found))}",
                "name devices of one model with --devices",
                EXIT_ENVIRONMENT,
            )
        return min(found, key=lambda device: device.free)

    @property
    def method(self) -> StartMethod:
        return self.seats[0].method

    @property
    def notes(self) -> list[str]:
        return list(dict.fromkeys(note for seat in self.seats for note in seat.notes))

    def allow(self, timeout: float) -> None:
        """Seconds that a kernel may take."""
        for seat in self.seats:
            seat.allow(timeout)

    def load(self, kernel: Kernel) -> None:
        """Import a kernel's module in one worker; the others will do alike."""
        self.seats[0].load(kernel)

    def outcomes(
        self, steps: Sequence[Step], ask: Ask
    ) -> Generator[tuple[Step, Outcome], None, None]:
        """Every step with its outcome, as they come; steps of one case stay together.

        `ask` is called in a thread for each seat if there are several, else in this one.
        """
        if len(self.seats) == 1:
            for step in steps:
                yield step, ask(self.seats[0], step)
            return
        groups = deque(list(g) for _, g in itertools.groupby(steps, lambda step: step.case.id))
        results: queue.Queue[tuple[Step, Outcome] | Exception] = queue.Queue()
        stop = threading.Event()
        threads = [
            threading.Thread(target=_serve, args=(seat, groups, ask, results, stop), daemon=True)
            for seat in self.seats[: len(groups)]
        ]
        for thread in threads:
            thread.start()
        try:
            for _ in steps:
                result = results.get()
                if isinstance(result, Exception):
                    raise result
                yield result
        finally:
            stop.set()
            self._join(threads)

    def _join(self, threads: Sequence[threading.Thread]) -> None:
        """Wait for the threads; what they still wait for is ended."""
        for thread in threads:
            thread.join(0.1)
            while thread.is_alive():
                for seat in self.seats:
                    seat.kill()
                thread.join(0.2)


def _serve(
    seat: Seat,
    groups: deque[list[Step]],
    ask: Ask,
    results: queue.Queue[tuple[Step, Outcome] | Exception],
    stop: threading.Event,
) -> None:
    """One seat's thread: take the next case, with all its steps, until there is none."""
    with contextlib.suppress(IndexError):  # another thread took the last one
        while groups and not stop.is_set():
            for step in groups.popleft():
                try:
                    outcome = ask(seat, step)
                except Exception as error:  # for the thread that waits, which raises it
                    results.put(error)
                    return
                if stop.is_set():  # the worker may have been killed because of that
                    return
                results.put((step, outcome))
