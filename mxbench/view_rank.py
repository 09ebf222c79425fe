"""A ranking on the terminal, as Markdown, as CSV and as JSON. Computes nothing."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from .ranking import Contest, Place, Table, Unranked
from .view import plain_table
from .view_perf import milliseconds

_HEAD = (
    "rank", "hand-in", "kernel", "passed", "mean ms", "speed-up", "judge", "function", "points",
    "why not",
)  # fmt: skip
_NUMBERS = ("rank", "passed", "mean ms", "speed-up", "judge", "function", "points")


def cells(place: Place) -> tuple[str, ...]:
    """A hand-in's line as text."""
    one = place.standing
    return (
        "" if place.rank is None else str(place.rank),
        place.hand_in,
        place.kernel,
        f"{one.tally.passed} of {one.tally.total}",
        milliseconds(one.mean),
        "" if place.speedup is None else f"{place.speedup:.2f}x",
        "" if place.judge is None else f"{place.judge:.1f}",
        f"{one.function:.4g}",
        f"{place.points:.4g}",
        place.why,
    )


def title(contest: Contest, table: Table) -> str:
    """What a table is about."""
    return f"{contest.op}: {table.where}"


def blocks(
    contest: Contest, tables: Sequence[Table], missing: Sequence[Unranked]
) -> Iterator[RenderableType]:
    """A table for each device, slice and rule; then who is not ranked; then each case's times."""
    if len(tables) > 1:
        yield Text("measured differently, so ranked apart, never together:", "yellow")
    for table in tables:
        made = plain_table(*_HEAD, title=title(contest, table), numbers=_NUMBERS)
        for place in table.places:
            made.add_row(*cells(place), style=None if place.rank else "dim")
        yield made
        for one in table.unranked:
            yield _unranked(one)
    for one in missing:
        yield _unranked(one)
    for text in contest.rule.ambiguities:
        yield Text(f"open in the rule: {text}", "dim")


def _unranked(one: Unranked) -> Text:
    line = Text("not ranked", "red").append(f"  {one.hand_in}", "bold")
    return line.append("".join(f"\n  {fault}" for fault in one.faults), "not bold")


def markdown(contest: Contest, tables: Sequence[Table], missing: Sequence[Unranked]) -> str:
    """The same as a Markdown document."""
    from tabulate import tabulate

    parts = [f"# {contest.rule.name}, {contest.op}"]
    for table in tables:
        rows = [[_escaped(cell) for cell in cells(place)] for place in table.places]
        aligned = ["right" if name in _NUMBERS else "left" for name in _HEAD]
        made = tabulate(
            rows, _HEAD, "pipe", disable_numparse=True, colalign=aligned if rows else ()
        )
        parts += [f"## {_escaped(str(table.where))}", made]
        parts += [_listed(one) for one in table.unranked]
    parts += [_listed(one) for one in missing]
    open_points = "\n".join(f"- {_escaped(text)}" for text in contest.rule.ambiguities)
    if open_points:
        parts.append("What the rule leaves open:\n\n" + open_points)
    return "\n\n".join(parts) + "\n"


def _listed(one: Unranked) -> str:
    return f"Not ranked: **{_escaped(one.hand_in)}**: {_escaped('; '.join(one.faults))}"


def _escaped(text: str) -> str:
    """Text of strangers inside a table's cell."""
    for char in "\\|<*_`[":
        text = text.replace(char, f"\\{char}")
    return " ".join(text.split())


def comma_separated(tables: Sequence[Table], missing: Sequence[Unranked]) -> str:
    """One line for each hand-in, unranked ones too; times of the cases in columns of their own."""
    ids = list(dict.fromkeys(i for t in tables for p in t.places for i in p.means))
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("device", "units", "gib", "rule", *_HEAD, *(f"{i} ms" for i in ids)))
    for table in tables:
        where = (table.where.device, table.where.sms, table.where.gib, table.where.rule)
        for place in table.places:
            means = (place.means.get(i, "") for i in ids)
            writer.writerow((*where, *map(_harmless, _plain(place)), *means))
        for one in table.unranked:
            writer.writerow((*where, *_line(one)))
    for one in missing:
        writer.writerow(("", "", "", "", *_line(one)))
    return file.getvalue()


def _plain(place: Place) -> tuple[str, ...]:
    """`cells`, but figures in full and without units."""
    one = place.standing
    full = {
        "mean ms": one.mean,
        "speed-up": place.speedup,
        "judge": place.judge,
        "function": one.function,
        "points": place.points,
    }
    found = dict(zip(_HEAD, cells(place), strict=True))
    found |= {name: "" if value is None else f"{value:.6g}" for name, value in full.items()}
    return tuple(found.values())


def _line(one: Unranked) -> tuple[str, ...]:
    found = dict.fromkeys(_HEAD, "")
    found |= {"hand-in": one.hand_in, "why not": "; ".join(one.faults)}
    return tuple(map(_harmless, found.values()))


def _harmless(text: str) -> str:
    """A spreadsheet runs a cell that begins like a formula; names come from strangers."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text


def document(
    contest: Contest, tables: Sequence[Table], missing: Sequence[Unranked]
) -> dict[str, Any]:
    """The same for programs."""
    return {
        "schema": 1,
        "rule": contest.rule.name,
        "op": contest.op,
        "tables": [
            {
                "where": asdict(table.where),
                "places": [_object(place) for place in table.places],
                "unranked": [asdict(one) for one in table.unranked],
            }
            for table in tables
        ],
        "missing": [asdict(one) for one in missing],
        "ambiguities": contest.rule.ambiguities,
    }


def _object(place: Place) -> dict[str, Any]:
    one = place.standing
    return {
        "rank": place.rank,
        "hand_in": place.hand_in,
        "kernel": place.kernel,
        "passed": one.tally.passed,
        "total": one.tally.total,
        "mean": one.mean,
        "baseline": one.baseline,
        "speedup": place.speedup,
        "judge": place.judge,
        "function": one.function,
        "points": place.points,
        "through": one.through,
        "why": place.why,
        "means": place.means,
    }
