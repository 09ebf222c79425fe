"""A contest's points on the terminal. Computes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from . import points
from .points import Standing
from .rules import ContestRule
from .view import plain_table
from .view_perf import milliseconds


def blocks(
    rule: ContestRule,
    standings: Sequence[Standing],
    choices: Sequence[Mapping[str, int]],
    device: str,
) -> Iterator[RenderableType]:
    """Gates and function points, what ranks are worth, the total, and what the rule left open."""
    yield _gates(rule, standings, device)
    final = [s for s in standings if s.part == "final"]
    if final:
        yield _what_if(rule, standings)
        yield from _rivals(final)
    for one in standings:
        if one.part != "final":
            worth = f"rank 1 earns {one.ranks[0]:g}, rank {len(one.ranks)} {one.ranks[-1]:g}"
            yield Text(f"{one.op} ({one.part}): {worth}, not weighted")
    if len(choices) > 1:
        yield _totals(rule, standings, choices)
    elif choices[0]:
        yield _total(rule, standings, choices[0])
    for text in rule.ambiguities:
        yield Text(f"open in the rule: {text}", "dim")


def _gates(rule: ContestRule, standings: Sequence[Standing], device: str) -> Table:
    numbers = ("passed", "mean ms", "function")
    beaten = f"faster than {rule.gate.faster_than}"
    made = plain_table(
        "operator", "kernel", *numbers[:2], beaten, "gate", "function",
        title=f"{rule.name} on {device}", numbers=numbers,
    )  # fmt: skip
    for one in standings:
        faster = {None: "not known", True: "yes", False: "no"}[one.faster]
        if one.mean is not None and one.baseline is not None:
            faster += f" ({one.baseline / one.mean:.2f}x)"
        made.add_row(
            one.op,
            one.kernel,
            f"{one.tally.passed} of {one.tally.total}",
            milliseconds(one.mean) or "not timed",
            faster,
            Text("met", "green") if one.through else Text("not met", "red"),
            f"{one.function:g}",
        )
    return made


def _what_if(rule: ContestRule, standings: Sequence[Standing]) -> Table:
    """Rank -> weighted points of each of the final's operators, function points included."""
    final = [s for s in standings if s.part == "final"]
    names = [f"{s.op} alone" for s in final]
    made = plain_table(
        "rank", *names, title=f"final: {rule.technical_weight:g} x (function + rank)",
        numbers=("rank", *names),
    )  # fmt: skip
    for rank in range(1, max(len(s.ranks) for s in final) + 1):
        cells = [rule.technical_weight * (s.function + s.performance(rank)) for s in final]
        made.add_row(str(rank), *(f"{cell:.1f}" for cell in cells))
    return made


def _rivals(final: Sequence[Standing]) -> Iterator[Text]:
    """From which rank on one operator is worth more than the other at its best."""
    for rival in final:
        for favourite in final:
            if rival is favourite:
                continue
            rank = points.overtakes(rival, favourite, 1)
            if rank is not None:
                yield Text(f"{rival.op} at rank {rank} or better beats {favourite.op} at rank 1")


def _totals(
    rule: ContestRule, standings: Sequence[Standing], choices: Sequence[Mapping[str, int]]
) -> Table:
    """What each combination of supposed ranks comes to."""
    ops = list(choices[0])
    made = plain_table(
        *ops, "counts", "technical", "bonus", "points", title="supposing these ranks",
        numbers=(*ops, "technical", "bonus", "points"),
    )  # fmt: skip
    for ranks in choices:
        found = points.total(rule, standings, ranks)
        figures = (f"{found.technical:g}", f"{found.bonus:g}", f"{found.points:.1f}")
        made.add_row(*map(str, ranks.values()), found.best or "", *figures)
    return made


def _total(rule: ContestRule, standings: Sequence[Standing], ranks: Mapping[str, int]) -> Text:
    found = points.total(rule, standings, ranks)
    supposed = ", ".join(f"{op} rank {rank}" for op, rank in ranks.items())
    counted = f"{found.best} counts" if found.best else "no operator of the final"
    return Text(
        f"supposing {supposed}: {found.points:.1f} points = {rule.technical_weight:g} x "
        f"{found.technical:g} ({counted}) + {found.bonus:g} bonus; presentation and "
        "innovation apart",
        "bold",
    )
