"""Packs what travels to a measuring process, and finds a hand-in's kernels in what arrives."""

from __future__ import annotations

import io
import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

from .. import archive
from ..errors import MxbenchError
from ..kernel import Kernel, find, find_all
from ..ops import OPERATORS
from ..workspace import Workspace

KERNELS, COMMON = "kernels", "common"
_LEFT_OUT = {"__pycache__", ".git", ".venv", ".mxbench"}
_EPOCH = (1980, 1, 1, 0, 0, 0)  # equal contents make equal bytes


class Absent(MxbenchError):
    """The operator is not handed in, which nobody must."""


def kit(workspace: Workspace) -> bytes:
    """The organiser's kernels (for the baseline and `common`) and cases, as a zip."""
    return _pack({KERNELS: workspace.kernels, "cases": workspace.cases}, trusted=True)


def hand_in(path: Path) -> bytes:
    """A hand-in as a zip: a zip as it is, of a folder the kernels folder or all its sources.

    Raises:
        MxbenchError: exit code 2; it cannot be read, or holds more than may be unpacked.
    """
    try:
        if path.is_file():
            limit = archive.DEFAULT_LIMITS.bytes
            if path.stat().st_size > limit:
                raise MxbenchError(
                    f"{path} is larger than {limit >> 20} MiB", "leave videos and builds out"
                )
            return path.read_bytes()
        found = _kernels_in(path)
        return _pack({KERNELS: found} if found else {"": path})
    except OSError as error:
        raise MxbenchError(f"cannot read {path}: {error.strerror or error}") from None


def _pack(folders: dict[str, Path], *, trusted: bool = False) -> bytes:
    """Plain files; links are followed if `trusted`: a stranger's may lead anywhere."""
    memory, total = io.BytesIO(), 0
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, folder in folders.items():
            for path in sorted(_files(folder, trusted)):
                inside = path.relative_to(folder)
                if not path.is_file() or (not trusted and _leads_out(path, folder)):
                    continue
                if not _LEFT_OUT.isdisjoint(inside.parts):
                    continue
                total += path.stat().st_size
                if total > archive.DEFAULT_LIMITS.bytes:
                    raise MxbenchError(
                        f"{folder} holds more than {archive.DEFAULT_LIMITS.bytes >> 20} MiB",
                        "leave videos and builds out",
                    )
                entry = zipfile.ZipInfo((Path(name) / inside).as_posix(), _EPOCH)
                packed.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return memory.getvalue()


def _files(folder: Path, follow: bool) -> Iterator[Path]:
    for place, _, names in os.walk(folder, followlinks=follow):
        yield from (Path(place) / name for name in names)


def _leads_out(path: Path, folder: Path) -> bool:
    return not path.resolve().is_relative_to(folder.resolve())


def spread_out(folder: Path, name: str, packed: bytes) -> Path:
    """Unpack `packed` into the new folder `folder`/`name`.

    Raises:
        MxbenchError: exit code 2; as `archive.unpack`.
    """
    file, into = folder / f"{name}.zip", folder / name
    file.write_bytes(packed)
    into.mkdir()
    try:
        archive.unpack(file, into)
    finally:
        file.unlink()
    return into


def _kernels_in(folder: Path) -> Path | None:
    """The uppermost `kernels` folder that holds an operator's."""
    found = [
        path
        for path in folder.rglob(KERNELS)
        if path.is_dir() and any((path / op).is_dir() for op in OPERATORS)
    ]
    return min(found, key=lambda path: (len(path.parts), str(path)), default=None)


def workspace_of(handed_in: Path, kit: Workspace, folder: Path) -> Workspace:
    """A workspace in `folder`: the hand-in's kernels, the organiser's cases.

    A hand-in without `kernels/common` gets the organiser's; one that brings its own uses that, as
    its kernels were written for it. The baseline never does: it has a worker of its own.

    Raises:
        MxbenchError: exit code 2; it holds no kernels.
    """
    found = _kernels_in(handed_in)
    if found is None:
        raise MxbenchError(
            f"no {KERNELS}/ with a folder named {', '.join(OPERATORS)} in the hand-in",
            "hand in kernels/<op>/<name>.py",
        )
    kernels = folder / KERNELS
    shutil.copytree(found, kernels)
    if not (kernels / COMMON).is_dir():
        shutil.copytree(kit.kernels / COMMON, kernels / COMMON)
    for op in OPERATORS:
        (kernels / op).mkdir(exist_ok=True)
    return Workspace(kernels, kit.cases, folder)


def kernel_of(workspace: Workspace, op: str, wanted: str | None, baseline: str) -> str:
    """Name of the kernel to measure, or `auto`.

    Raises:
        MxbenchError: exit code 2; there is none, or which of several is not said.
    """
    if wanted is not None:
        return wanted if wanted == "auto" else find(workspace, op, wanted).name
    mine = [k for k in find_all(workspace, op) if k.name != baseline]
    if len(mine) == 1:
        return mine[0].name
    if not mine:
        raise Absent(f"no kernel of {op} in the hand-in", f"hand in kernels/{op}/<name>.py")
    if (workspace.kernels / COMMON / "dispatch.json").is_file() and _dispatches(
        workspace, op, mine
    ):
        return "auto"
    names = ", ".join(k.name for k in mine)
    raise MxbenchError(f"several kernels of {op} ({names}), and none chosen", "use --kernel")


def _dispatches(workspace: Workspace, op: str, mine: list[Kernel]) -> bool:
    """Whether every kernel that the hand-in's dispatch.json names for `op` is there."""
    try:
        table = json.loads((workspace.kernels / COMMON / "dispatch.json").read_text("utf-8"))
        named = {entry["kernel"] for entry in table.get(op, [])}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    return bool(named) and named <= {k.name for k in mine}
