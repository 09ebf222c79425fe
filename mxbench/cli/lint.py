"""`mxbench lint`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import EXIT_FAILED, MxbenchError
from . import options

if TYPE_CHECKING:
    from ..kernel import Kernel
    from ..lint import Report
    from ..workspace import Workspace

Allow = Annotated[
    list[str] | None,
    typer.Option("--allow", metavar="RULE", help="Let a rule's findings pass; needs --because."),
]
Because = Annotated[
    list[str] | None,
    typer.Option("--because", metavar="TEXT", help="Why, in order of the --allow; it is shown."),
]


def lint_command(
    kernel: Annotated[
        str,
        typer.Argument(
            metavar="FILE.py|OP/NAME|OP|all",
            help="A submission or kernel file, a kernel of the workspace, or all of them.",
        ),
    ],
    allow: Allow = None,
    because: Because = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Look for what the contest bans: nothing runs, the source is read.

    Exit code 0: nothing found, or all of it allowed. 1: offences. 2: bad usage or input.
    """
    from .. import lint, view, workspace
    from ..lint.tree import lint_kernels

    here = workspace.find()
    allowed = lint.parse_allowed(allow or [], because or [])
    reports = lint_kernels(here, _kernels(here, kernel), allowed)
    if json:
        _print_json(reports, allowed)
    else:
        out = view.console()
        for name, report in reports:
            _print(out, name, report, quiet)
    if any(report.offences for _, report in reports):
        raise typer.Exit(EXIT_FAILED)


def _kernels(here: Workspace, name: str) -> list[Kernel]:
    """The kernels that an argument stands for."""
    from pathlib import Path

    from .. import kernel as kernels
    from ..ops import OPERATORS
    from ..plan import operators

    if name.endswith(".py"):
        path = Path(name)
        if not path.is_file():
            raise MxbenchError(f"kernel file {name} does not exist", "check the path")
        op = path.resolve().parent.name
        return [kernels.Kernel(op if op in OPERATORS else "", path.stem, path.resolve())]
    op, slash, one = name.partition("/")
    if slash and op in OPERATORS:
        return [kernels.find(here, op, one)]
    return [k for known in operators(op) for k in kernels.find_all(here, known)]


def _print(out: object, name: str, report: Report, quiet: bool) -> None:
    from rich.console import Console
    from rich.text import Text

    assert isinstance(out, Console)
    for finding in report.offences:
        line = Text(f"{finding.path.name}:{finding.line}: ", style="bold")
        line.append(finding.rule, "bold red").append(f": {finding.what}", "default not bold")
        out.print(line.append(f"\n  {finding.why}", "default not bold"))
    for finding in () if quiet else report.waivers:
        out.print(Text(f"allowed: {finding}", style="yellow"))
    count = len(report.offences)
    verdict = "nothing banned" if not count else f"{count} offence{'s' * (count > 1)}"
    more = f", {len(report.waivers)} allowed" if report.waivers else ""
    style = "bold red" if count else "green"
    out.print(
        Text(f"{name}: ").append(verdict, style).append(f"{more} ({len(report.files)} files read)")
    )


def _print_json(reports: list[tuple[str, Report]], allowed: dict[str, str]) -> None:
    import msgspec

    def lines(report: Report) -> list[dict[str, object]]:
        return [
            {
                "rule": f.rule,
                "file": f.path.name,
                "line": f.line,
                "what": f.what,
                "why": f.why,
                "allowed_because": f.because,
            }
            for f in report.findings
        ]

    document = {
        "schema": 1,
        "allowed": allowed,
        "kernels": [
            {"kernel": name, "files": report.files, "findings": lines(report)}
            for name, report in reports
        ],
    }
    print(msgspec.json.encode(document).decode())
