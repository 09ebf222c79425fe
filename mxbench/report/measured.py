"""Timed records with what follows from them: rates, shares, speed-ups. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..measurement import Timing
from ..record import Record
from ..stats import geometric_mean
from .catalog import Catalog
from .coverage import Coverage, coverages
from .journals import Device, case_key, is_cpu


@dataclass(frozen=True)
class Measured:
    """A passed and timed record."""

    record: Record
    timing: Timing
    baseline: Record | None
    """The baseline's result of the same case under the same rule, unless this is it."""

    @property
    def mean(self) -> float:
        return self.timing.mean

    @property
    def tflops(self) -> float:
        """Least FLOPs of the call over its mean time, 1e12 a second."""
        return self.record.work.flops / self.mean / 1e9

    @property
    def gbps(self) -> float:
        """Least bytes of the call over its mean time, 1e9 a second."""
        return self.record.work.bytes / self.mean / 1e6

    @property
    def share(self) -> float | None:
        """Share of the floor: 1 is as fast as the peaks allow."""
        return self.record.bound.share if self.record.bound else None

    @property
    def floor(self) -> float | None:
        return self.record.bound.floor if self.record.bound else None

    @property
    def limit(self) -> str | None:
        return self.record.bound.limit if self.record.bound else None

    @property
    def speedup(self) -> float | None:
        """How many times faster than the baseline."""
        if self.baseline is None or self.baseline.timing is None:
            return None
        return self.baseline.timing.mean / self.mean

    @property
    def band(self) -> tuple[float, float] | None:
        """p10 and p90 of the single calls, scaled from their own mean to the headline's.

        Single calls carry the cost of their events, so p10 of short ones lies above the headline:
        only their spread says something about it.
        """
        t = self.timing
        if t.p10 is None or t.p90 is None or not t.per_call_mean or t.repeat < 2:
            return None
        scale = t.mean / t.per_call_mean
        return t.p10 * scale, t.p90 * scale

    @property
    def variation(self) -> float | None:
        """Standard deviation of the single calls over their mean."""
        t = self.timing
        if t.std is None or not t.per_call_mean or t.repeat < 2:
            return None
        return t.std / t.per_call_mean


@dataclass(frozen=True)
class Timings:
    """All that a device's performance report shows."""

    found: tuple[Coverage, ...]
    """Results under the rule, timed or failed, a line for each suite and kernel."""
    by_key: dict[tuple[str, str, str], tuple[Measured, ...]]
    """(op, suite, kernel) -> its timings, in the suite's order."""
    superseded: int
    replays: int
    """Timings of mode `graph` that are left out, as the same case was timed call by call too."""
    other_rules: dict[str, int]
    """Timings under other rules, which are left out: rule -> how many."""
    cpu: int
    """CPU timings, which are left out."""

    def of(self, line: Coverage) -> tuple[Measured, ...]:
        """The timings of one line; of `auto`, those of the kernels it stands for."""
        if not line.parts:
            return self.by_key.get((line.op, line.suite, line.kernel), ())
        chosen = {id(record) for record in line.records}
        parts = (m for part in line.parts for m in self.by_key.get((line.op, line.suite, part), ()))
        return tuple(m for m in parts if id(m.record) in chosen)

    @property
    def all(self) -> list[Measured]:
        return [m for group in self.by_key.values() for m in group]


def timings(device: Device, catalog: Catalog) -> Timings:
    """The timings of a device under the catalog's rule; those of a CPU are counted, no more."""
    rule = catalog.rule.name
    timed = [r for records in device.journals for r in records if r.timing is not None]
    others: dict[str, int] = {}
    for record in timed:
        if record.rule != rule and not is_cpu(record):
            name = record.rule or "?"
            others[name] = others.get(name, 0) + 1
    # A passed record without a time is a check's; it says nothing about a time.
    kept, superseded = device.newest(
        lambda r: (case_key(r), _replayed(r)),
        lambda r: r.rule == rule and not is_cpu(r) and (r.timing is not None or not r.passed),
    )
    called = {case_key(r) for r in kept if not _replayed(r)}
    headlines = [r for r in kept if not (_replayed(r) and case_key(r) in called)]
    suites = {(r.op, r.suite) for r in headlines if r.timing is not None}
    lines = coverages([r for r in headlines if (r.op, r.suite) in suites], catalog)
    own = [line for line in lines if not line.parts]
    return Timings(
        found=tuple(lines),
        by_key={(c.op, c.suite, c.kernel): _measured(c, own, catalog.baseline) for c in own},
        superseded=superseded,
        replays=len(kept) - len(headlines),
        other_rules=others,
        cpu=sum(is_cpu(r) for r in timed),
    )


def _measured(line: Coverage, lines: Sequence[Coverage], baseline: str) -> tuple[Measured, ...]:
    """The passed and timed records of a line, each with the baseline's."""
    others = {
        _case(r): r
        for other in lines
        if (other.op, other.suite, other.kernel) == (line.op, line.suite, baseline)
        for r in (*other.records, *other.extra)
        if r.timing is not None and r.passed
    }
    return tuple(
        Measured(r, r.timing, None if line.kernel == baseline else others.get(_case(r)))
        for r in (*line.records, *line.extra)
        if r.timing is not None and r.passed
    )


def _case(record: Record) -> tuple[object, ...]:
    """What a kernel's and the baseline's time must share to be compared."""
    return record.case, record.dtype, repr(sorted(record.params.items())), _replayed(record)


def _replayed(record: Record) -> bool:
    """Whether its headline is a CUDA graph's replay: not what the rule times."""
    return record.timing is not None and record.timing.mode == "graph"


def speedups(group: Sequence[Measured]) -> list[float]:
    return [m.speedup for m in group if m.speedup is not None]


def mean_speedup(group: Sequence[Measured]) -> float | None:
    """Geometric mean over the cases that the baseline was timed on too; None without any."""
    found = speedups(group)
    return geometric_mean(found) if found else None


def differing_environments(group: Sequence[Measured]) -> int:
    """Pairs of kernel and baseline that were measured with different versions or settings."""
    return sum(m.baseline is not None and m.baseline.env != m.record.env for m in group)
