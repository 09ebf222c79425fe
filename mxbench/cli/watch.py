"""`mxbench watch`."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import EXIT_INTERRUPTED, MxbenchError
from . import options
from .running import build_request

if TYPE_CHECKING:
    from ..plan import Request
    from ..settings import Settings
    from ..workspace import Workspace


def watch_command(
    op: options.Op,
    kernel: options.KernelName = "auto",
    suite: Annotated[
        str, typer.Option("--suite", help="Suite to check after each save.")
    ] = "smoke",
    case: options.Glob = None,
    contract: options.ContractName = None,
    target: options.Target = "auto",
    timeout: options.Timeout = None,
    set_: options.Changes = None,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Check all cases, also after one that fails.")
    ] = False,
    rounds: Annotated[
        int, typer.Option("--rounds", metavar="N", help="End after N checks; 0 for never.")
    ] = 0,
) -> None:
    """Check a kernel whenever it is saved: the touched one, smallest cases first, on one screen.

    Checks once at the start, then after every save of a kernel of OP, of a file that it imports, of
    kernels/common/ or of a case file. Records are not kept. Ctrl-C ends it.
    """
    from .. import kernel as kernels
    from .. import plan, workspace
    from ..case import load_suite, select
    from ..settings import Settings

    if op == plan.ALL:
        raise MxbenchError("watch takes one operator", "name moe, mla or nsa")
    if rounds < 0:
        raise MxbenchError(f"--rounds must not be negative, it is {rounds}")
    here = workspace.find()
    request = build_request(op, [suite], case, contract, kernel, None, None, None, None, set_)
    settings = Settings(
        target=options.check_target(target),
        timeout=options.check_timeout(timeout),
        fail_fast=not keep_going,
        smallest_first=True,
        fresh=True,
    )
    plan.operators(op)
    # What an edit can mend is shown and watched on; a wrong name here never comes right.
    select(load_suite(here, op, suite).cases, case, contract)
    if kernel != plan.AUTO:
        kernels.find(here, op, kernel)
    more = [Path(kernel).resolve()] if kernel.endswith(".py") else []
    _watch(here, request, settings, more, rounds)


def _watch(
    here: Workspace, request: Request, settings: Settings, more: list[Path], rounds: int
) -> None:
    from .. import watching

    with tempfile.TemporaryDirectory(prefix="mxbench-") as name:
        state = Path(name)
        saved = watching.changes(here, request.op, more)
        try:
            next(saved)  # from here on saves are noticed, also those during the first check
            done = _show(here, request, settings, request.kernel, state, time.monotonic())
            while not rounds or done < rounds:
                files = next(saved)
                begin = time.monotonic()
                for kernel in watching.touched(here, request.op, files, request.kernel):
                    done += _show(here, request, settings, kernel, state, begin)
        except KeyboardInterrupt:
            raise typer.Exit(EXIT_INTERRUPTED) from None


def _show(
    here: Workspace, request: Request, settings: Settings, kernel: str, state: Path, begin: float
) -> int:
    """Check one kernel and print it; returns how many checks that was: 1."""
    from .. import view, view_watch, watching

    console = view.console()
    with view.meter(quiet=False) as meter:
        done = watching.check(here, request, settings, kernel, state, meter)
    if console.is_terminal:
        console.clear()
    for block in view_watch.blocks(done, time.monotonic() - begin, console.height):
        console.print(block)
    return 1
