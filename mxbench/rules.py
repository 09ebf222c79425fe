"""A contest's rule: how often to warm up and repeat, how to aggregate, what to reach and earn."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from . import jsonfile
from .case import Case
from .errors import MxbenchError, nearest
from .jsonfile import Source
from .suitefile import Timing
from .workspace import Workspace

DEFAULT_RULE = "xh-202608"

OpName = Literal["moe", "mla", "nsa"]


class CountException(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Other counts for the cases of `op` whose parameter `param` is at least `min`."""

    op: OpName
    param: str
    min: int
    warmup: Annotated[int, msgspec.Meta(ge=0)]
    repeat: Annotated[int, msgspec.Meta(ge=1)]


class Counts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How often a kernel is called: untimed, then timed."""

    default: Timing
    exceptions: tuple[CountException, ...] = ()
    from_case: bool = False
    """Whether a case's own `timing` goes before the default."""


class Gate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a hand-in must reach to be ranked at all."""

    pass_rate: Annotated[float, msgspec.Meta(gt=0, le=1)]
    faster_than: str | None = None
    """A kernel whose mean time it must beat."""


class Score(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Points of one operator."""

    part: str
    function: Annotated[float, msgspec.Meta(ge=0)]
    """Points for the functional suite, pro rata of the cases passed."""
    ranks: tuple[float, ...]
    """Points for rank 1, 2, ... by mean time."""


class ContestRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One rule file of `cases/rules/`."""

    schema: Literal[1]
    name: str
    title: str
    counts: Counts
    aggregate: Literal["mean", "median"]
    ties: Literal["better", "worse"] = "better"
    """Which rank hand-ins with equal times share: of two behind the first, 2 or 3."""
    gate: Gate
    scores: dict[OpName, Score]
    technical_weight: Annotated[float, msgspec.Meta(ge=0, le=1)]
    ambiguities: tuple[str, ...] = ()
    """What the contest leaves open, with the choice made here; shown with every result."""

    def counts_for(self, case: Case) -> Timing:
        """Warm-up and repeat counts of a case under this rule."""
        for other in self.counts.exceptions:
            value = getattr(case.params, other.param, 0)
            if other.op == case.op and value >= other.min:
                return Timing(warmup=other.warmup, repeat=other.repeat)
        if self.counts.from_case and case.timing is not None:
            return case.timing
        return self.counts.default


def names(workspace: Workspace) -> list[str]:
    """The rules of the workspace."""
    return sorted(file.stem for file in (workspace.cases / "rules").glob("*.json"))


def load(workspace: Workspace, name: str = DEFAULT_RULE) -> ContestRule:
    """Rule `name` of `cases/rules/`.

    Raises:
        MxbenchError: exit code 2; there is none (with the nearest name), or its file has a fault
            (with the file, the place in it and what was expected).
    """
    known = names(workspace)
    if name not in known:
        raise MxbenchError(f"unknown rule {name!r}", nearest(name, known))
    file = workspace.cases / "rules" / f"{name}.json"
    shown = f"cases/rules/{file.name}"
    rule = jsonfile.convert(jsonfile.read(file, shown), ContestRule, Source(shown))
    if rule.name != name:
        raise MxbenchError(
            f"{shown}: $.name: {rule.name!r} is not the file's name", f"write {name}"
        )
    return rule


def changed(rule: ContestRule, **choices: object) -> ContestRule:
    """`rule` with some of what it leaves open decided otherwise; None keeps the file's choice.

    Raises:
        MxbenchError: a choice the rule does not know.
    """
    made = {name: value for name, value in choices.items() if value is not None}
    content = {**msgspec.to_builtins(rule), **made}
    return jsonfile.convert(content, ContestRule, Source("the options"))
