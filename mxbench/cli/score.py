"""`mxbench score`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import EXIT_FAILED, MxbenchError, nearest
from . import options

if TYPE_CHECKING:
    from ..points import Standing
    from ..record import Record
    from ..report.journals import Source
    from ..rules import ContestRule
    from ..workspace import Workspace

MOST_RANK = 1000
"""Beyond the number of entrants of any contest."""


def score_command(
    journal: Annotated[
        Path | None,
        typer.Argument(metavar="[JOURNAL]", help="A journal or its folder. Default: your runs'."),
    ] = None,
    rank: Annotated[
        list[str] | None,
        typer.Option(
            "--rank", metavar="OP=N|OP=N-M", help="Suppose this rank or range; repeatable."
        ),
    ] = None,
    kernel: Annotated[
        str | None,
        typer.Option("--kernel", metavar="NAME", help="Whose. Default: what auto serves."),
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", metavar="NAME", help="If the journal has several.")
    ] = None,
    rule: options.Rule = None,
    weight: Annotated[
        float | None,
        typer.Option(help="Of the technical score, instead of the rule's (an example has 0.3)."),
    ] = None,
    aggregate: Annotated[
        str | None,
        typer.Option(metavar="mean|median", help="Over the cases, instead of as the rule says."),
    ] = None,
    json: options.Json = False,
) -> None:
    """Points under a contest's rule: gates, function points, and what each rank would be worth.

    Exit code 1 if an operator fails its gate or lacks the timings to tell.
    """
    from .. import points, rules, workspace

    here = workspace.find()
    law = rules.changed(
        rules.load(here, rule or rules.DEFAULT_RULE), aggregate=aggregate, technical_weight=weight
    )
    if not law.scores:
        raise MxbenchError(f"rule {law.name} gives no points", "use a contest's rule")
    ranks = _ranks(rank or [], law)
    records, timed, name = _records(here, law, journal, device)
    standings = [_standing(here, law, op, records, timed, kernel) for op in law.scores]
    choices = points.choices(ranks)
    if json:
        _print_json(law, standings, choices, name)
    else:
        from .. import view, view_score

        for block in view_score.blocks(law, standings, choices, name):
            view.console().print(block)
    if not all(one.through for one in standings):
        raise typer.Exit(EXIT_FAILED)


def _ranks(given: list[str], rule: ContestRule) -> dict[str, range]:
    """`["nsa=3", "mla=1-5"]` as ranges of ranks by operator."""
    found: dict[str, range] = {}
    for text in given:
        op, _, number = text.partition("=")
        if op not in rule.scores:
            raise MxbenchError(f"--rank {text!r}: no operator {op!r}", nearest(op, rule.scores))
        first, dash, last = number.partition("-")
        worst = last if dash else first
        if not (first.isdigit() and worst.isdigit() and 1 <= int(first) <= int(worst)):
            raise MxbenchError(
                f"--rank {text!r} is not OP=N or OP=N-M with 1 <= N <= M",
                f"like {op}=3 or {op}=1-5",
            )
        if int(worst) > MOST_RANK:
            raise MxbenchError(f"--rank {text!r}: ranks end at {MOST_RANK}", "name a lower one")
        found[op] = range(int(first), int(worst) + 1)
    return found


def _records(
    here: Workspace, rule: ContestRule, journal: Path | None, device: str | None
) -> tuple[list[Record], list[Record], str]:
    """Of one GPU (or the only device there is) the newest record of each case and kernel, the
    newest with a time under the rule, and the device's name."""
    from ..report import journals

    (source,) = journals.read([journal or here.state])
    _refuse_mixed(source)
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
    times, _ = journals.newest(
        [[r for r in mine if r.timing and r.rule == rule.name]], journals.case_key
    )
    return verdicts, times, name


def _refuse_mixed(source: Source) -> None:
    """A line that a kill cut short is named and passed over; lines of another schema are not."""
    other = [line for line in source.damaged if "$.schema" in line]
    if other:
        raise MxbenchError(
            f"{source.path} mixes schemas: {other[0]} ({len(other)} such lines)",
            "score the records of each mxbench with that mxbench",
        )
    for line in source.damaged:
        print(f"note: {line}", file=sys.stderr)


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


def _print_json(
    rule: ContestRule, standings: list[Standing], choices: list[dict[str, int]], device: str
) -> None:
    from dataclasses import asdict

    import msgspec

    from .. import points

    document = {
        "schema": 1,
        "rule": rule.name,
        "device": device,
        "operators": [
            {
                **asdict(one),
                "function": one.function,
                "share": one.tally.share,
                "enough_pass": one.enough_pass,
                "faster": one.faster,
                "through": one.through,
            }
            for one in standings
        ],
        "totals": [
            {"ranks": ranks, **asdict(points.total(rule, standings, ranks))} for ranks in choices
        ],
        "ambiguities": rule.ambiguities,
    }
    print(msgspec.json.encode(document).decode())
