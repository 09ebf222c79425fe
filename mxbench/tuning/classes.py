"""Shape classes: the cases that one entry of a schedule file serves, and what was tried for them.

Pure. A class is tuned by itself, with every other program as the files say.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal

import msgspec

from ..runner.protocol import Lookup
from ..runs import Step
from ..versus import Ratio
from . import space
from .space import Schedule, Values

Fate = Literal["waiting", "dropped", "crashed", "wrong", "slow", "raced"]
FINAL_CASES = 4
"""Cases that the final of a class is held on, from the smallest to the largest."""


class Trial(msgspec.Struct, kw_only=True):
    """One candidate, and what became of it."""

    use: Schedule
    fate: Fate = "waiting"
    """dropped: it cannot fit; crashed: no binary, or no answer; wrong: a verdict said so;
    slow: left behind; raced: in the final."""
    ratio: float | None = None
    """Its time over the default's, in the heats."""
    reason: str = ""

    @property
    def pace(self) -> float | None:
        """Its ratio, unless a verdict or a crash has ruled it out since."""
        return self.ratio if self.fate in ("slow", "raced") else None


@dataclass(frozen=True)
class Winner:
    """A schedule that is faster than the file's, and how sure that is."""

    use: Schedule
    ratio: Ratio
    """Over the default, geometric mean of the final's cases."""


@dataclass
class ShapeClass:
    """A program's entry in the schedule file, with the cases it serves."""

    program: str
    default: Schedule
    steps: list[Step]
    shapes: list[dict[str, Any]]
    values: Values = field(default_factory=dict)
    trials: list[Trial] = field(default_factory=list)
    winner: Winner | None = None
    decided: bool = False
    """Whether the final has been held."""

    @property
    def key(self) -> str:
        return f"{self.program} {space.key(self.default)}"

    @property
    def lead(self) -> Step:
        """The case of the heats: the most work."""
        return max(self.steps, key=lambda s: (s.case.work.flops, s.case.work.bytes))

    @property
    def finals(self) -> list[Step]:
        """The cases of the final: of many, an even choice that holds the least and most work."""
        by_work = sorted(self.steps, key=lambda s: (s.case.work.flops, s.case.work.bytes))
        if len(by_work) <= FINAL_CASES:
            return by_work
        last = len(by_work) - 1
        return [by_work[round(i * last / (FINAL_CASES - 1))] for i in range(FINAL_CASES)]

    @property
    def waiting(self) -> list[Trial]:
        return [t for t in self.trials if t.fate == "waiting"]

    def count(self, *fates: Fate) -> int:
        return sum(t.fate in fates for t in self.trials)

    def best(self) -> Trial | None:
        """The fastest in the heats so far."""
        return next(iter(_by_pace(self.trials)), None)

    def when(self) -> dict[str, Any]:
        """The condition of an entry that holds for the shapes of these cases, and no wider."""
        found: dict[str, Any] = {}
        for name in self.shapes[0]:
            seen = sorted({shape[name] for shape in self.shapes})
            found[name] = seen[0] if len(seen) == 1 else {"min": seen[0], "max": seen[-1]}
        return found


def group(
    surveys: Iterable[tuple[Step, Sequence[Lookup]]], programs: str | None
) -> list[ShapeClass]:
    """The classes that the look-ups of some calls belong to; only programs that match a glob."""
    found: dict[str, ShapeClass] = {}
    for step, lookups in surveys:
        for one in lookups:
            if programs is not None and not fnmatchcase(one.program, programs):
                continue
            made = ShapeClass(one.program, one.use, [], [])
            known = found.setdefault(made.key, made)
            if step not in known.steps:
                known.steps.append(step)
            if one.shape not in known.shapes:
                known.shapes.append(one.shape)
    return list(found.values())


KEPT, BEHIND, ALIKE = 4, 1.05, 1.02
"""Into the final come at most KEPT; nobody BEHIND times the best; nobody above ALIKE times the
default, which a heat of a few blocks cannot tell from equal."""


def finalists(trials: Sequence[Trial]) -> list[Trial]:
    """Who is raced to the end; the heats leave the others behind."""
    timed = _by_pace(trials)
    if not timed:
        return []
    limit = min(ALIKE, BEHIND * (timed[0].pace or 0.0))
    return [t for t in timed if (t.pace or 0.0) <= limit][:KEPT]


def better(trials: Sequence[Trial], most: int) -> list[Schedule]:
    """The schedules that beat the default in the heats, best first: worth combining."""
    return [t.use for t in _by_pace(trials) if (t.pace or 0.0) < 1][:most]


def _by_pace(trials: Sequence[Trial]) -> list[Trial]:
    """Those that were timed, fastest first."""
    return sorted((t for t in trials if t.pace is not None), key=lambda t: t.pace or 0.0)
