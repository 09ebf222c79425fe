"""An evaluation on the terminal: live while it runs, then what it came to. Computes nothing."""

from __future__ import annotations

import contextlib
import csv
import io
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta

from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from . import view
from .evaluation.ledger import Entry
from .evaluation.outcome import Apart
from .evaluation.snapshot import Snapshot

MOST_ROWS = 24
MOST_OFFENCES = 3
REFRESH = 0.5  # seconds
_LOAD = ("device", "model", "tasks", "busy", "now")


def headline(now: Snapshot) -> str:
    """`120 of 600 tasks done, 3 of them failed, 4 running; 0:10:00 so far, about 0:40:00 left`."""
    left = "" if now.left is None else f", about {_clock(now.left)} left"
    failed = f", {now.failed} of them without a complete journal" if now.failed else ""
    return (
        f"{now.done} of {now.total} tasks done{failed}, {now.running} running; "
        f"{_clock(now.seconds)} so far{left}"
    )


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def live(now: Snapshot) -> RenderableType:
    """What is shown while it runs."""
    table = view.plain_table(*_LOAD, numbers=("tasks", "busy"))
    for load in now.loads[:MOST_ROWS]:
        table.add_row(
            load.label,
            load.model,
            str(load.served),
            f"{min(load.busy, 1):.0%}",
            load.now if load.trusted else "no more tasks: its baseline drifts",
            style=None if load.trusted else "yellow",
        )
    more = len(now.loads) - MOST_ROWS
    rest = [Text(f"and {more} more devices", "dim")] if more > 0 else []
    return Group(Text(headline(now), "bold"), table, *rest)


@contextlib.contextmanager
def watcher(*, quiet: bool) -> Iterator[Callable[[Snapshot, Sequence[str | Entry]], None]]:
    """Shows a snapshot and prints notes, on stderr: live on a terminal, else notes alone."""
    if quiet or not sys.stderr.isatty():
        yield lambda now, news: None if quiet else _print(now, news)
        return
    console = view.console(stderr=True)
    last = 0.0
    with Live(console=console, transient=True, auto_refresh=False) as screen:

        def show(now: Snapshot, news: Sequence[str | Entry]) -> None:
            nonlocal last
            for text in _lines(now, news):
                screen.console.print(text)
            if time.monotonic() - last > REFRESH:
                last = time.monotonic()
                screen.update(live(now), refresh=True)

        yield show


def _print(now: Snapshot, news: Sequence[str | Entry]) -> None:
    for text in _lines(now, news):
        print(text, file=sys.stderr, flush=True)


def _lines(now: Snapshot, news: Sequence[str | Entry]) -> Iterator[str]:
    """Notes as they are, results as lines numbered up to what is done now."""
    number = now.done - sum(isinstance(one, Entry) for one in news)
    for one in news:
        number += isinstance(one, Entry)
        yield f"note: {one}" if isinstance(one, str) else result_line(one, number, now.total)


def result_line(line: Entry, done: int, total: int) -> str:
    """`[12/300] name mla: 31 of 31 passed, 1.83x the baseline`."""
    head = f"[{done}/{total}] {line.work}: "
    if line.status != "finished":
        return f"{head}{line.status}: {line.reason}"
    times = list(line.ratios.values())
    ratio = f", {statistics.geometric_mean(times):.2f}x the baseline" if times else ""
    banned = f", {len(line.lint)} banned" if line.lint else ""
    return f"{head}{line.passed} of {line.cases} passed{ratio}{banned}"


# --- afterwards ---------------------------------------------------------------------------------


def failures(results: Sequence[Entry]) -> Iterator[Text]:
    """Who has no complete journal, and what the lint found."""
    for line in results:
        if line.failed:
            text = Text(line.status, "red").append(f"  {line.work}", "bold")
            yield text.append(f"\n  {line.reason}", "not bold")
        if line.lint:
            more = len(line.lint) - MOST_OFFENCES
            shown = [*line.lint[:MOST_OFFENCES], *([f"and {more} more"] if more > 0 else [])]
            text = Text("banned", "yellow").append(f"  {line.work}", "bold")
            yield text.append("".join(f"\n  {offence}" for offence in shown), "not bold default")


def apart_table(found: Sequence[Apart]) -> RenderableType:
    """Spread between machines."""
    columns = ("hand-in", "op", "machines", "speed-ups", "spread", "baseline's")
    table = view.plain_table(
        *columns, title="the same on several machines", numbers=("spread", "baseline's")
    )
    for one in found:
        ups = " ".join(f"{value:.3f}x" for value in one.speedups)
        table.add_row(
            one.hand_in,
            one.op,
            " ".join(one.machines),
            ups,
            f"{one.ratio:.1%}",
            f"{one.baseline:.1%}",
        )
    return table


def apart_csv(found: Sequence[Apart]) -> str:
    """The same for a spreadsheet."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["hand-in", "op", "machine", "speed-up", "spread", "spread of the baseline"])
    for one in found:
        for machine, speedup in zip(one.machines, one.speedups, strict=True):
            row = [one.hand_in, one.op, machine, f"{speedup:.6g}"]
            name = row[0]
            row[0] = f"'{name}" if name[:1] in "=+-@" else name  # a spreadsheet would compute it
            writer.writerow([*row, f"{one.ratio:.6g}", f"{one.baseline:.6g}"])
    return text.getvalue()
