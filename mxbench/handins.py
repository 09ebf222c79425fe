"""Find and read hand-ins: folders or zips with a journal, and maybe the sources it is about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from . import archive
from .errors import MxbenchError
from .kernel import Kernel
from .ranking import HandIn
from .record import read_journal

JOURNAL = "journal.jsonl"
KERNELS = "kernels"
JOURNAL_LIMIT = 256 << 20
"""Bytes of a journal; a whole one of all suites has some three million."""


def read(paths: Iterable[Path]) -> list[HandIn]:
    """Every hand-in that `paths` name: each is one, or a folder of them.

    Raises:
        MxbenchError: exit code 2; a path is missing, an archive is bad (see `archive.unpack`), a
            folder holds no hand-in, or two hand-ins have one name.
    """
    found = [read_one(path) for path in find(paths)]
    twice = [name for name, count in Counter(one.name for one in found).items() if count > 1]
    if twice:
        raise MxbenchError(f"two hand-ins are named {twice[0]!r}", "rename one of them")
    return found


def find(paths: Iterable[Path]) -> Iterator[Path]:
    """The hand-ins themselves: zips, and folders that have a journal or sources of their own."""
    for path in paths:
        if not path.is_dir():
            if not path.exists():
                raise MxbenchError(f"no hand-in at {path}", "name a folder or a .zip")
            yield path
        elif _is_hand_in(path):
            yield path
        else:
            inside = sorted(c for c in path.iterdir() if c.is_dir() or c.suffix.lower() == ".zip")
            inside = [c for c in inside if c.is_file() or _journals(c)]
            if not inside:
                raise MxbenchError(
                    f"{path} holds no hand-in",
                    f"a hand-in is a zip, or a folder with a {JOURNAL} (written by `mxbench perf`)",
                )
            yield from inside


def _is_hand_in(folder: Path) -> bool:
    places = (folder / JOURNAL, folder / ".mxbench" / JOURNAL, folder / KERNELS, folder / "reports")
    return any(place.exists() for place in places)


def read_one(path: Path) -> HandIn:
    """One hand-in; faults of its content are kept in it, faults of the archive are raised."""
    name = path.stem if path.is_file() else path.resolve().name
    with archive.opened(path) as folder:
        return read_folder(name, folder)


def read_folder(name: str, folder: Path) -> HandIn:
    """A hand-in that lies unpacked."""
    records, faults = [], []
    journals = _journals(folder)
    if not journals:
        faults.append(f"no {JOURNAL}")
    for journal in journals:
        if journal.stat().st_size > JOURNAL_LIMIT:
            faults.append(f"{journal.name} is larger than {JOURNAL_LIMIT >> 20} MiB")
            continue
        lines, damaged = read_journal(journal)
        records += lines
        faults += damaged[:3]
    # A journal that was copied beside itself says nothing new.
    unique = list({(r.run, r.id, r.kernel, r.status, r.rule): r for r in records}.values())
    return HandIn(name, tuple(unique), _hashes(folder), tuple(faults))


def _journals(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob(JOURNAL) if p.is_file() and not p.is_symlink())


def _hashes(folder: Path) -> dict[tuple[str, str], str]:
    """Hashes of the kernels handed in, as the journal's `kernel_sha` is made."""
    found = {}
    for kernels in sorted(p for p in folder.rglob(KERNELS) if (p / "common").is_dir()):
        for file in sorted(kernels.glob("*/*.py")):
            if not file.stem.startswith("_") and file.parent.name != "common":
                try:
                    kernel = Kernel(file.parent.name, file.stem, file)
                    found[kernel.op, kernel.name] = kernel.sha
                except (MxbenchError, SyntaxError, UnicodeDecodeError, OSError):
                    continue  # it could not have been measured; its records then have no source
    return found
