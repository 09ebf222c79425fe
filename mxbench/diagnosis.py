"""What a test of a case's tolerances found: wrong kernels caught and right ones let through."""

from __future__ import annotations

import msgspec

MARGIN = 3.0
"""Times the simulated rounding that a right kernel may be off by."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One wrong kernel against both verdicts."""

    mistake: str
    official: bool
    """Whether the official tolerance catches it."""
    strict: bool
    """Whether the strict one does."""
    rms: float
    """||mutant - golden|| / ||golden||."""
    row: float
    """The same of the worst row."""


class Honest(msgspec.Struct, frozen=True, kw_only=True):
    """Right kernels, each rounding in its own way."""

    tried: int
    official: int
    """How many pass the official tolerance."""
    strict: int
    """How many pass the strict one."""
    rms: float
    """The largest error of any: what rounding alone may bring."""
    row: float


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """All findings of one case. Sent from the worker."""

    findings: list[Finding] = []
    honest: Honest | None = None
    rms_limit: float = 0.0
    """The strict tolerance's limits."""
    row_limit: float = 0.0
    problem: str = ""
    """Why there are no findings."""

    unchanged: list[str] = []
    """Mistakes that this case cannot show: the result would be the same."""

    def escaped(self) -> list[Finding]:
        """Mistakes that the strict verdict lets through."""
        return [f for f in self.findings if not f.strict]

    def distinguishable(self, finding: Finding) -> bool:
        """Whether a mistake is larger, by either measure, than right kernels' rounding may get.

        A limit closer than MARGIN to that rounding would fail right kernels now and then.
        """
        if self.honest is None:
            return True
        return finding.rms > MARGIN * self.honest.rms or finding.row > MARGIN * self.honest.row
