"""Tables of what a test of the tolerances found. Computes nothing but sums."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.table import Table
from rich.text import Text

from .case import Case
from .diagnosis import Diagnosis, Finding
from .view import plain_table

Found = Sequence[tuple[Case, Diagnosis]]

_NUMBERS = ("official", "strict", "right passed", "rounding", "limit", "worst row", "row limit")


def _caught(findings: Sequence[Finding], verdict: str) -> str:
    return f"{sum(getattr(one, verdict) for one in findings)} of {len(findings)}"


def table(found: Found, title: str) -> Table:
    """One row a case: mistakes caught by either verdict, right results passed, and the margin."""
    made = plain_table("case", *_NUMBERS, title=title, numbers=_NUMBERS)
    for case, diagnosis in found:
        honest = diagnosis.honest
        if honest is None:
            continue
        official = _caught(diagnosis.findings, "official")
        strict = _caught(diagnosis.findings, "strict")
        made.add_row(
            Text(f"{case.suite}/{case.name}"),
            Text(official, "yellow" if any(not f.official for f in diagnosis.findings) else ""),
            Text(strict, "yellow" if diagnosis.escaped() else ""),
            f"{honest.strict} of {honest.tried}",
            f"{honest.rms:.1e}",
            f"{diagnosis.rms_limit:.1e}",
            f"{honest.row:.1e}",
            f"{diagnosis.row_limit:.1e}",
        )
    return made


def notes(found: Found) -> Iterator[Text]:
    """Each mistake that the strict verdict misses, with its size; and cases without result."""
    escaped: dict[str, list[tuple[Case, Diagnosis, Finding]]] = {}
    for case, diagnosis in found:
        for finding in diagnosis.escaped():
            escaped.setdefault(finding.mistake, []).append((case, diagnosis, finding))
    for mistake, places in escaped.items():
        case, diagnosis, worst = max(places, key=lambda place: place[2].rms / place[1].rms_limit)
        assert diagnosis.honest is not None
        larger = worst.rms / diagnosis.honest.rms if diagnosis.honest.rms else float("inf")
        yield Text(
            f"escapes strict in {len(places)}: {mistake}; at most {worst.rms:.1e} rms, "
            f"{worst.rms / diagnosis.rms_limit:.0%} of the limit and {larger:.1f} times the "
            f"rounding of a right kernel ({case.name})",
            "yellow",
        )
    for case, diagnosis in found:
        if diagnosis.problem:
            yield Text(f"SKIPPED  {case.id}  {diagnosis.problem}", "yellow")


def summary(found: Found) -> Text:
    """Both verdicts over all cases."""
    every = [one for _, diagnosis in found for one in diagnosis.findings]
    tried = sum(d.honest.tried for _, d in found if d.honest)
    passed = sum(d.honest.strict for _, d in found if d.honest)
    return Text(
        f"wrong kernels caught: official {_caught(every, 'official')}, "
        f"strict {_caught(every, 'strict')}; right ones passed by strict: {passed} of {tried}",
        "bold",
    )
