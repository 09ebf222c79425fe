"""`mxbench evaluate`."""

from __future__ import annotations

import contextlib
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import EXIT_FAILED, EXIT_INTERRUPTED, MxbenchError
from . import options

if TYPE_CHECKING:
    from ..evaluation.loop import Loop
    from ..evaluation.outcome import Shown


def evaluate_command(
    submissions: Annotated[
        list[Path],
        typer.Argument(
            metavar="SUBMISSIONS...", help="Hand-ins (folders, zips), or folders of them."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", metavar="DIR", help="Journals, ledger and ranking; continued if there."
        ),
    ],
    op: Annotated[
        list[str] | None,
        typer.Option("--op", metavar="OP", help="moe, mla, nsa; repeatable. Default: all three."),
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option(
            "--suite",
            help="Whose times are ranked. Default: functional; nsa performance; on a CPU smoke.",
        ),
    ] = None,
    kernel: Annotated[
        str | None,
        typer.Option(
            "--kernel", metavar="NAME", help="Whose. Default: the one handed in, or auto."
        ),
    ] = None,
    rule: options.Rule = None,
    target: options.Target = "auto",
    devices: options.Devices = None,
    cluster: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS|FILE", help="A Dask scheduler, instead of this machine."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="Measure on this model. Default: what most devices are."
        ),
    ] = None,
    repeat_on: Annotated[
        int, typer.Option("--repeat-on", metavar="K", min=1, help="Machines to measure each on.")
    ] = 1,
    drift: Annotated[
        float, typer.Option(help="Per cent by which a machine's baseline may be off.")
    ] = 5.0,
    limit: Annotated[
        float, typer.Option(help="Seconds for one operator of a hand-in, all in all.")
    ] = 3600.0,
    strikes: Annotated[
        int, typer.Option(min=1, help="Deaths of its worker that are recorded as a hand-in's own.")
    ] = 2,
    losses: Annotated[
        int, typer.Option(min=1, help="Tries that failing machines may cost a hand-in.")
    ] = 5,
    patience: Annotated[
        float, typer.Option(help="Seconds to wait when no device is left.")
    ] = 600.0,
    refuse_banned: Annotated[
        bool, typer.Option("--refuse-banned", help="Do not rank what the lint objects to.")
    ] = False,
    quick: options.Quick = False,
    fence: Annotated[
        bool, typer.Option(help="Namespaces for each hand-in, where there are any (unshare).")
    ] = True,
    timeout: options.Timeout = None,
    budget: Annotated[float, typer.Option(help="Seconds for timing one case on a CPU.")] = 60.0,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Lint, check and time every hand-in under one rule, on all devices, and rank them.

    Each runs in a process of its own with empty home, cache and working folder. The same command
    continues what was interrupted. Exit code 0: every hand-in has a complete journal. 1: some have
    not. 2: bad usage or input. 3: no device. 130: interrupted.
    """
    from .. import rules, workspace
    from ..evaluation import entrants, outcome, setting
    from ..evaluation.board import Policy
    from ..evaluation.ledger import Ledger
    from ..evaluation.loop import Loop
    from ..plan import operators

    positive = {"--limit": limit, "--drift": drift, "--budget": budget, "--patience": patience}
    for name, number in positive.items():
        if not 0 < number < math.inf:
            raise MxbenchError(f"{name} must be a positive number, not {number:g}")
    if cluster is not None and devices is not None:
        raise MxbenchError("--devices names this machine's", "with --cluster its workers serve")
    here = workspace.find()
    wish = setting.Wish(
        law=rules.load(here, rule or rules.DEFAULT_RULE),
        ops=tuple(dict.fromkeys(o for word in op or ["all"] for o in operators(word))),
        target=options.check_target(target),
        suite=suite,
        kernel=kernel,
        extras=not quick,
        timeout=options.check_timeout(timeout),
        budget=budget,
        limit=limit,
        drift=drift / 100,
        patience=patience,
        model=device or "",
        repeat_on=repeat_on,
        fenced=fence,
        policy=Policy(strikes=strikes, losses=losses),
    )
    hand_ins = entrants.find(submissions)
    hidden = () if cluster else tuple(str(path.resolve()) for path in [*submissions, out])
    with contextlib.ExitStack() as stack:
        kept = Ledger(out, wish.decisive)
        stack.callback(kept.close)
        executor = setting.executor(cluster, wish.target, devices, fenced=fence)
        stack.callback(executor.close)
        if executor.dashboard and not quiet:
            print(f"dashboard: {executor.dashboard}", file=sys.stderr)
        loop = Loop(
            hand_ins, setting.kit(here), wish.options(here, executor, hidden), wish.board(hand_ins),
            kept, executor,
        )  # fmt: skip
        interrupted = _run(loop, quiet)
        shown = setting.rank(here, wish, loop, refuse_banned=refuse_banned)
        _write(out, shown, loop)
        _print(shown, loop, json, interrupted)
    if interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)
    if any(line.failed for line in loop.results.values()) or outcome.empty(loop.results):
        raise typer.Exit(EXIT_FAILED)


def _run(loop: Loop, quiet: bool) -> bool:
    """Run it, shown; True if Ctrl-C ended it."""
    from .. import view_evaluate

    with view_evaluate.watcher(quiet=quiet) as show:

        def on_change() -> None:
            show(loop.snapshot(), loop.book.news)
            loop.book.news.clear()

        try:
            loop.run(on_change)
        except KeyboardInterrupt:
            show(
                loop.snapshot(),
                ["interrupted: what is finished is kept, the same command continues"],
            )
            return True
        finally:
            on_change()
    return False


def _write(out: Path, shown: list[Shown], loop: Loop) -> None:
    """The ranking in every format, and the spread between machines."""
    from .. import view_evaluate
    from ..evaluation.outcome import apart
    from ..jsonfile import replace_file
    from .rank import write

    write(shown, [out / f"ranking{end}" for end in (".md", ".csv", ".json")])
    if found := apart(loop.results):
        replace_file(out / "machines.csv", view_evaluate.apart_csv(found))


def _print(shown: list[Shown], loop: Loop, json: bool, interrupted: bool) -> None:
    import msgspec

    from .. import view, view_evaluate, view_rank
    from ..evaluation.outcome import apart, empty

    results = sorted(loop.results.values(), key=lambda line: line.work)
    if json:
        document = {
            "schema": 1,
            "interrupted": interrupted,
            "model": loop.book.model,
            "operators": [view_rank.document(*one) for one in shown],
            "results": results,
            "flags": dict(loop.board.flags),
            "machines": apart(loop.results),
        }
        print(msgspec.json.encode(document).decode())
        return
    console = view.console()
    for one in shown:
        for block in view_rank.blocks(*one):
            console.print(block)
    for line in view_evaluate.failures(results):
        console.print(line)
    for name in empty(loop.results):
        console.print(f"nothing of what is asked for is in {name}")
    if found := apart(loop.results):
        console.print(view_evaluate.apart_table(found))
    console.print(view_evaluate.headline(loop.snapshot()))
