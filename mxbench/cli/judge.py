"""`mxbench judge`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import MxbenchError
from . import options
from .running import run_and_show

if TYPE_CHECKING:
    from ..publicjudge.session import Judging


def judge_command(
    problem: Annotated[
        str,
        typer.Argument(
            metavar="PROBLEM", help="A problem folder of the public judge, or moe, mla, nsa: ours."
        ),
    ],
    submission: Annotated[
        str, typer.Argument(metavar="SUBMISSION.py", help="The file that defines run_kernel.")
    ],
    case: Annotated[
        str | None, typer.Option(metavar="N,N-M", help="Only these case numbers.")
    ] = None,
    target: options.Target = "auto",
    timeout: Annotated[
        float | None,
        typer.Option(
            help="Seconds for each of run_kernel (the first call compiles), genTestCase, baseline "
            "and check. Default: 300."
        ),
    ] = None,
    budget: Annotated[
        float, typer.Option(help="Seconds for timing one case on a CPU, the baseline as long.")
    ] = 20.0,
    no_times: Annotated[
        bool, typer.Option("--no-times", help="Verdicts only, no times and no score.")
    ] = False,
    fresh: options.Fresh = False,
    out: options.Out = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Run a submission as the public judge does: its cases, its check, its counts, its score.

    Beside the problem's own verdict stands mxbench's strict one where it knows the operator. Both
    files run in the worker only. Exit codes as for check.
    """
    from .. import workspace
    from ..publicjudge import folder
    from ..publicjudge.session import TIMEOUT, Judging, Settings

    if not 0 < budget < math.inf:
        raise MxbenchError(f"--budget must be a positive number, not {budget:g}")
    here = workspace.find()
    settings = Settings(
        target=options.check_target(target),
        timeout=options.check_timeout(timeout) or TIMEOUT,
        budget=budget,
        numbers=_numbers(case),
        timed=not no_times,
        fresh=fresh,
    )
    state: Path = out or here.state
    judging = Judging(
        here, folder.find(here, problem), folder.submission(submission), settings, state
    )

    def show(interrupted: bool) -> None:
        if json:
            _print_json(judging, interrupted)
        else:
            _print_table(judging)

    run_and_show(judging, show, quiet=quiet, verbose=verbose)


def _numbers(text: str | None) -> tuple[int, ...]:
    """`1,3-5` as numbers; MxbenchError if it is none."""
    found: list[int] = []
    for part in (text or "").split(","):
        first, dash, last = part.strip().partition("-")
        if not part.strip() and text is None:
            continue
        if not first.isdigit() or (dash and not last.isdigit()):
            raise MxbenchError(f"--case {text!r} is not a list of numbers", "for example 1,3-5")
        found += range(int(first), int(last or first) + 1)
    return tuple(dict.fromkeys(found))


def _print_table(judging: Judging) -> None:
    from .. import view, view_judge
    from ..publicjudge.session import summarise
    from ..verdict import Status

    if judging.device is None or not judging.records:
        return
    out = view.console()
    where = f"{judging.device.name} ({judging.device.kind})"
    name = f"problem {judging.problem.title}"
    out.print(view_judge.judged_table(judging.records, f"{name} on {where}"))
    for record in judging.records:
        if not (record.passed and record.strict in (None, Status.PASSED)):
            out.print(view_judge.fault_block(record))
    notes = dict.fromkeys(note for r in judging.records if r.judged for note in r.judged.notes)
    for note in notes:
        out.print(f"note: {note}")
    on_cpu = judging.device.kind == "cpu"
    out.print(view_judge.summary_lines(name, summarise(judging.records), on_cpu))


def _print_json(judging: Judging, interrupted: bool) -> None:
    from dataclasses import asdict

    import msgspec

    from ..publicjudge.session import summarise

    document = {
        "schema": 1,
        "run": judging.id,
        "interrupted": interrupted,
        "problem": {"name": judging.problem.path.name, "sha": judging.problem.sha},
        "submission": {"name": judging.submission.name, "sha": judging.submission.sha},
        "device": judging.device,
        "notes": judging.opened.notes if judging.opened else [],
        "summary": asdict(summarise(judging.records)),
        "records": judging.records,
    }
    print(msgspec.json.encode(document).decode())
