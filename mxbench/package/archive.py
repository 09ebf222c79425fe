"""Zips: byte for byte the same from the same files, and unpacked without harm."""

from __future__ import annotations

import os
import stat
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from ..errors import MxbenchError

EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can say
MOST_FILES = 20_000
MOST_BYTES = 8 << 30
MOST_RATIO = 200
"""Unpacked over packed size of a whole zip; source text packs to a fifth, journals to a tenth."""
SMALL = 64 << 20
"""Below this, a high ratio is no bomb."""


def pack(folder: Path, out: Path) -> None:
    """Every file under `folder` as the zip `out`, in the order of their names, without times.

    Raises:
        OSError: `out` cannot be written; what was written so far is left to the caller.
    """
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as made:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            name = path.relative_to(folder).as_posix()
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3
            executable = path.stat().st_mode & stat.S_IXUSR
            entry.external_attr = (stat.S_IFREG | (0o755 if executable else 0o644)) << 16
            with path.open("rb") as source, made.open(entry, "w", force_zip64=False) as target:
                while chunk := source.read(1 << 20):
                    target.write(chunk)


def repack(path: Path) -> None:
    """Write a zip-based document again without its times, so that its bytes repeat."""
    with zipfile.ZipFile(path) as old:
        members = [(m.filename, old.read(m)) for m in old.infolist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as made:
        for name, data in members:  # their order matters to readers of such documents
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3
            made.writestr(entry, data)


def unpack(path: Path, into: Path) -> None:
    """Unpack anybody's zip into the empty folder `into`.

    Raises:
        MxbenchError: exit code 2; it is no zip, is damaged or encrypted, names a place outside of
            `into`, holds a link, or unpacks to too much.
    """
    try:
        with zipfile.ZipFile(path) as source:
            members = source.infolist()
            _refuse_bombs(path, members)
            for member in members:
                _unpack_one(source, member, path.name, into)
    except FileNotFoundError as error:
        raise MxbenchError(f"no file {path}", "name a .zip or a folder") from error
    except zipfile.BadZipFile as error:
        raise MxbenchError(f"{path.name} is not a zip: {error}", "pack it again") from error
    except (UnicodeDecodeError, zlib.error, EOFError, struct.error) as error:
        raise MxbenchError(f"{path.name} is damaged: {error}", "pack it again") from error
    except (RuntimeError, NotImplementedError) as error:  # a password, an unknown compression
        raise MxbenchError(f"{path.name}: {error}", "pack it without a password") from error


def _refuse_bombs(path: Path, members: list[zipfile.ZipInfo]) -> None:
    total = sum(m.file_size for m in members)
    if len(members) > MOST_FILES:
        raise MxbenchError(f"{path.name} holds {len(members)} files", f"at most {MOST_FILES}")
    if total > MOST_BYTES or total > max(SMALL, MOST_RATIO * path.stat().st_size):
        raise MxbenchError(
            f"{path.name} would unpack to {total / 2**20:.0f} MiB", "it looks like a zip bomb"
        )


def _unpack_one(
    source: zipfile.ZipFile, member: zipfile.ZipInfo, zip_name: str, into: Path
) -> None:
    name = _readable(member)
    place = PurePosixPath(name.replace("\\", "/"))
    if place.is_absolute() or ".." in place.parts or ":" in (place.parts or ("",))[0]:
        raise MxbenchError(f"{zip_name}: {name!r} leads out of the zip", "pack it again")
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise MxbenchError(f"{zip_name}: {name!r} is a link or a device", "pack plain files")
    target = into.joinpath(*place.parts)
    if member.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    left = member.file_size  # a header may lie about the size
    with source.open(member) as packed, target.open("wb") as file:
        while chunk := packed.read(1 << 20):
            left -= len(chunk)
            if left < 0:
                raise MxbenchError(f"{zip_name}: {name!r} is larger than it says", "pack it again")
            file.write(chunk)
    if member.external_attr >> 16 & stat.S_IXUSR:
        os.chmod(target, 0o755)


def _readable(member: zipfile.ZipInfo) -> str:
    """The member's name: zips made on Chinese Windows have it in GBK, unmarked."""
    if member.flag_bits & 0x800:
        return member.filename
    try:
        return member.filename.encode("cp437").decode("gbk")
    except (UnicodeEncodeError, UnicodeDecodeError):
        return member.filename
