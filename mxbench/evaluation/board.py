"""What to do next. Pure state: no clock, no process, no file; simulated as well as run.

A task waits, runs at a place, and ends. What ends it badly is counted apart: strikes, when the
process or worker that ran it died, which may be its own doing, and losses, which are not.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from .messages import Place, Work


@dataclass(frozen=True)
class Policy:
    """How often what may go wrong."""

    strikes: int = 2
    """Deaths of its worker after which a hand-in is recorded as their cause."""
    losses: int = 5
    """Tries that the machines' failures may cost before it is given up."""
    drifts: int = 2
    """Reruns elsewhere for a drifting baseline."""
    flags: int = 2
    """Drifting results after which a machine gets no more tasks."""


@dataclass
class Task:
    """One piece of work and what has happened to it."""

    work: Work
    place: Place | None = None
    """Where it runs."""
    tries: int = 0
    strikes: int = 0
    losses: int = 0
    drifts: int = 0
    avoid: set[str] = field(default_factory=set)
    """Machines it shall not run on again."""
    compiled: bool = False
    compiling: bool = False
    done: bool = False


class Board:
    """All tasks of an evaluation."""

    def __init__(
        self, works: Iterable[Work], policy: Policy, *, compile_apart: bool = False
    ) -> None:
        self.policy = policy
        self.compile_apart = compile_apart
        """Whether hosts without a device compile for those with one."""
        self.tasks = {work: Task(work) for work in works}
        self.flags: Counter[str] = Counter()
        """Drifting results by machine."""
        self._waiting = deque(sorted(self.tasks, key=lambda w: w.replica))
        self._machines: dict[tuple[str, str], dict[int, str]] = {}
        self._open = len(self.tasks)

    # --- questions ------------------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        return not self._open

    @property
    def left(self) -> int:
        """Tasks that are not done."""
        return self._open

    def trusted(self, machine: str) -> bool:
        """Whether a machine still gets tasks."""
        return self.flags[machine] < self.policy.flags

    def allowed(self, work: Work, place: Place) -> bool:
        """Whether a task may run at a place."""
        if not self.trusted(place.machine) or place.machine in self.tasks[work].avoid:
            return False
        others = self._machines.get((work.hand_in, work.op), {})
        return all(m != place.machine for r, m in others.items() if r != work.replica)

    # --- what happens ---------------------------------------------------------------------------

    def pick(self, place: Place) -> Work | None:
        """The next task for a free device, taken from the queue; what is compiled goes first."""
        work = self._take(lambda w: self.tasks[w].compiled and self.allowed(w, place), 64)
        work = work or self._take(
            lambda w: not self.tasks[w].compiling and self.allowed(w, place), len(self._waiting)
        )
        if work is None:
            return None
        task = self.tasks[work]
        task.place, task.tries = place, task.tries + 1
        self._machines.setdefault((work.hand_in, work.op), {})[work.replica] = place.machine
        return work

    def _take(self, fits: Callable[[Work], bool], depth: int) -> Work | None:
        """Remove the first that fits from the queue, looking at `depth` of them at most."""
        for index in range(min(depth, len(self._waiting))):
            if fits(self._waiting[index]):
                work = self._waiting[index]
                del self._waiting[index]
                return work
        return None

    def pick_compile(self) -> Work | None:
        """The next task to compile on a host without a device; it stays in the queue."""
        if not self.compile_apart:
            return None
        for work in list(self._waiting)[:64]:
            task = self.tasks[work]
            if not (task.compiled or task.compiling or task.tries):
                task.compiling = True
                return work
        return None

    def compiled(self, work: Work) -> None:
        """A host is through with compiling, or failed to: either way it is tried no more."""
        self.tasks[work].compiling, self.tasks[work].compiled = False, True

    def end(self, work: Work) -> None:
        """It has a result."""
        task = self.tasks[work]
        if not task.done:
            task.done, task.place = True, None
            self._open -= 1

    def strike(self, work: Work) -> bool:
        """Its worker died; True if it is to be tried again."""
        task = self.tasks[work]
        task.strikes += 1
        if task.strikes >= self.policy.strikes:
            self.end(work)
            return False
        self._again(work)
        return True

    def lose(self, work: Work) -> bool:
        """A machine or connection failed, through no doing of the task; True to try again."""
        task = self.tasks[work]
        task.losses += 1
        if task.losses >= self.policy.losses:
            self.end(work)
            return False
        self._again(work)
        return True

    def drifted(self, work: Work, machine: str, places: Iterable[Place]) -> bool:
        """Its baseline was off on `machine`, which is flagged; True if it is to run elsewhere."""
        task = self.tasks[work]
        self.flags[machine] += 1
        elsewhere = any(self.allowed(work, p) for p in places if p.machine != machine)
        if task.drifts >= self.policy.drifts or not elsewhere:
            return False
        task.drifts += 1
        task.avoid.add(machine)
        if task.done:
            task.done = False
            self._open += 1
        self._again(work)
        return True

    def _again(self, work: Work) -> None:
        task = self.tasks[work]
        task.place, task.compiling = None, False
        self._machines.get((work.hand_in, work.op), {}).pop(work.replica, None)
        self._waiting.append(work)

    def stuck(self, places: Iterable[Place]) -> list[Work]:
        """Waiting tasks that no living place may take; without places nobody is stuck."""
        there = list(places)
        if not there:
            return []
        return [w for w in self._waiting if not any(self.allowed(w, p) for p in there)]

    def take(self, work: Work) -> None:
        """Take a waiting task from the queue: a process that is gone had begun it."""
        self._waiting.remove(work)

    def give_up(self, work: Work) -> None:
        """End a waiting task without a result."""
        self._waiting.remove(work)
        self.end(work)

    def forgive(self, work: Work) -> None:
        """Let a waiting task run where it should not: there is no other place."""
        self.tasks[work].avoid.clear()

    def restore_done(self, work: Work, machine: str) -> None:
        """It has a result from an earlier evaluation."""
        self._waiting.remove(work)
        self._machines.setdefault((work.hand_in, work.op), {})[work.replica] = machine
        self.end(work)
