"""Pass rates. Pure: records in, figures out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .record import Record
from .verdict import Status

GATE = 0.99
"""Share of the functional suite that the contest's rules ask for."""


@dataclass(frozen=True)
class Tally:
    """How many of a group of cases came to what. A skip is never a pass: it stays in `total`."""

    total: int
    """Cases that were asked for, whether they ran or not."""
    passed: int
    strict: int
    """Passed the strict tolerance as well as the official one."""
    failed: int
    skipped: int

    @property
    def not_run(self) -> int:
        """Cases that an interruption or --fail-fast left out."""
        return self.total - self.passed - self.failed - self.skipped

    @property
    def share(self) -> float:
        """Share of all cases that passed."""
        return self.passed / self.total if self.total else 0.0

    @property
    def meets_gate(self) -> bool:
        return self.total > 0 and self.share >= GATE


def tally(records: Iterable[Record], total: int | None = None) -> Tally:
    """Count the verdicts of `records`, out of `total` cases (default: as many as there are)."""
    found = list(records)
    return Tally(
        total=len(found) if total is None else total,
        passed=sum(r.passed for r in found),
        strict=sum(r.passed and r.strict is Status.PASSED for r in found),
        failed=sum(not r.passed and not r.skipped for r in found),
        skipped=sum(r.skipped for r in found),
    )


def by_suite(
    records: Sequence[Record], planned: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], Tally]:
    """A tally for each (operator, suite) of `planned`, which has one entry for each case."""
    return {
        key: tally((r for r in records if (r.op, r.suite) == key), total)
        for key, total in Counter(planned).items()
    }
