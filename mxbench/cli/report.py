"""`mxbench report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

LANGUAGES = ("zh", "en")


def _complete_language(incomplete: str) -> list[str]:
    return [name for name in LANGUAGES if name.startswith(incomplete)]


def _complete_rule(incomplete: str) -> list[str]:
    from .. import rules, workspace

    return [name for name in rules.names(workspace.find()) if name.startswith(incomplete)]


def report_command(
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Where the reports go. Default: reports/."),
    ] = None,
    journal: Annotated[
        list[Path] | None,
        typer.Option(
            "--journal",
            metavar="PATH",
            help="A journal, several if repeated. "
            "Default: those of the devices under --out, and your own runs' in .mxbench/.",
        ),
    ] = None,
    lang: Annotated[
        str,
        typer.Option(
            "--lang", metavar="zh|en", help="Language.", autocompletion=_complete_language
        ),
    ] = "zh",
    rule: Annotated[
        str | None,
        typer.Option(
            "--rule",
            help="Whose timings count, and whose gate. Default: xh-202608.",
            autocompletion=_complete_rule,
        ),
    ] = None,
    title: Annotated[
        str, typer.Option("--title", help="Goes before the title of every page.")
    ] = "",
) -> None:
    """Render test reports from journals: function, performance and charts, device by device.

    Needs neither a GPU nor torch. Prints the files it wrote, the summary first.
    """
    from .. import report, rules, workspace

    here = workspace.find()
    folder = out or here.reports
    paths = journal or report.default_paths(here, folder)
    for path in report.write(
        paths, folder, lang, workspace=here, rule=rule or rules.DEFAULT_RULE, title=title
    ):
        print(path)
