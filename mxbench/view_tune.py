"""A search on the terminal: the table while it runs, and what came of it. Computes nothing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from .device import DeviceInfo
from .tuning import space
from .tuning.classes import ShapeClass
from .tuning.search import Search
from .view import plain_table

_NUMBERS = ("space", "chosen", "dropped", "crashed", "wrong", "waiting", "best")
EXAMPLES = 3
"""Dropped candidates named for each reason."""


def progress(classes: Sequence[ShapeClass], phase: str) -> Table:
    """Each class's candidates so far."""
    made = plain_table("program", "cases", *_NUMBERS, "schedule", title=phase, numbers=_NUMBERS)
    for one in classes:
        made.add_row(one.program, str(len(one.steps)), *_counts(one), _state(one))
    return made


def _counts(one: ShapeClass) -> tuple[str, ...]:
    best = one.best()
    return (
        str(space.size(one.values)),
        str(len(one.trials)),
        str(one.count("dropped")),
        str(one.count("crashed")),
        str(one.count("wrong")),
        str(one.count("waiting")),
        "" if best is None or best.ratio is None else f"{best.ratio:.3f}",
    )


def _state(one: ShapeClass) -> Text:
    if one.winner is not None:
        found = one.winner.ratio
        gain = f"  {found.ratio:.4f} ({found.low:.4f}..{found.high:.4f})"
        return Text(space.describe(one.winner.use, one.default) + gain, "green")
    if one.decided:
        return Text("as it is", "yellow")
    best = one.best()
    return Text("" if best is None else space.describe(best.use, one.default), "dim")


def dry(search: Search, device: DeviceInfo) -> Iterator[RenderableType]:
    """The space of each class, and what is dropped before it is compiled."""
    for one in search.classes:
        head = Text(f"{one.program}", "bold")
        shapes = f"{len(one.steps)} case{'s' if len(one.steps) > 1 else ''}: {_when(one)}"
        head.append(f"  {shapes}", "not bold")
        for name, options in one.values.items():
            values = ", ".join(map(str, options[1:])) or "nothing else"
            head.append(f"\n  {name:<16} {options[0]}; {values}", "not bold")
        yield head
        left, dropped = one.count("waiting"), one.count("dropped")
        yield Text(
            f"  {space.size(one.values)} schedules, {len(one.trials)} chosen (single changes, then "
            f"pairs): {left} to compile, {dropped} dropped"
        )
        yield from _dropped(one)
    yield from notes(search)
    yield Text(
        f"for {device.name} ({device.kind}, {device.schedules}); nothing was compiled", "dim"
    )


def _when(one: ShapeClass) -> str:
    return json.dumps(one.when()).replace('"', "")


def _dropped(one: ShapeClass) -> Iterator[Text]:
    reasons = Counter(t.reason for t in one.trials if t.fate == "dropped")
    for reason, count in reasons.most_common():
        named = [space.describe(t.use, one.default) for t in one.trials if t.reason == reason]
        more = f" and {count - EXAMPLES} more" if count > EXAMPLES else ""
        shown = " | ".join(named[:EXAMPLES]) + more
        yield Text(f"  dropped  {reason}", "yellow").append(f"  [{shown}]", "dim")


def notes(search: Search) -> Iterator[Text]:
    for note in dict.fromkeys(search.notes):
        yield Text(f"note: {note}", "dim")


def result(search: Search, device: DeviceInfo, wrote: str) -> Iterator[RenderableType]:
    """What the search came to."""
    yield progress(search.classes, f"schedules of {device.name}: time over the default's")
    for one in search.classes:
        bad = [t for t in one.trials if t.fate in ("crashed", "wrong")]
        for trial in bad[:EXAMPLES]:
            line = Text(f"{trial.fate}  {one.program}  ", "red")
            line.append(space.describe(trial.use, one.default), "bold")
            yield line.append(f"\n  {trial.reason}", "not bold")
        if len(bad) > EXAMPLES:
            yield Text(f"  and {len(bad) - EXAMPLES} more of {one.program}", "dim")
    if search.gains:
        made = plain_table(
            "case", "ratio", "95 %", title="all winners together", numbers=("ratio",)
        )
        for name, found in search.gains:
            made.add_row(name, f"{found.ratio:.4f}", f"{found.low:.4f}..{found.high:.4f}")
        yield made
    yield from notes(search)
    yield Text(wrote, "bold")
