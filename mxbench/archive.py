"""Hand-ins as folders or zips: unpack what a stranger packed without letting it do harm."""

from __future__ import annotations

import contextlib
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .errors import MxbenchError

MIB = 1 << 20
_CHUNK = 1 << 20
_CONTROL = {chr(code) for code in range(32)}


@dataclass(frozen=True)
class Limits:
    """What an archive may unpack to. A hand-in of documents and sources is far below."""

    bytes: int = 1024 * MIB
    """Of all files together, unpacked."""
    files: int = 20_000
    ratio: int = 500
    """Unpacked over packed size of a file of more than a MiB: more is a bomb, not a document."""


DEFAULT_LIMITS = Limits()


@contextlib.contextmanager
def opened(path: Path, limits: Limits = DEFAULT_LIMITS) -> Iterator[Path]:
    """The folder of a hand-in: `path` itself, or a temporary one that a zip is unpacked into.

    Raises:
        MxbenchError: exit code 2; as `unpack`, or `path` is neither folder nor file.
    """
    if path.is_dir():
        yield path
        return
    if not path.exists():
        raise MxbenchError(f"no hand-in at {path}", "name a folder or a .zip")
    with tempfile.TemporaryDirectory(prefix="mxbench-") as folder:
        unpack(path, Path(folder), limits)
        yield Path(folder)


def unpack(path: Path, folder: Path, limits: Limits = DEFAULT_LIMITS) -> None:
    """Unpack zip `path` into the empty `folder`; every entry is looked at before one is written.

    Raises:
        MxbenchError: exit code 2; it is no zip, is damaged or encrypted, or an entry would leave
            the folder, is a link or device, stands twice, or is too large. Nothing stays behind.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _inspect(path, entries, limits)
            for entry in entries:
                _write(archive, entry, folder)
    except MxbenchError:
        _empty(folder)
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError) as error:
        _empty(folder)
        raise MxbenchError(
            f"{path} is not a readable zip: {error}", "pack it again with any zip tool"
        ) from None


def _inspect(path: Path, entries: list[zipfile.ZipInfo], limits: Limits) -> None:
    if len(entries) > limits.files:
        raise _refuse(path, f"{len(entries)} entries", f"at most {limits.files} are read")
    total = 0
    seen: set[str] = set()
    for entry in entries:
        fault = _fault(entry, limits)
        # A case-insensitive file system would let the second one overwrite the first.
        place = str(PurePosixPath(entry.filename)).casefold()
        if not fault and place in seen:
            fault = "stands there twice"
        if fault:
            raise _refuse(path, f"entry {entry.filename!r} {fault}", "pack the plain files again")
        seen.add(place)
        total += entry.file_size
    if total > limits.bytes:
        raise _refuse(
            path,
            f"unpacks to {total / MIB:.0f} MiB",
            f"at most {limits.bytes / MIB:.0f} MiB are read; leave videos and builds out",
        )


def _fault(entry: zipfile.ZipInfo, limits: Limits) -> str:
    """Why an entry must not be unpacked; empty if it may."""
    name = entry.filename
    parts = PurePosixPath(name).parts
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if not parts or name.startswith("/") or ".." in parts or ":" in parts[0]:
        return "would be written outside the folder"
    if "\\" in entry.orig_filename or _CONTROL & set(name):
        return "has a backslash or control character in its name"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device, not a file"
    if entry.flag_bits & 0x1:
        return "is encrypted"
    if entry.file_size > MIB and entry.file_size > limits.ratio * max(entry.compress_size, 1):
        return f"is packed {entry.file_size // max(entry.compress_size, 1)}-fold: a bomb"
    return ""


def _refuse(path: Path, what: str, hint: str) -> MxbenchError:
    return MxbenchError(f"{path}: {what}; nothing was unpacked", hint)


def _write(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path) -> None:
    target = folder.joinpath(*PurePosixPath(entry.filename).parts)
    if entry.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    # zipfile stops at the size in the directory, which `_inspect` has counted, and then compares
    # checksums: an entry that lies about its size is damaged.
    with archive.open(entry) as source, target.open("xb") as file:
        shutil.copyfileobj(source, file, _CHUNK)


def _empty(folder: Path) -> None:
    for child in folder.iterdir():
        if child.is_dir():
            shutil.rmtree(child, ignore_errors=True)
        else:
            child.unlink(missing_ok=True)
