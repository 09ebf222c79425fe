"""`mxbench import`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from . import options


def import_command(
    problem: Annotated[
        str, typer.Argument(metavar="PROBLEM", help="A problem folder of the public judge.")
    ],
    suite: Annotated[
        str | None, typer.Option(metavar="NAME", help="The suite's name. Default: the folder's.")
    ] = None,
    target: options.Target = "cpu",
    force: Annotated[bool, typer.Option("--force", help="Replace a suite of that name.")] = False,
) -> None:
    """Make a suite of a problem's case list, where its operator is one that mxbench knows.

    The problem's module runs in a worker only. The suite takes shapes, counts, tolerance and the
    scales of the inputs from it, and draws its numbers by mxbench's recipes.
    """
    from .. import view, workspace
    from ..publicjudge import folder, importing
    from ..publicjudge.driver import Driver

    here = workspace.find()
    found = folder.find(here, problem)
    name = suite or found.slug
    with tempfile.TemporaryDirectory() as logs, view.meter(quiet=False) as meter:
        log = Path(logs) / "worker.log"
        with Driver(here.kernels, options.check_target(target), log) as driver:
            driver.start()
            read = driver.read(found)
        for note in read.notes:
            meter.note(f"note: {note}")
    op, text = importing.suite_text(found, read, name)
    path = importing.suite_path(here, op, name, force)
    count = importing.write(path, op, name, text)
    shown = path.relative_to(here.root) if path.is_relative_to(here.root) else path
    print(f"{shown}: {count} cases; mxbench check {op} --suite {name}")
