"""Drives a worker through races: who crashes or hangs is out, the others go on. No torch."""

from __future__ import annotations

from collections.abc import Sequence

from ..case import Case
from .protocol import Contender, Heat, Outcome, Race, Raced
from .supervisor import Supervisor


class Referee(Supervisor):
    """A supervisor whose worker holds races."""

    def __enter__(self) -> Referee:
        return self

    def race(self, case: Case, contenders: Sequence[Contender], heat: Heat | None) -> Raced:
        """How a race went, whatever happened to the worker.

        With more than one contender, whoever was judged in the same worker before is not judged
        again; a crash is then everyone's outcome, so let each be judged alone first.

        Raises:
            MxbenchError: exit code 3, a new worker cannot be started.
        """
        self._mark_log()
        self._send(Race(case.encode(), list(contenders), heat, self.timeout))
        answer = self._through_stages(contenders[-1].kernel.kernel())
        if isinstance(answer, Outcome):
            return Raced(outcomes=[answer] * len(contenders))
        return answer
