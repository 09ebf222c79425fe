"""What commands share: a session of options, workers, running, JSON, exit codes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import typer

from ..errors import EXIT_FAILED, EXIT_INTERRUPTED, MxbenchError

if TYPE_CHECKING:  # what costs time is imported when a command runs, not for `--help`
    from ..plan import Request
    from ..record import Record
    from ..runner.crew import Crew
    from ..runner.supervisor import Supervisor
    from ..runs import Step
    from ..score import Tally
    from ..session import Session
    from ..view import Meter


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


def workers(
    kernels: Path, target: str, log: Path, devices: str | None, timeout: float
) -> Crew[Supervisor]:
    """A worker on each device of `--devices`, or on the first; none of them started yet.

    Args:
        timeout: seconds a kernel may take.

    Raises:
        MxbenchError: as `devices.visible`.
    """
    from ..devices import visible
    from ..runner.crew import Crew
    from ..runner.supervisor import Supervisor

    return Crew(
        [Supervisor(kernels, target, log, timeout, one) for one in visible(devices, target)]
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

    def show(interrupted: bool) -> None:
        if verbose:
            print(f"programs: {session.programs}", file=sys.stderr)
        if json:
            _print_json(session, interrupted)
        else:
            print_tables(session, quiet)

    run_and_show(session, show, quiet=quiet, verbose=verbose)


class Recorded(Protocol):
    """What leaves records as it runs: a session, or a judging."""

    trouble: MxbenchError | None

    @property
    def log(self) -> Path: ...

    @property
    def records(self) -> list[Record]: ...

    def run(self, meter: Meter, on_record: Callable[[Record], None]) -> None: ...


def run_and_show(
    one: Recorded, show: Callable[[bool], None], *, quiet: bool, verbose: bool
) -> None:
    """Run it and show it, whole or as far as Ctrl-C let it; exit with its code.

    Args:
        show: called with whether it was interrupted.
    """
    from .. import view

    interrupted = False
    with view.meter(quiet=quiet) as meter:
        try:
            one.run(meter, (lambda r: meter.note(view.verdict_line(r))) if verbose else _ignore)
        except KeyboardInterrupt:
            interrupted = True
            meter.note("interrupted: what is finished is kept, the same command continues")
    if verbose:
        print(f"workers' output: {one.log}", file=sys.stderr)
    elif one.log.exists() and not one.log.stat().st_size:
        one.log.unlink()
    show(interrupted)
    if one.trouble is not None:
        raise one.trouble
    if interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)
    if any(not r.passed and not r.skipped for r in one.records):
        raise typer.Exit(EXIT_FAILED)


def _ignore(record: Record) -> None:
    pass


def tallies(session: Session) -> dict[tuple[str, str], Tally]:
    """Pass rates of what is done, out of all that was planned, by operator and suite."""
    from ..score import by_suite

    planned = [(step.case.op, step.case.suite) for step in session.steps]
    return by_suite(session.records, planned)


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
        "records": session.records,
    }
    print(msgspec.json.encode(document).decode())
