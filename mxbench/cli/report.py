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
    pdf: Annotated[
        bool, typer.Option("--pdf", help="Every page as a PDF too (extra `pdf`).")
    ] = False,
    html: Annotated[
        bool, typer.Option("--html", help="All pages as one self-contained report.html too.")
    ] = False,
    slides: Annotated[
        bool, typer.Option("--slides", help="Introductory slides too (extra `slides`).")
    ] = False,
    resources: Annotated[
        bool,
        typer.Option(
            "--resources",
            help="Compile what was timed with nvcc, and keep registers, shared memory and "
            "spills for the design report. No GPU needed; takes minutes.",
        ),
    ] = False,
) -> None:
    """Render reports from journals: design, function, performance and charts, device by device.

    Needs neither a GPU nor torch. Prints the files it wrote, the summary first.
    """
    from .. import report, rules, workspace

    here = workspace.find()
    folder = out or here.reports
    paths = journal or report.default_paths(here, folder)
    for path in report.write(
        paths,
        folder,
        lang,
        workspace=here,
        rule=rule or rules.DEFAULT_RULE,
        title=title,
        options=report.Options(pdf, html, slides, resources),
    ):
        print(path)
