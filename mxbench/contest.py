"""What is ranked, who hands in, and what must be equal for two times to be comparable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .case import Case, load_suite
from .points import SUITE
from .record import Record
from .rules import ContestRule
from .workspace import Workspace

RANKED = {"nsa": "performance"}
"""Suites whose times are ranked where they are not the gate's: the rule ranks nsa at 64K."""


@dataclass(frozen=True)
class HandIn:
    """One entry of the contest."""

    name: str
    records: tuple[Record, ...]
    """Everything its journals hold, oldest first."""
    hashes: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """(operator, kernel) -> hash of the source that was handed in, where there is a source."""
    faults: tuple[str, ...] = ()
    """What was wrong with its files, such as damaged lines: any keeps it from being ranked."""


@dataclass(frozen=True)
class Contest:
    """What is ranked: one operator under one rule."""

    rule: ContestRule
    op: str
    functional: tuple[Case, ...]
    """Cases of the gate and the function points."""
    ranked: tuple[Case, ...]
    """Cases whose times are ranked; may be the same."""
    kernel: str | None = None
    """Whose records count; None for the one kernel beside the rule's baseline."""
    cpu: bool = False
    """Whether CPUs take part: in tables of their own, which are no performance claim."""


@dataclass(frozen=True)
class Where:
    """What must be equal for two times to be comparable."""

    device: str
    sms: int
    gib: int
    """Device memory: a slice of a card has a share of both."""
    rule: str
    cpu: bool = False

    def __str__(self) -> str:
        claim = " (CPU: no performance claim)" if self.cpu else ""
        return f"{self.device}{claim}, {self.sms} units, {self.gib} GiB, rule {self.rule}"


def load(
    workspace: Workspace,
    rule: ContestRule,
    op: str,
    suite: str | None = None,
    kernel: str | None = None,
) -> Contest:
    """The contest of one operator, with the cases of the workspace's suites.

    Args:
        suite: whose times are ranked; None for the rule's (see RANKED).
        kernel: whose records count; None for the one kernel beside the rule's baseline.

    Raises:
        MxbenchError: there is no such suite, with the nearest.
    """
    functional = load_suite(workspace, op, SUITE).cases
    ranked = load_suite(workspace, op, suite or RANKED.get(op, SUITE)).cases
    return Contest(rule, op, functional, ranked, kernel)
