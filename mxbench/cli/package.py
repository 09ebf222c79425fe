"""`mxbench package`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import EXIT_FAILED, MxbenchError
from .report import LANGUAGES, _complete_language, _complete_rule

if TYPE_CHECKING:
    from ..package import Inspection, Request
    from ..workspace import Workspace

SHOWN = 40  # findings that are printed


def package_command(
    path: Annotated[
        Path | None,
        typer.Argument(metavar="[ZIP]", help="With --check: the zip or folder to inspect."),
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Inspect only: the hand-in to be, or ZIP. Writes nothing."),
    ] = False,
    unit: Annotated[str, typer.Option("--unit", help="Your unit; goes into the zip's name.")] = "",
    name: Annotated[str, typer.Option("--name", help="Your name; likewise.")] = "",
    title: Annotated[str, typer.Option("--title", help="Title of the work; likewise.")] = "",
    phone: Annotated[str, typer.Option("--phone", help="Your phone number; likewise.")] = "",
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the zip goes.")] = Path(
        "dist"
    ),
    journal: Annotated[
        list[Path] | None,
        typer.Option("--journal", metavar="PATH", help="A journal; default as for `report`."),
    ] = None,
    device: Annotated[
        str, typer.Option("--device", help="Whose results, such as nvidia-h100, if of several.")
    ] = "",
    op: Annotated[
        list[str] | None,
        typer.Option(
            "--op", help="An operator to hand in, several if repeated. Default: all timed."
        ),
    ] = None,
    rule: Annotated[
        str | None,
        typer.Option("--rule", help="Default: xh-202608.", autocompletion=_complete_rule),
    ] = None,
    lang: Annotated[
        str,
        typer.Option(
            "--lang",
            metavar="|".join(LANGUAGES),
            help="Language of the documents.",
            autocompletion=_complete_language,
        ),
    ] = "zh",
    log: Annotated[
        list[Path] | None,
        typer.Option("--log", metavar="PATH", help="A log file or folder to add."),
    ] = None,
    video: Annotated[
        list[Path] | None, typer.Option("--video", metavar="FILE", help="The video, for the final.")
    ] = None,
    slides: Annotated[bool, typer.Option("--slides", help="Make slides and add them.")] = False,
    size_limit: Annotated[
        float, typer.Option("--size-limit", metavar="MB", help="Refuse a larger zip.", min=0.0)
    ] = 0.0,
) -> None:
    """Build the hand-in as one zip, or inspect one: complete, runnable, no personal information.

    The four parts of the zip's name are asked for where they are not given, and kept nowhere else.
    Exit code 1 if the inspection finds something; then no zip is written.
    """  # fmt: skip
    from .. import package, report, rules, workspace

    here = workspace.find()
    if path is not None:
        if not check:
            raise MxbenchError("a ZIP is only inspected", "add --check")
        _show(package.inspect(path, here))
        return
    paths = tuple(journal or report.default_paths(here, here.reports))
    request = package.Request(
        journals=paths, device=device, ops=tuple(op or ()), rule=rule or rules.DEFAULT_RULE,
        language=lang, logs=tuple(log or ()), video=tuple(video or ()), slides=slides,
        size_limit=int(size_limit * 1e6),
    )  # fmt: skip
    if check:
        _show(_staged(request, title, here))
        return
    hand_in = package.HandIn(
        _asked("unit", unit), _asked("name", name), _asked("title", title), _asked("phone", phone)
    )
    made, found = package.build(request, hand_in, out, here, _say)
    _show(found)
    print(made)


def _staged(request: Request, title: str, here: Workspace) -> Inspection:
    from .. import package

    with tempfile.TemporaryDirectory(prefix="handin-") as work:
        folder = Path(work) / "staged"
        handed = package.stage(request, title or "hand-in", folder, here, _say)
        return package.inspect_staged(folder, handed, here, None)


def _asked(field: str, value: str) -> str:
    """The option's value, else what the user types."""
    if value:
        return value
    if not sys.stdin.isatty():
        raise MxbenchError(f"--{field} is missing", "the zip is named unit－name－title－phone.zip")
    answer = typer.prompt(f"{field} (for the zip's name only)", err=True)
    return str(answer)


def _say(message: str) -> None:
    print(message, file=sys.stderr)


def _show(found: Inspection) -> None:
    """What is there, what is missing, what must go; exit code 1 if anything is wrong."""
    for item in found.items:
        mark = "ok     " if item.found else "MISSING" if item.required else "(none) "
        more = item.found or (item.wanted if item.required else "optional")
        _say(f"{mark}  {item.name}: {more}")
    for line in found.damaged:
        _say(f"DAMAGED  {line}")
    for line in found.banned:
        _say(f"BANNED   {line}")
    if found.name:
        _say(f"NAME     {found.name}")
    for finding in found.findings[:SHOWN]:
        _say(f"PERSONAL {finding}")
    if len(found.findings) > SHOWN:
        _say(f"PERSONAL and {len(found.findings) - SHOWN} more")
    if not found.ok:
        missing = sum(not item.ok for item in found.items)
        personal, damaged = len(found.findings), len(found.damaged)
        banned = len(found.banned)
        _say(f"refused: {missing} missing, {personal} personal, {damaged} damaged, {banned} banned")
        raise typer.Exit(EXIT_FAILED)
    _say("complete, and no personal information found")
