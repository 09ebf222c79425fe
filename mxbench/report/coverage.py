"""How much of each suite a kernel has done, and how: the pass rates of a report. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..record import Record
from ..score import Tally, tally
from .catalog import Catalog

AUTO = "auto"


@dataclass(frozen=True)
class Coverage:
    """One kernel on one suite."""

    op: str
    suite: str
    kernel: str
    """A kernel's name, or `auto` for the kernels that `--kernel auto` picks, together."""
    expected: tuple[str, ...] | None
    """The suite's cases of contracts that the kernel has, and those with a result; None if the
    workspace does not know the suite."""
    records: tuple[Record, ...]
    """Results of the suite's cases, in its order."""
    extra: tuple[Record, ...] = ()
    """Results of cases that were changed on the command line, or have changed in the file since."""
    parts: tuple[str, ...] = ()
    """The kernels that `auto` stands for."""

    @property
    def tally(self) -> Tally:
        """The verdicts; a case without a result stays in the total, as a skip does."""
        return tally(self.records, None if self.expected is None else len(self.expected))

    @property
    def missing(self) -> tuple[str, ...]:
        """Cases of the suite without a result."""
        done = {record.case for record in self.records}
        return tuple(name for name in self.expected or () if name not in done)

    @property
    def failed(self) -> int:
        return tally(self.records).failed

    @property
    def shas(self) -> tuple[str, ...]:
        """The sources that the results are of; more than one if the kernel changed in between."""
        return tuple(dict.fromkeys(r.kernel_sha for r in (*self.records, *self.extra)))


def coverages(records: Sequence[Record], catalog: Catalog) -> list[Coverage]:
    """A coverage for each operator, suite and kernel, the baseline last."""
    ordered = sorted(
        records, key=lambda r: (catalog.place(r), r.kernel == catalog.baseline, r.kernel)
    )
    suites: dict[tuple[str, str], list[Record]] = {}
    for record in ordered:
        suites.setdefault((record.op, record.suite), []).append(record)
    return [one for group in suites.values() for one in _of_suite(group, catalog)]


def _of_suite(records: list[Record], catalog: Catalog) -> list[Coverage]:
    op, suite = records[0].op, records[0].suite
    kernels = sorted({r.kernel for r in records}, key=lambda k: (k == catalog.baseline, k))
    found = [_one(op, suite, k, [r for r in records if r.kernel == k], catalog) for k in kernels]
    known = catalog.suite(op, suite)
    if known is None:
        return found
    target = records[0].target
    served = {case.name: catalog.served_by(case, target) for case in known.cases}
    parts = {kernel for kernel in served.values() if kernel in kernels}
    if len(parts) < 2:
        return found
    chosen = [r for r in records if catalog.case(r) and r.kernel == served[r.case]]
    auto = _one(op, suite, AUTO, chosen, catalog, tuple(sorted(parts)))
    return [auto, *found]


def _one(
    op: str,
    suite: str,
    kernel: str,
    records: list[Record],
    catalog: Catalog,
    parts: tuple[str, ...] = (),
) -> Coverage:
    known = catalog.suite(op, suite)
    if known is None:
        return Coverage(op, suite, kernel, None, tuple(records), parts=parts)
    inside = [r for r in records if catalog.case(r) is not None]
    extra = [r for r in records if catalog.case(r) is None]
    done = {record.case for record in inside}
    names = tuple(
        case.name
        for case in known.cases
        if case.name in done or catalog.serves(op, kernel, case.contract)
    )
    return Coverage(op, suite, kernel, names, tuple(inside), tuple(extra), parts)


def handed(found: Sequence[Coverage], catalog: Catalog) -> list[Coverage]:
    """Of each operator and suite, the line of what `--kernel auto` takes: what is handed in.

    Where that was not run, every line but the baseline's.
    """
    suites: dict[tuple[str, str], list[Coverage]] = {}
    for line in found:
        suites.setdefault((line.op, line.suite), []).append(line)
    return [line for lines in suites.values() for line in _handed(lines, catalog)]


def _handed(lines: Sequence[Coverage], catalog: Catalog) -> list[Coverage]:
    together = [line for line in lines if line.parts]
    own = [line for line in lines if line.kernel in served(line, catalog)]
    return together or own or [line for line in lines if line.kernel != catalog.baseline]


def served(line: Coverage, catalog: Catalog) -> set[str | None]:
    """The kernels that `--kernel auto` takes for a line's cases on the device that ran them."""
    cases = ((catalog.case(r), r.target) for r in line.records)
    return {catalog.served_by(case, target) for case, target in cases if case is not None}


def incomplete(found: Sequence[Coverage]) -> list[Coverage]:
    """Those with cases missing, but for a kernel that is only part of a complete `auto`."""
    whole = {
        (c.op, c.suite, part)
        for c in found
        if c.kernel == AUTO and not c.missing
        for part in c.parts
    }
    return [c for c in found if c.missing and (c.op, c.suite, c.kernel) not in whole]
