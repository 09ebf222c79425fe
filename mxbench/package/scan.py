"""Search a folder for personal information: texts, sources, PDFs, slides, metadata, file names."""

from __future__ import annotations

import getpass
import platform
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import extract
from .patterns import Scanner

COMMON = frozenset({"root", "user", "admin", "ubuntu", "localhost", "runner", "docker", "work",
                    "mxbench", "unknown"})  # fmt: skip
"""Names of users, hosts and authors that tell nothing, and are words of ordinary text."""


WHOLE = 256 << 20
"""Bytes of a file that is read as a whole."""


@dataclass(frozen=True)
class Finding:
    """Personal information in a file."""

    file: str
    """Its path within the folder."""
    place: str
    """A line's number, `page 3`, `metadata`, `file name`."""
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.place}: {self.kind}: {self.text}"


def private_words(root: Path, given: Sequence[str] = ()) -> list[tuple[str, str]]:
    """(kind, word) of what is private here: the names given, this host and user, git's authors."""
    found = [("name or unit given", word) for word in given]
    found += [("host name", platform.node()), ("user name", _user())]
    found += [("git author", word) for word in _authors(root)]
    return [
        (kind, w)
        for kind, w in found
        if w.lower() not in COMMON and (len(w) > 2 or not w.isascii())
    ]


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


def _authors(root: Path) -> list[str]:
    """Names and addresses in the history of the repository around `root`, if there is one."""
    command = ["git", "-C", str(root), "log", "--format=%an%n%ae%n%cn%n%ce", "-n", "5000"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return sorted(set(done.stdout.splitlines())) if done.returncode == 0 else []


def _data(path: Path) -> bytes:
    """A file's content; of a video, or anything else that large, the two ends."""
    size = path.stat().st_size
    if size <= WHOLE:
        return path.read_bytes()
    with path.open("rb") as file:
        first = file.read(extract.ENDS)
        file.seek(size - extract.ENDS)
        return first + b"\0" + file.read()


def scan(folder: Path, words: Iterable[tuple[str, str]] = ()) -> list[Finding]:
    """All findings in the files under `folder`, file by file in the order of their names."""
    scanner = Scanner(words)
    found: dict[Finding, None] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        for match in scanner.find(name):
            found[Finding(name, "file name", match.kind, match.text)] = None
        for place, text in extract.words(name, _data(path)):
            for match in scanner.find(text):
                found[Finding(name, place, match.kind, match.text)] = None
    return list(found)
