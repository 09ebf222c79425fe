"""One screen of `watch`: verdicts that fit, and the first failure whole. Computes nothing."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from . import view
from .plan import reproduce
from .score import tally
from .verdict import Status
from .watching import Round

FRAME = 14
"""Lines of a screen that are not rows of the table."""
LEAST_ROWS = 3


def blocks(done: Round, seconds: float, height: int) -> Iterator[RenderableType]:
    """What one check found, in at most `height` lines where that can be done."""
    session = done.session
    records = session.records
    if records and session.device is not None:
        rows = max(LEAST_ROWS, height - FRAME)
        bad = [r for r in records if not (r.passed and r.strict is Status.PASSED)]
        good = [r for r in records if r not in bad]
        shown = [*good[: max(0, rows - len(bad))], *bad[:rows]]
        left = len(records) - len(shown)
        where = f"{session.device.name} ({session.device.kind})"
        title = f"{session.request.op} {done.kernel} on {where}"
        yield view.verdict_table(shown, title + (f", {left} more passed" if left else ""))
        for step, record in session.finished:
            if record in bad and not record.skipped:
                command = reproduce(step.case, step.kernel.name, session.device.kind)
                yield view.failure_block(record, command)
                break
    yield _verdict(done, seconds)


def _verdict(done: Round, seconds: float) -> Text:
    """The line that says it all."""
    tail = f"  {seconds:.1f} s after the save; watching, Ctrl-C ends"
    if done.problem is not None:
        text = f"{done.kernel}: {done.problem.message}"
        if done.problem.hint:
            text += f"\n  {done.problem.hint}"
        return Text(text, "bold red").append(f"\n{tail}", "dim not bold")
    counted = tally(done.session.records, len(done.session.steps))
    good = counted.strict == counted.total - counted.skipped and counted.passed > 0
    line = Text(f"{done.kernel}: ", "bold")
    line.append("PASSED" if good else "FAILED", "bold green" if good else "bold red")
    line.append(f"  {counted.passed} of {counted.total} official, {counted.strict} strict")
    if counted.skipped:
        line.append(f", {counted.skipped} skipped", "yellow")
    if counted.not_run:
        line.append(f", {counted.not_run} not run after the failure", "yellow")
    return line.append(tail, "dim not bold")
