"""A campaign over several devices: the cases that come next are judged side by side, ahead of it.

Hypothesis draws and shrinks in one place, so a seed's cases, and what is found, are the same
however many devices there are.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from typing import Generic

from ..case import Case
from ..runner.crew import Crew, S
from ..runner.protocol import Outcome

WAVE = 8
"""Cases of each device that are judged ahead: what a fault among them makes vain."""
PRECISION = "fp32"
"""Of the golden that a drawn case is judged by first."""


class Spread(Generic[S]):
    """A judge of a campaign. What nobody expected, such as shrunk cases, the first seat judges."""

    def __init__(self, crew: Crew[S], judge: Callable[[S, Case, str], Outcome]) -> None:
        """judge: (seat, case, precision of the golden) -> its outcome."""
        self._crew, self._judge = crew, judge
        self._coming: deque[Case] = deque()
        self._known: dict[bytes, list[Outcome]] = defaultdict(list)

    def expect(self, cases: Sequence[Case]) -> None:
        """These come next, in this order; what was expected before does not."""
        self._coming = deque(cases)
        self._known.clear()

    def __call__(self, case: Case, precision: str) -> Outcome:
        if precision == PRECISION:
            if self._coming and case == self._coming[0]:
                self._judge_wave()
            # Once only: whether a fault shows again must be seen, not remembered.
            if known := self._known[case.encode()]:
                return known.pop()
        return self._judge(self._crew.seats[0], case, precision)

    def _judge_wave(self) -> None:
        count = min(len(self._coming), WAVE * len(self._crew.seats))
        wave = [[self._coming.popleft()] for _ in range(count)]
        for case, outcome in self._crew.share(wave, lambda s, c: self._judge(s, c, PRECISION)):
            self._known[case.encode()].append(outcome)
