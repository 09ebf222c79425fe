"""The crew of `check` and `perf`: steps of cases spread over devices. Never imports torch.

Two rules keep times honest: a device serves one case at a time, and a case's baseline is timed on
the device that has just timed the case.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path

from ..device import DeviceInfo
from ..kernel import Kernel
from ..measurement import Plan
from ..runs import Step
from .crew import Crew
from .process import StartMethod
from .protocol import Outcome
from .supervisor import Supervisor


def folder_of(kernel: Kernel) -> Path:
    """The kernels folder that a kernel belongs to."""
    return (kernel.home or kernel.path.parent).parent


class Seat:
    """One device, with a worker for each kernels folder: sources of two parties never meet."""

    def __init__(
        self,
        folders: Mapping[Path, Mapping[str, str]],
        target: str,
        log: Path,
        visible: str | None,
    ) -> None:
        """
        Args:
            folders: kernels folders, the first of which serves every kernel of no other one, and
                the environment variables of each one's workers.
            target, log: as of `Supervisor`.
            visible: the only GPU that the workers see; None for the first there is.
        """
        beside = len(folders) - 1
        self.folders = folders
        self._supervisors = {
            f: Supervisor(f, target, log, visible=visible, companions=beside, environ=environ)
            for f, environ in folders.items()
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
        """As of `Supervisor.kill`."""
        for one in self._supervisors.values():
            one.kill()

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


class Fleet(Crew[Seat]):
    """All seats of a run. Use as a context manager."""

    def allow(self, timeout: float) -> None:
        """Seconds that a kernel may take."""
        for seat in self.seats:
            seat.allow(timeout)

    def environ(self, folder: Path) -> Mapping[str, str]:
        """Environment variables of the workers of a kernels folder."""
        return self.seats[0].folders.get(folder, {})

    def load(self, kernel: Kernel) -> None:
        """Import a kernel's module in one worker; the others will do alike."""
        self.seats[0].load(kernel)

    def outcomes(
        self, steps: Sequence[Step], ask: Ask
    ) -> Generator[tuple[Step, Outcome], None, None]:
        """Every step with its outcome, as of `share`; steps of one case stay together."""
        return self.share([list(g) for _, g in itertools.groupby(steps, _case)], ask)


def _case(step: Step) -> str:
    return step.case.id
