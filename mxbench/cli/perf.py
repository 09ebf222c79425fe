"""`mxbench perf`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import MxbenchError
from . import options
from .running import build_request, reproduce_command, run_session

if TYPE_CHECKING:
    from ..session import Session

MODES = ("eager", "graph")


def perf_command(
    op: options.Op,
    suite: options.Suites = None,
    case: options.Glob = None,
    contract: options.ContractName = None,
    kernel: options.KernelName = "auto",
    baseline: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Time this kernel beside, and show the speed-up."),
    ] = None,
    target: options.Target = "auto",
    devices: options.Devices = None,
    rule: options.Rule = None,
    mode: Annotated[
        str, typer.Option(metavar="eager|graph", help="What the headline times.")
    ] = "eager",
    quick: options.Quick = False,
    budget: Annotated[
        float, typer.Option(help="Seconds for timing one case on a CPU; a run gets four times it.")
    ] = 60.0,
    seed: options.Seed = None,
    timeout: options.Timeout = None,
    seqlen: Annotated[
        int | None,
        typer.Option(help="Cases of this sequence length, or the suite's rewritten to it."),
    ] = None,
    batch: options.Batch = None,
    tokens: options.Tokens = None,
    set_: options.Changes = None,
    fresh: options.Fresh = False,
    out: options.Out = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Time kernels under a contest's rule. Each case is judged first: a wrong kernel has no time.

    The headline is the mean of calls back to back, by device events. Beside it stand its spread,
    CUDA-graph replay, the kernels' own time and the time with a cold L2, each of a pass of its own.
    Exit codes as for check.
    """
    from .. import rules, workspace
    from ..session import Session
    from ..settings import Settings, TimingSettings

    if mode not in MODES:
        raise MxbenchError(f"unknown mode {mode!r}", f"use {' or '.join(MODES)}")
    if not 0 < budget < math.inf:
        raise MxbenchError(f"--budget must be a positive number, not {budget:g}")
    here = workspace.find()
    timing = TimingSettings(
        rule=rules.load(here, rule or rules.DEFAULT_RULE),
        mode="graph" if mode == "graph" else "eager",
        extras=not quick,
        baseline=baseline,
        budget=budget,
    )
    request = build_request(
        op, suite, case, contract, kernel, seed, seqlen, batch, tokens, set_, timed=True
    )
    settings = Settings(
        target=options.check_target(target),
        timeout=options.check_timeout(timeout),
        fresh=fresh,
        devices=devices,
        timing=timing,
    )
    session = Session(here, request, settings, state=out or here.state)
    run_session(session, _print_tables, quiet=quiet, verbose=verbose, json=json)


def _print_tables(session: Session, quiet: bool) -> None:
    """A table of times for each operator, what the figures rest on, and why cases have no time."""
    from .. import view, view_perf
    from ..verdict import Status

    device, timing = session.device, session.settings.timing
    if device is None or timing is None:
        return
    out = view.console()
    records = session.records
    for op in dict.fromkeys(record.op for record in records):
        mine = [record for record in records if record.op == op]
        if any(record.timing for record in mine):
            where = f"{device.name} ({device.kind})"
            out.print(view_perf.timing_table(mine, f"{op} on {where}", timing.baseline))
            if timing.baseline:
                out.print(view_perf.speedup_line(mine, timing.baseline))
    for step, record in session.finished:
        if record.status is Status.SKIPPED:
            out.print(view.skip_line(record))
        elif record.timing is None:
            out.print(view.failure_block(record, reproduce_command(session, step)))
    if not quiet:
        out.print(view_perf.protocol(records, timing.rule, device))
