"""`watch`: which kernels a changed file touches, and the cases to check them on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import watchfiles

from . import kernel as kernels
from .errors import MxbenchError
from .kernel import Kernel
from .plan import AUTO, Request
from .record import Record
from .session import Session
from .settings import Settings
from .view import Meter
from .workspace import Workspace

QUIET_MS = 50
"""After a save, wait so long for the editor's further writes."""
WAKE_MS = 200


@dataclass(frozen=True)
class Round:
    """One check after a save."""

    kernel: str
    session: Session
    problem: MxbenchError | None = None
    """Why nothing was checked, such as a syntax error in the middle of an edit."""


def folders(workspace: Workspace, op: str) -> list[Path]:
    """What is watched: the operator's kernels, what they share, and its cases."""
    found = [workspace.kernels / op, workspace.kernels / "common", workspace.cases / op]
    return [path for path in found if path.is_dir()]


def touched(workspace: Workspace, op: str, changed: Iterable[Path], wanted: str) -> list[str]:
    """The kernels to check when `changed` were saved, as names for `--kernel`.

    A kernel's own file and the files it imports touch it. What all kernels share touches `wanted`
    (`auto`, a name or a file), and so does a case file; with a name, nothing else is checked.
    """
    changed = {path.resolve() for path in changed}
    common = (workspace.kernels / "common").resolve()
    everyone = any(p.is_relative_to(common) or p.suffix == ".json" for p in changed)
    if wanted != AUTO:
        mine = files_of(kernels.find(workspace, op, wanted))
        return [wanted] if everyone or mine & changed else []
    if everyone:
        return [AUTO]
    return [k.name for k in kernels.find_all(workspace, op) if files_of(k) & changed]


def files_of(kernel: Kernel) -> set[Path]:
    """A kernel's file and those that it imports; while it does not parse, its file alone."""
    try:
        return {kernel.path.resolve(), *(path.resolve() for path in kernel.imports)}
    except (MxbenchError, SyntaxError):
        return {kernel.path.resolve()}


def check(
    workspace: Workspace,
    request: Request,
    settings: Settings,
    kernel: str,
    state: Path,
    meter: Meter,
) -> Round:
    """Judge one kernel, the smallest cases first."""
    session = Session(workspace, replace(request, kernel=kernel), settings, state)
    try:
        session.run(meter, _ignore)
    except MxbenchError as error:
        return Round(kernel, session, error)
    return Round(kernel, session)


def _ignore(record: Record) -> None:
    pass


def changes(workspace: Workspace, op: str, more: Iterable[Path]) -> Iterator[set[Path]]:
    """Sets of files that were saved, as they are saved, until Ctrl-C.

    Watching has begun when the first set, which is empty, is there.
    """
    watched = [*folders(workspace, op), *{path.parent for path in more}]
    source = watchfiles.watch(
        *watched,
        watch_filter=lambda change, path: _matters(change, Path(path)),
        debounce=4 * QUIET_MS,
        step=QUIET_MS,
        rust_timeout=WAKE_MS,
        yield_on_timeout=True,
        raise_interrupt=True,
    )
    yield {Path(path) for _, path in next(source)}
    for found in source:
        if found:
            yield {Path(path) for _, path in found}


def _matters(change: watchfiles.Change, path: Path) -> bool:
    """Sources and schedules, but not the swap and half-written files of editors."""
    hidden = path.name.startswith((".", "#")) or path.name.endswith("~")
    deleted = change is watchfiles.Change.deleted
    return path.suffix in (".py", ".json") and not hidden and not deleted
