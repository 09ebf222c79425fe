"""`mxbench check`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import EXIT_ENVIRONMENT, MxbenchError
from . import options
from .running import build_request, reproduce_command, run_session, tallies

if TYPE_CHECKING:
    from ..record import Record
    from ..runs import Step
    from ..session import Session

PRECISIONS = ("fp32", "fp64")


def check_command(
    op: options.Op,
    suite: options.Suites = None,
    case: options.Glob = None,
    contract: options.ContractName = None,
    kernel: options.KernelName = "auto",
    target: options.Target = "auto",
    devices: options.Devices = None,
    seed: options.Seed = None,
    timeout: options.Timeout = None,
    seqlen: options.Seqlen = None,
    batch: options.Batch = None,
    tokens: options.Tokens = None,
    set_: options.Changes = None,
    precision: Annotated[
        str, typer.Option(metavar="fp32|fp64", help="Precision of the golden.")
    ] = "fp32",
    repeat_check: Annotated[
        int,
        typer.Option(metavar="N", help="Call again N times: the output must be equal bit for bit."),
    ] = 0,
    sanitize: Annotated[
        bool,
        typer.Option(
            "--sanitize",
            help="Run each passed case again under compute-sanitizer, memcheck and racecheck. "
            "Takes a minute or so a case: choose with --case.",
        ),
    ] = False,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="Stop at the first case that fails.")
    ] = False,
    fresh: options.Fresh = False,
    out: options.Out = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Judge kernels against goldens: which cases pass, and how far off the others are.

    Exit code 0: no case failed. 1: some did. 2: bad usage or input. 3: the environment lacks
    something. 130: interrupted; the same command continues.
    """
    from .. import workspace
    from ..session import Session
    from ..settings import Settings

    if precision not in PRECISIONS:
        raise MxbenchError(f"unknown precision {precision!r}", "use fp32 or fp64")
    if sanitize and target == "cpu":
        raise MxbenchError(
            "--sanitize needs an NVIDIA GPU, not --target cpu", exit_code=EXIT_ENVIRONMENT
        )
    if repeat_check < 0:
        raise MxbenchError(f"--repeat-check must not be negative, it is {repeat_check}")
    request = build_request(op, suite, case, contract, kernel, seed, seqlen, batch, tokens, set_)
    settings = Settings(
        target=options.check_target(target),
        timeout=options.check_timeout(timeout),
        precision=precision,
        repeats=repeat_check,
        sanitize=sanitize,
        fail_fast=fail_fast,
        fresh=fresh,
        devices=devices,
    )
    here = workspace.find()
    session = Session(here, request, settings, state=out or here.state)
    run_session(session, _print_tables, quiet=quiet, verbose=verbose, json=json)


def _print_tables(session: Session, quiet: bool) -> None:
    """A table and a summary for each suite; between them, why cases failed."""
    from .. import view
    from ..verdict import Status

    out = view.console()
    if session.device is None:  # interrupted before anything began
        return
    counts = tallies(session)
    if not quiet:
        where = f"{session.device.name} ({session.device.kind})"
        for op, suite in counts:
            records = [r for _, r in session.finished if (r.op, r.suite) == (op, suite)]
            if records:
                out.print(view.verdict_table(records, f"{op} {suite} on {where}"))
    faults: dict[tuple[str, str, str], list[tuple[Step, Record]]] = {}
    for step, record in session.finished:
        if record.status is Status.SKIPPED:
            out.print(view.skip_line(record))
        elif not (record.passed and record.strict is Status.PASSED):
            same = record.status, record.kernel, record.reason
            faults.setdefault(same, []).append((step, record))
    for (step, record), *others in faults.values():
        out.print(view.failure_block(record, reproduce_command(session, step), len(others)))
    for (op, suite), tally in counts.items():
        gated = suite == "functional" and not session.request.changed
        out.print(view.summary_line(op, suite, tally, gate=gated))
