"""Side by side on several devices, and no device ever does two things at once. No torch."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from ..device import DeviceInfo
from ..errors import EXIT_ENVIRONMENT, MxbenchError
from .process import StartMethod


class Server(Protocol):
    """What serves one device."""

    @property
    def method(self) -> StartMethod: ...

    @property
    def notes(self) -> list[str]: ...

    def start(self) -> DeviceInfo:
        """MxbenchError as of `Supervisor.start`."""

    def close(self) -> None: ...

    def kill(self) -> None:
        """End its workers from another thread: whoever waits for them hears of their death."""


S = TypeVar("S", bound=Server)
C = TypeVar("C", bound="Crew[Any]")
Job = TypeVar("Job")
Answer = TypeVar("Answer")


class Crew(Generic[S]):
    """Everyone of a run, a seat for each device. Use as a context manager."""

    def __init__(self, seats: Sequence[S]) -> None:
        self.seats = tuple(seats)

    def __enter__(self: C) -> C:
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
        """Start every seat; the device, which must be of one model everywhere.

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

    def share(
        self, groups: Iterable[Sequence[Job]], ask: Callable[[S, Job], Answer]
    ) -> Generator[tuple[Job, Answer], None, None]:
        """Every job with its answer, as they come; those of one group go to one seat, in turn.

        `ask` is called in a thread for each seat if there are several, else in this one. Whoever
        leaves early ends the workers of the jobs that are under way.
        """
        waiting = deque(groups)
        if len(self.seats) == 1:
            for group in waiting:
                for job in group:
                    yield job, ask(self.seats[0], job)
            return
        count = sum(map(len, waiting))
        answers: queue.Queue[tuple[Job, Answer] | Exception] = queue.Queue()
        stop = threading.Event()
        threads = [
            threading.Thread(target=_serve, args=(seat, waiting, ask, answers, stop), daemon=True)
            for seat in self.seats[: len(waiting)]
        ]
        for thread in threads:
            thread.start()
        try:
            for _ in range(count):
                answer = answers.get()
                if isinstance(answer, Exception):
                    raise answer
                yield answer
        except BaseException:
            stop.set()
            self._end(threads)
            raise
        for thread in threads:  # all has been answered: they are at their ends
            thread.join()

    def _end(self, threads: Sequence[threading.Thread]) -> None:
        """Wait for the threads; what they still wait for is ended."""
        for thread in threads:
            thread.join(0.1)
            while thread.is_alive():
                for seat in self.seats:
                    seat.kill()
                thread.join(0.2)


def _serve(
    seat: S,
    groups: deque[Sequence[Job]],
    ask: Callable[[S, Job], Answer],
    answers: queue.Queue[tuple[Job, Answer] | Exception],
    stop: threading.Event,
) -> None:
    """One seat's thread: take the next group, with all its jobs, until there is none."""
    with contextlib.suppress(IndexError):  # another thread took the last one
        while groups and not stop.is_set():
            for job in groups.popleft():
                try:
                    answer = ask(seat, job)
                except Exception as error:  # for the thread that waits, which raises it
                    answers.put(error)
                    return
                if stop.is_set():  # the worker may have been killed because of that
                    return
                answers.put((job, answer))
