"""Tables, summaries and progress on the terminal. Computes nothing."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO, Any, Protocol

from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from .record import Record
from .score import GATE, Tally
from .verdict import Status

PLAIN_WIDTH = 100_000  # off a terminal nothing is wrapped or cut

STYLES = {Status.PASSED: "green", Status.SKIPPED: "yellow"}
GIB, MIB = 1 << 30, 1 << 20


def console(file: IO[str] | None = None, *, stderr: bool = False) -> Console:
    """A console for stdout (or stderr, or `file`): plain off a terminal and under NO_COLOR."""
    file = file or (sys.stderr if stderr else sys.stdout)
    terminal = file.isatty()
    return Console(
        file=file,
        width=None if terminal else PLAIN_WIDTH,
        # rich drops colours under NO_COLOR but keeps bold and the like; here nothing stays.
        color_system="auto" if terminal and not os.environ.get("NO_COLOR") else None,
        highlight=False,
        markup=False,
        emoji=False,
    )


def size(count: int) -> str:
    """Bytes in MiB or GiB."""
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / MIB:.1f} MiB"


def plain_table(*columns: str, title: str = "", numbers: Iterable[str] = ()) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    table.title_style = "bold"
    for column in columns:
        right = column in numbers
        table.add_column(
            column, justify="right" if right else "left", no_wrap=right, overflow="fold"
        )
    return table


# --- verdicts -----------------------------------------------------------------------------------

_FIGURES = ("rms error", "max abs", "worst row", "matched", "seconds")


def verdict_table(records: Sequence[Record], title: str) -> Table:
    """One row for each record: verdicts and error figures."""
    table = plain_table(
        "case", "kernel", "status", "strict", *_FIGURES, title=title, numbers=_FIGURES
    )
    for record in records:
        table.add_row(
            record.case,
            record.kernel,
            _status(record.status),
            _status(record.strict) if record.strict else "",
            *_figures(record),
        )
    return table


def _status(status: Status) -> Text:
    return Text(status.value, style=STYLES.get(status, "bold red"), no_wrap=True)


def _figures(record: Record) -> list[str]:
    seconds = f"{sum(record.seconds.values()):.1f}" if record.seconds else ""
    if record.errors is None:
        return ["", "", "", "", seconds]
    e = record.errors
    return [
        f"{e.rms_ratio:.1e}",
        f"{e.max_abs:.1e}",
        f"{e.worst_row_rms_ratio:.1e}",
        _percent(e.matched),
        seconds,
    ]


def _percent(share: float) -> str:
    """Never rounded up to 100 %."""
    return "100 %" if share == 1 else f"{min(share, 0.9999):.2%}".replace("%", " %")


def verdict_line(record: Record) -> str:
    """One finished case and the schedules that ran, for -v."""
    strict = f" (strict {record.strict.value})" if record.strict else ""
    line = f"{record.status.value}{strict} {record.id} [{record.kernel}]"
    for program, chosen in record.schedule.items():
        line += f"\n  {program}: {' '.join(f'{k}={v}' for k, v in chosen.items())}"
    return line


def summary_line(op: str, suite: str, tally: Tally, *, gate: bool) -> Text:
    """`mla functional: 31/31 passed official (100 %), 31/31 strict, 0 skipped; gate 99 %: met`."""
    line = Text(f"{op} {suite}: ", style="bold")
    style = "green" if tally.passed == tally.total else "red" if tally.failed else "yellow"
    line.append(f"{tally.passed}/{tally.total} passed official", style)
    line.append(f" ({_percent(tally.share)}), {tally.strict}/{tally.total} strict", "not bold")
    line.append(f", {tally.failed} failed, {tally.skipped} skipped", "not bold")
    if tally.not_run:
        line.append(f", {tally.not_run} not run", "not bold yellow")
    if gate:
        met = tally.meets_gate
        line.append(f"; gate {GATE:.0%}: ".replace("%", " %"), "not bold")
        line.append("met" if met else "not met", "green" if met else "red")
    return line


def failure_block(record: Record, command: str, others: int = 0) -> Text:
    """A case that did not pass both tolerances: why, and how to run it again.

    `others`: how many more cases failed for the very same reason.
    """
    status = record.status
    if record.passed and record.strict is not None:
        head = Text(f"strict {record.strict.value}", style="yellow")
    else:
        head = Text(status.value, style=STYLES.get(status, "bold red"))
    head.append(f"  {record.id}  [{record.kernel}]", "bold")
    head.append(f"\n  {record.reason}\n  ", "not bold")
    head.append(command, "cyan not bold")
    if others:
        head.append(f"\n  and {others} more for the same reason", "yellow not bold")
    return head


def skip_line(record: Record) -> Text:
    """A case that was not tried, and why."""
    line = Text("SKIPPED", style=STYLES[Status.SKIPPED])
    return line.append(f"  {record.id}  {record.reason}", "default not bold")


# --- progress -----------------------------------------------------------------------------------


class Meter(Protocol):
    """Where a run's progress goes."""

    def note(self, text: str) -> None:
        """Say something beside the bar."""

    def phase(self, label: str, total: float) -> None:
        """Begin a phase of `total` steps."""

    def at(self, done: float, label: str = "") -> None:
        """`done` steps of the phase are done; the current one is `label`."""


class Silent:
    """No bar; notes only if wanted."""

    def __init__(self, notes: bool) -> None:
        self._notes = notes

    def note(self, text: str) -> None:
        if self._notes:
            print(text, file=sys.stderr, flush=True)

    def phase(self, label: str, total: float) -> None:
        pass

    def at(self, done: float, label: str = "") -> None:
        pass


class _Bar:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None

    def note(self, text: str) -> None:
        self._progress.console.print(text)

    def phase(self, label: str, total: float) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(label, total=total, label="")

    def at(self, done: float, label: str = "") -> None:
        if self._task is not None:
            self._progress.update(self._task, completed=done, label=label)


@contextlib.contextmanager
def meter(*, quiet: bool) -> Iterator[Meter]:
    """A progress bar with the time left on stderr, if that is a terminal; else notes alone."""
    if quiet or not sys.stderr.isatty():
        yield Silent(notes=not quiet)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[label]}"),
    )
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:
        yield _Bar(progress)


# --- lists --------------------------------------------------------------------------------------


def rows(
    columns: Sequence[str], lines: Iterable[Sequence[str]], numbers: Iterable[str] = ()
) -> Table:
    """A plain table."""
    table = plain_table(*columns, numbers=numbers)
    for line in lines:
        table.add_row(*(Text(cell) for cell in line))
    return table


def pairs(fields: Mapping[str, Any]) -> Table:
    """Names and values, one pair a line; absent values left out."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in fields.items():
        if value not in (None, "", {}):
            table.add_row(Text(name), Text(str(value)))
    return table
