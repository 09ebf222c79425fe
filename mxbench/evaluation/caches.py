"""Folders for compiled programs: a hand-in's and the baseline's own, of one task.

TileLang finds a program by its key alone. In one folder, what a hand-in leaves under a key of the
baseline would be run as the baseline. So each party's workers are told only of their own folder.
They run as one user still: it is no wall against a hand-in that goes and looks for the other.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

HAND_IN, BASELINE = "cache", "cache-baseline"
PACKED = "cache.tar"


def variables(cache: Path) -> dict[str, str]:
    """Environment variables that send all that is compiled to the folder `cache`."""
    return {
        "XDG_CACHE_HOME": str(cache),
        "TILELANG_CACHE_DIR": f"{cache}/tilelang",
        "TILELANG_TMP_DIR": f"{cache}/tilelang-tmp",
        "TRITON_CACHE_DIR": f"{cache}/triton",
        "TORCHINDUCTOR_CACHE_DIR": f"{cache}/inductor",
        "TORCH_EXTENSIONS_DIR": f"{cache}/extensions",
        "CUDA_CACHE_PATH": f"{cache}/cuda",
    }


def pack(folder: Path, filled: Iterable[str]) -> bytes:
    """The caches of a task's folder, each packed as soon as it is filled.

    Args:
        filled: yields `BASELINE` or `HAND_IN` when that cache is full; what comes later, such as
            a hand-in's code, changes no more of it.
    """
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w") as packed:
        for name in filled:
            packed.add(folder / name, arcname=name)
    return memory.getvalue()


def unpack(packed: bytes, folder: Path) -> None:
    """Put packed caches in place; links, foreign places and any other file are passed over."""
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter=_only_caches)


def _only_caches(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo | None:
    parts = PurePosixPath(member.name).parts
    if not (member.isfile() or member.isdir()) or ".." in parts:
        return None
    return tarfile.data_filter(member, folder) if parts[:1] in ((HAND_IN,), (BASELINE,)) else None
