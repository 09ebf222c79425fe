"""Which hand-ins take part."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..errors import MxbenchError
from .parcel import KERNELS

ZIP = ".zip"


def find(paths: Iterable[Path]) -> dict[str, Path]:
    """Hand-ins by name: each path is one (a zip, a folder with kernels), or a folder of them.

    In a folder of hand-ins every zip and every folder takes part, sound or not: one that holds no
    kernels is told so by name.

    Raises:
        MxbenchError: exit code 2; a path is missing or holds none, or two have one name.
    """
    found: dict[str, Path] = {}
    for path in (one for given in paths for one in _inside(given)):
        name = path.stem if path.is_file() else path.resolve().name
        if not name.strip("."):
            raise MxbenchError(f"{path}: {name!r} is no name for a hand-in", "rename it")
        if name in found:
            raise MxbenchError(f"two hand-ins are named {name!r}", "rename one of them")
        found[name] = path
    return found


def _inside(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise MxbenchError(f"no hand-in at {path}", "name a folder or a .zip")
    if (path / KERNELS).is_dir():
        return [path]
    children = sorted(c for c in path.iterdir() if not c.name.startswith("."))
    found = [c for c in children if c.is_dir() or c.suffix.lower() == ZIP]
    if not found:
        raise MxbenchError(
            f"{path} holds no hand-in", f"a hand-in is a zip, or a folder with {KERNELS}/<op>/"
        )
    return found
