"""`mxbench score`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import EXIT_FAILED, MxbenchError, nearest
from . import options

if TYPE_CHECKING:
    from ..points import Standing
    from ..record import Record
    from ..rules import ContestRule
    from ..workspace import Workspace


def score_command(
    journal: Annotated[
        Path | None,
        typer.Argument(metavar="[JOURNAL]", help="A journal or its folder. Default: your runs'."),
    ] = None,
    rank: Annotated[
        list[str] | None,
        typer.Option("--rank", metavar="OP=N", help="Suppose this rank; several if repeated."),
    ] = None,
    kernel: Annotated[
        str | None,
        typer.Option("--kernel", metavar="NAME", help="Whose. Default: what auto serves."),
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", metavar="NAME", help="If the journal has several.")
    ] = None,
    rule: Annotated[
        str | None, typer.Option("--rule", metavar="NAME", help="Default: the contest's.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Points under a contest's rule: gates, function points, and what each rank would be worth.

    Exit code 1 if an operator fails its gate or lacks the timings to tell.
    """
    from .. import points, rules, workspace

    here = workspace.find()
    law = rules.load(here, rule or rules.DEFAULT_RULE)
    if not law.scores:
        raise MxbenchError(f"rule {law.name} gives no points", "use a contest's rule")
    ranks = _ranks(rank or [], law)
    records, timed, name = _records(here, journal, device)
    standings = [_standing(here, law, op, records, timed, kernel) for op in law.scores]
    if json:
        _print_json(law, standings, points.total(law, standings, ranks), name)
    else:
        from .. import view, view_score

        for block in view_score.blocks(law, standings, ranks, name):
            view.console().print(block)
    if not all(one.through for one in standings):
        raise typer.Exit(EXIT_FAILED)


def _ranks(given: list[str], rule: ContestRule) -> dict[str, int]:
    found: dict[str, int] = {}
    for text in given:
        op, _, number = text.partition("=")
        if op not in rule.scores:
            raise MxbenchError(f"--rank {text!r}: no operator {op!r}", nearest(op, rule.scores))
        if not number.isdigit() or int(number) < 1:
            raise MxbenchError(f"--rank {text!r} is not OP=N with N from 1", f"like {op}=3")
        found[op] = int(number)
    return found


def _records(
    here: Workspace, journal: Path | None, device: str | None
) -> tuple[list[Record], list[Record], str]:
    """Of one GPU (or the only device there is) the newest record of each case and kernel, the
    newest with a time, and the device's name."""
    from ..report import journals

    (source,) = journals.read([journal or here.state])
    timed = {r.device: r.target for r in source.records}
    gpus = [name for name, target in timed.items() if target != "cpu"] or list(timed)
    if device is None and len(gpus) > 1:
        raise MxbenchError(
            f"{source.path} has records of {len(gpus)} devices", f"--device {gpus[0]!r}"
        )
    name = device or gpus[0]
    if name not in timed:
        raise MxbenchError(f"{source.path} has no device {name!r}", nearest(name, timed))
    mine = [r for r in source.records if r.device == name]
    # Verdicts and times apart: a later check has no time, but its failure counts.
    verdicts, _ = journals.newest([mine], journals.case_key)
    times, _ = journals.newest([[r for r in mine if r.timing]], journals.case_key)
    return verdicts, times, name


def _standing(
    here: Workspace,
    rule: ContestRule,
    op: str,
    records: list[Record],
    timed: list[Record],
    kernel: str | None,
) -> Standing:
    from .. import kernel as kernels
    from .. import points
    from ..case import load_suite

    cases = load_suite(here, op, points.SUITE).cases
    target = records[0].target if records else "cuda"
    name = kernel or kernels.dispatch(here, op, cases[0].contract, target)
    return points.standing(rule, op, rule.scores[op], records, timed, name, len(cases))  # type: ignore[index]  # keys are operators


def _print_json(rule: ContestRule, standings: list[Standing], total: Any, device: str) -> None:
    from dataclasses import asdict

    import msgspec

    document = {
        "schema": 1,
        "rule": rule.name,
        "device": device,
        "operators": [
            {
                **asdict(one),
                "share": one.tally.share,
                "enough_pass": one.enough_pass,
                "faster": one.faster,
                "through": one.through,
            }
            for one in standings
        ],
        "total": asdict(total),
        "ambiguities": rule.ambiguities,
    }
    print(msgspec.json.encode(document).decode())
