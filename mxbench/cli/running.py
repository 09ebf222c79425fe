"""What `check` and `perf` share: from options to a session, running it, its JSON, its exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from ..errors import EXIT_FAILED, EXIT_INTERRUPTED

if TYPE_CHECKING:  # what costs time is imported when a command runs, not for `--help`
    from ..plan import Request
    from ..record import Record
    from ..runs import Step
    from ..score import Tally
    from ..session import Session


def build_request(
    op: str,
    suite: list[str] | None,
    case: str | None,
    contract: str | None,
    kernel: str,
    seed: int | None,
    seqlen: int | None,
    batch: int | None,
    tokens: int | None,
    changes: list[str] | None,
    *,
    timed: bool = False,
) -> Request:
    """The options that say which cases and kernels, as one request.

    Raises:
        MxbenchError: a `--set` that is not key=value.
    """
    from ..plan import Request, parse_changes

    return Request(
        op=op,
        suites=tuple(name for text in suite or () for name in text.split(",") if name),
        glob=case,
        contract=contract,
        kernel=kernel,
        seed=seed,
        seqlen=seqlen,
        batch=batch,
        tokens=tokens,
        changes=parse_changes(changes or []),
        timed=timed,
    )


def run_session(
    session: Session,
    print_tables: Callable[[Session, bool], None],
    *,
    quiet: bool,
    verbose: bool,
    json: bool,
) -> None:
    """Run the session and print it, whole or as far as Ctrl-C let it; exit with its code."""
    from .. import view

    interrupted = False
    with view.meter(quiet=quiet) as meter:
        try:
            session.run(meter, (lambda r: meter.note(view.verdict_line(r))) if verbose else _ignore)
        except KeyboardInterrupt:
            interrupted = True
            meter.note("interrupted: what is finished is kept, the same command continues")
    if verbose:
        print(f"programs: {session.programs}; workers' output: {session.log}", file=sys.stderr)
    elif session.log.exists() and not session.log.stat().st_size:
        session.log.unlink()
    if json:
        _print_json(session, interrupted)
    else:
        print_tables(session, quiet)
    if session.trouble is not None:
        raise session.trouble
    if interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)
    if any(not r.passed and not r.skipped for _, r in session.finished):
        raise typer.Exit(EXIT_FAILED)


def _ignore(record: Record) -> None:
    pass


def tallies(session: Session) -> dict[tuple[str, str], Tally]:
    """Pass rates of what is done, out of all that was planned, by operator and suite."""
    from ..score import by_suite

    planned = [(step.case.op, step.case.suite) for step in session.steps]
    return by_suite([record for _, record in session.finished], planned)


def reproduce_command(session: Session, step: Step) -> str:
    """The one-line command that checks this case again."""
    from ..plan import reproduce

    assert session.device is not None
    wanted = session.request.kernel
    kernel = wanted if wanted.endswith(".py") else step.kernel.name
    return reproduce(step.case, kernel, session.device.kind, session.settings.precision)


def _print_json(session: Session, interrupted: bool) -> None:
    import msgspec

    document = {
        "schema": 1,
        "run": session.id,
        "interrupted": interrupted,
        "device": session.device,
        "programs": session.programs,
        "summary": [
            {
                "op": op,
                "suite": suite,
                **asdict(tally),
                "not_run": tally.not_run,
                "share": tally.share,
            }
            for (op, suite), tally in tallies(session).items()
        ],
        "reproduce": {
            record.id: reproduce_command(session, step)
            for step, record in session.finished
            if not record.passed
        },
        "records": [record for _, record in session.finished],
    }
    print(msgspec.json.encode(document).decode())
