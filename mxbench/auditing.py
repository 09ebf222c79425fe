"""Does a hand-in's journal add up? Pure: a list of faults, empty if it does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from .case import Case
from .contest import Contest, HandIn, Where
from .record import Record
from .rules import ContestRule


def newest(records: Sequence[Record]) -> dict[str, Record]:
    """The newest record of each case; run ids begin with the time, lines of a run are in order."""
    return {r.id: r for r in sorted(records, key=lambda r: r.run)}


def faults(
    contest: Contest, where: Where, hand_in: HandIn, kernel: str, records: Sequence[Record]
) -> list[str]:
    """Every way in which the journal does not add up."""
    faults = []
    if where.rule != contest.rule.name:
        faults.append(f"timed under rule {where.rule}, not {contest.rule.name}")
    if any(r.target == "cpu" for r in records) and not contest.cpu:
        faults.append("computed on a CPU: its times are no performance claim")
    mine = [r for r in records if r.kernel == kernel]
    faults += _hash_faults(contest.op, hand_in, kernel, mine)
    verdicts, times = newest(mine), newest([r for r in mine if r.timing is not None])
    faults += _case_faults(contest.functional, verdicts, "record")
    passed = [c for c in contest.ranked if _passes(verdicts.get(c.id))]
    faults += _case_faults(passed, times, "time")
    for case in contest.ranked:
        if case.id in times and times[case.id].target != "cpu":
            faults += _count_faults(contest.rule, case, times[case.id])
    return _shortened(faults)


def _passes(record: Record | None) -> bool:
    """Whether a time is to be expected of a case; one that nobody ran should have one, too."""
    return record is None or record.passed


def _hash_faults(op: str, hand_in: HandIn, kernel: str, mine: Sequence[Record]) -> list[str]:
    hashes = list(dict.fromkeys(r.kernel_sha for r in mine))
    if len(hashes) > 1:
        return [f"records of {len(hashes)} sources of {kernel} ({', '.join(hashes)})"]
    handed_in = hand_in.hashes.get((op, kernel))
    if hashes and handed_in is not None and handed_in != hashes[0]:
        return [f"the source of {kernel} ({handed_in}) is not the one measured ({hashes[0]})"]
    return []


def _case_faults(cases: Sequence[Case], records: Mapping[str, Record], what: str) -> list[str]:
    faults = []
    for case in cases:
        found = records.get(case.id)
        if found is None:
            faults.append(f"no {what} of {case.id}")
        elif (found.params, found.dtype) != (msgspec.to_builtins(case.params), case.dtype):
            faults.append(f"{case.id} was run with other parameters than the suite's")
    return faults


def _count_faults(rule: ContestRule, case: Case, record: Record) -> list[str]:
    timing, wanted = record.timing, rule.counts_for(case)
    assert timing is not None
    faults = []
    if (timing.warmup, timing.repeat) != (wanted.warmup, wanted.repeat):
        faults.append(
            f"{case.id} was timed with {timing.warmup} warm-ups and {timing.repeat} runs, "
            f"the rule asks for {wanted.warmup} and {wanted.repeat}"
        )
    if timing.mode != "eager":
        faults.append(f"{case.id} was timed as {timing.mode}, not as calls of the kernel")
    return faults


def _shortened(faults: Sequence[str], most: int = 4) -> list[str]:
    """The first few of many alike."""
    if len(faults) <= most:
        return list(faults)
    return [*faults[:most], f"and {len(faults) - most} more faults"]
