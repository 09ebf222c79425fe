"""What runs tasks somewhere: this machine's devices, or a cluster's."""

from __future__ import annotations

import queue
from dataclasses import dataclass
from typing import Protocol

from ..record import Record
from .isolation import Task
from .messages import Place, Result, Work


@dataclass(frozen=True)
class Try:
    """One try of a task at a place."""

    work: Work
    place: Place
    number: int
    """Unique within an evaluation: what an earlier try still says is not taken for this one's."""
    stage: str = "measure"


@dataclass(frozen=True)
class Came:
    """A case is finished."""

    run: Try
    record: Record


@dataclass(frozen=True)
class Over:
    """A try has ended by itself."""

    run: Try
    result: Result


@dataclass(frozen=True)
class Lost:
    """The worker that ran it is gone."""

    run: Try
    reason: str
    blame: bool
    """Whether the hand-in may be the cause: its own worker died, which no fence kept it from."""


Event = Came | Over | Lost


class Executor(Protocol):
    """Where tasks run."""

    events: queue.SimpleQueue[Event]
    """What has happened; filled by other threads."""
    notes: list[str]
    """What the organiser should know; whoever shows them takes them out."""

    shares_host: bool
    """Whether a hand-in runs as this process's own child, and so may end it."""

    @property
    def dashboard(self) -> str:
        """Address of a page that shows the cluster; empty if there is none."""

    def places(self) -> list[Place]:
        """The devices that are there at this moment, and hosts that can compile.

        Raises:
            MxbenchError: exit code 3; there will be none.
        """

    def start(self, run: Try, task: Task) -> None:
        """Begin; its events follow."""

    def close(self) -> None:
        """End what runs."""
