"""`mxbench export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import EXIT_FAILED
from . import options
from .lint import Allow, Because


def export_command(
    op: Annotated[
        str,
        typer.Argument(metavar="OP", help="moe, mla or nsa.", autocompletion=options._complete_op),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE.py", help="The file to write.")],
    kernel: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE.py",
            help="Which kernel; portable runs on cuda, maca and cpu.",
            autocompletion=options._complete_kernel,
        ),
    ] = "portable",
    allow: Allow = None,
    because: Because = None,
) -> None:
    """Write a kernel as one file for the public judge: `run_kernel`, and all that it needs.

    The file imports torch and TileLang and nothing of mxbench. It is linted first: with an offence
    that is not allowed nothing is written, and the exit code is 1.
    """
    from .. import lint, view, workspace
    from ..export import check_free, export, write
    from ..lint.sizes import case_sizes

    here = workspace.find()
    allowed = lint.parse_allowed(allow or [], because or [])
    check_free(out)
    lines = [f"{rule} is allowed because {why}" for rule, why in allowed.items()]
    made = export(here, op, kernel, lines)
    report = lint.lint_text(made.text, out.name, case_sizes(here, op), allowed)
    console = view.console(stderr=True)
    for finding in report.waivers:
        console.print(f"allowed: {finding}")
    if report.offences:
        for finding in report.offences:
            console.print(f"{finding}\n  {finding.why}")
        console.print(f"{len(report.offences)} offences: {out} is not written")
        raise typer.Exit(EXIT_FAILED)
    write(out, made.text)
    size = len(made.text.splitlines())
    for name in made.left_out:
        console.print(f"note: {op} {name} is left out: the judge does not call it")
    print(f"{out}: {size} lines from {len(made.modules)} modules, lint: nothing banned")
