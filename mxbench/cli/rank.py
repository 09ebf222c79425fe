"""`mxbench rank`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import EXIT_FAILED, MxbenchError
from . import options

if TYPE_CHECKING:
    from ..ranking import Contest, Table, Unranked

WRITERS = (".md", ".csv", ".json")


def rank_command(
    hand_ins: Annotated[
        list[Path],
        typer.Argument(metavar="DIR...", help="Hand-ins (folders, zips), or folders of them."),
    ],
    op: Annotated[
        str, typer.Option("--op", metavar="OP", help="moe, mla, nsa, or all that were timed.")
    ] = "all",
    suite: Annotated[
        str | None,
        typer.Option(
            "--suite", help="Whose times are ranked. Default: functional; nsa performance."
        ),
    ] = None,
    kernel: Annotated[
        str | None,
        typer.Option("--kernel", metavar="NAME", help="Whose. Default: the one beside baseline."),
    ] = None,
    rule: options.Rule = None,
    aggregate: Annotated[
        str | None,
        typer.Option(metavar="mean|median", help="Over the cases, instead of as the rule says."),
    ] = None,
    ties: Annotated[
        str | None,
        typer.Option(metavar="better|worse", help="Which rank equal times share. Default: better."),
    ] = None,
    out: Annotated[
        list[Path] | None,
        typer.Option(
            "--out", metavar="FILE", help="Write it, too: .md, .csv or .json; repeatable."
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """The organisers' table: gates, times, ranks and points of many hand-ins.

    Hand-ins measured on different devices, slices or under different rules are shown apart. One
    whose journal does not add up is named and not ranked, and so is exit code 1.
    """
    from .. import contest as contests
    from .. import handins, ranking, rules, workspace

    for file in out or []:
        if file.suffix not in WRITERS:
            raise MxbenchError(f"--out {file}: unknown format", f"end in {', '.join(WRITERS)}")
    here = workspace.find()
    law = rules.changed(
        rules.load(here, rule or rules.DEFAULT_RULE), aggregate=aggregate, ties=ties
    )
    found = handins.read(hand_ins)
    shown: list[tuple[Contest, list[Table], list[Unranked]]] = []
    for name in _operators(op, {r.op for one in found for r in one.records if r.timing}):
        contest = contests.load(here, law, name, suite, kernel)
        # Nobody need hand in every operator: who has some is missed where that one is asked for.
        idle = [one for one in found if name == op or not one.records]
        shown.append((contest, ranking.rank(contest, found), ranking.missing(contest, idle)))
    if not shown:
        raise MxbenchError(
            "no hand-in has a time", "measure with `mxbench perf OP --baseline baseline`"
        )
    write(shown, out or [])
    _print(shown, json)
    if any(missing or any(t.unranked for t in tables) for _, tables, missing in shown):
        raise typer.Exit(EXIT_FAILED)


def _operators(op: str, timed: set[str]) -> list[str]:
    from ..plan import ALL, operators

    return [name for name in operators(op) if op != ALL or name in timed]


def _print(shown: list[tuple[Contest, list[Table], list[Unranked]]], json: bool) -> None:
    from .. import view, view_rank

    if json:
        print(_json(shown))
        return
    for one in shown:
        for block in view_rank.blocks(*one):
            view.console().print(block)


def _json(shown: list[tuple[Contest, list[Table], list[Unranked]]]) -> str:
    import msgspec

    from .. import view_rank

    documents = [view_rank.document(*one) for one in shown]
    return msgspec.json.encode({"schema": 1, "operators": documents}).decode()


def write(shown: list[tuple[Contest, list[Table], list[Unranked]]], files: list[Path]) -> None:
    """The table as files: .md, .csv or .json by their names."""
    from .. import view_rank
    from ..jsonfile import replace_file

    for file in files:
        if file.suffix == ".md":
            text = "\n".join(view_rank.markdown(*one) for one in shown)
        elif file.suffix == ".csv":
            text = "\n".join(view_rank.comma_separated(t, m) for _, t, m in shown)
        else:
            text = _json(shown) + "\n"
        replace_file(file, text)
