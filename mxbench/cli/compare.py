"""`mxbench compare`."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import EXIT_FAILED, MxbenchError
from . import options
from .perf import MODES
from .running import build_request

if TYPE_CHECKING:
    from ..device import DeviceInfo
    from ..duel import Compared, Side

TWO = 2


def compare_command(
    op: options.Op,
    a: Annotated[str, typer.Argument(metavar="A", help="What is: a kernel, a file, or auto.")],
    b: Annotated[
        str | None, typer.Argument(metavar="[B]", help="What would replace it; with --rev, A now.")
    ] = None,
    rev: Annotated[
        list[str] | None,
        typer.Option("--rev", metavar="REV", help="A as of this git revision; twice: B as of it."),
    ] = None,
    suite: options.Suites = None,
    case: options.Glob = None,
    contract: options.ContractName = None,
    target: options.Target = "auto",
    tolerance: Annotated[
        float, typer.Option(help="Per cent by which B may be slower before exit code 1.")
    ] = 2.0,
    resolution: Annotated[
        float, typer.Option(help="Per cent below which nothing is called a difference.")
    ] = 0.2,
    n: Annotated[
        int, typer.Option("--blocks", metavar="N", help="Blocks (A B B A) of each case.")
    ] = 30,
    slot: Annotated[
        float, typer.Option("--slot-ms", help="Milliseconds of a turn; short calls are repeated.")
    ] = 5.0,
    seconds: Annotated[float, typer.Option(help="For the blocks of one case, at most.")] = 20.0,
    mode: Annotated[
        str, typer.Option(metavar="eager|graph", help="Time calls, or replays of a CUDA graph.")
    ] = "eager",
    times: Annotated[
        int, typer.Option(metavar="N", help="Compare N times: how often does each verdict come?")
    ] = 1,
    timeout: options.Timeout = None,
    seqlen: options.Seqlen = None,
    batch: options.Batch = None,
    tokens: options.Tokens = None,
    set_: options.Changes = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Is B faster than A? Both in turns on one device, with an interval for every ratio.

    Each case is judged first, for both. Exit code 1 if B is slower than A by more than the
    tolerance (a case's whole 95 % interval, or the geometric mean's), or a case fails.
    """
    from .. import duel, revision, view, workspace
    from ..runner.protocol import Heat

    _check(a, b, rev or [], mode, n, times, (slot, seconds), (tolerance, resolution))
    request = build_request(
        op, suite, case, contract, a, None, seqlen, batch, tokens, set_, timed=True
    )
    heat = Heat(
        blocks=n, slot_ms=slot, seconds=seconds, mode="graph" if mode == "graph" else "eager"
    )
    settings = duel.Settings(
        options.check_target(target), heat, times, options.check_timeout(timeout)
    )
    here = workspace.find()
    with contextlib.ExitStack() as stack:
        sides = []
        for name, when in zip((a, b or a), [*(rev or []), None, None], strict=False):
            where = stack.enter_context(revision.checked_out(here, when)) if when else here
            sides.append(duel.Side(f"{name}@{when}" if when else name, where, name))
        first, second = _apart(sides)
        meter = stack.enter_context(view.meter(quiet=quiet))
        device, done = duel.run((first, second), request, settings, meter)
    _print(done, (first.label, second.label), device, resolution / 100, json)
    if _worse(done, tolerance / 100):
        raise typer.Exit(EXIT_FAILED)


def _check(
    a: str,
    b: str | None,
    rev: list[str],
    mode: str,
    blocks: int,
    times: int,
    positive: tuple[float, ...],
    shares: tuple[float, ...],
) -> None:
    """Refuse what makes no comparison, before anything starts."""
    from ..runner.protocol import LEAST_BLOCKS

    if b is None and not rev:
        raise MxbenchError("compare needs two kernels", "name B, or a revision of A with --rev")
    if len(rev) > TWO:
        raise MxbenchError(
            f"--rev stands {len(rev)} times", "give it once for A, twice for A and B"
        )
    files = [name for name in (a, b) if name is not None and name.endswith(".py")]
    if rev and files:
        raise MxbenchError(f"--rev cannot take {files[0]}", "name a kernel of kernels/")
    if mode not in MODES:
        raise MxbenchError(f"unknown mode {mode!r}", f"use {' or '.join(MODES)}")
    if blocks < LEAST_BLOCKS:
        raise MxbenchError(f"--blocks must be at least {LEAST_BLOCKS}, not {blocks}")
    if times < 1:
        raise MxbenchError(f"--times must be at least 1, not {times}")
    if not all(0 < value < math.inf for value in positive):
        raise MxbenchError("--slot-ms and --seconds must be positive numbers")
    if not all(0 <= value < math.inf for value in shares):
        raise MxbenchError("--tolerance and --resolution must not be negative")


def _apart(sides: list[Side]) -> tuple[Side, Side]:
    """The two, with labels that differ even where both are the same kernel."""
    from dataclasses import replace

    first, second = sides
    if first.label == second.label:
        second = replace(second, label=f"{second.label} again")
    return first, second


def _worse(done: list[Compared], tolerance: float) -> bool:
    from .. import versus

    timed = [one for one in done if one.ratios]
    failed = any(one.problem and not one.skipped for one in done)
    slower = any(r.exceeds(tolerance) for one in timed for r in one.ratios)
    mean = bool(timed) and versus.geometric_mean([one.blocks for one in timed]).exceeds(tolerance)
    return failed or slower or mean


def _print(
    done: list[Compared],
    labels: tuple[str, str],
    device: DeviceInfo,
    resolution: float,
    json: bool,
) -> None:
    from .. import view, view_compare

    if json:
        _print_json(done, labels, device, resolution)
        return
    for block in view_compare.blocks(done, labels, device, resolution):
        view.console().print(block)


def _print_json(
    done: list[Compared], labels: tuple[str, str], device: DeviceInfo, resolution: float
) -> None:
    from dataclasses import asdict

    import msgspec

    from .. import versus

    timed = [one for one in done if one.ratios]
    document = {
        "schema": 1,
        "a": labels[0],
        "b": labels[1],
        "device": device,
        "resolution": resolution,
        "geometric_mean": asdict(versus.geometric_mean([o.blocks for o in timed]))
        if timed
        else None,
        "cases": [
            {
                "case": one.case.id,
                "kernels": one.kernels,
                "comparisons": [
                    {**asdict(r), "verdict": r.verdict(resolution).value} for r in one.ratios
                ],
                "mode": one.mode,
                "calls": one.calls,
                "blocks": one.blocks,
                "problem": one.problem,
                "skipped": one.skipped,
            }
            for one in done
        ],
    }
    print(msgspec.json.encode(document).decode())
