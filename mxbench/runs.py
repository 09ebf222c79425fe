"""One run: a planned list of cases, its file on disk, and how an interrupted run goes on.

`<state>/runs/<id>.jsonl` holds a header line with the plan and, once the run is through, a footer.
A file without a footer that nobody holds locked belongs to a run that was interrupted. The same
command finds it by the hash of its plan (cases, kernels' sources, device, versions, settings) and
takes over the records that are already in the journal.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from .case import Case
from .errors import MxbenchError
from .kernel import Kernel
from .record import Journal, Record, read_journal, unwritable


@dataclass(frozen=True)
class Step:
    """One case and the kernel that serves it."""

    case: Case
    kernel: Kernel

    @property
    def key(self) -> tuple[str, str]:
        """What identifies a step within its run."""
        return self.case.id, self.kernel.name


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """First line of a run file."""

    run: str
    started: str
    """UTC, ISO 8601."""
    title: str
    """What was asked for, such as `check mla functional`."""
    plan: str
    """Hash of all that decides the results."""
    steps: int
    target: str
    device: str


class Footer(msgspec.Struct, frozen=True, kw_only=True):
    """Last line of a run that went through."""

    finished: str
    passed: int
    failed: int
    skipped: int


def plan_hash(steps: Sequence[Step], settings: dict[str, Any]) -> str:
    """Hash of the cases, the kernels' sources and `settings` (device, versions, options)."""
    content = [[step.case.encode().decode(), step.kernel.name, step.kernel.sha] for step in steps]
    data = msgspec.json.encode([content, settings], order="deterministic")
    return hashlib.sha256(data).hexdigest()[:16]


def new_id() -> str:
    """A run id that sorts by time: `20260801-093000-1f3c` (UTC)."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"


def log_path(state: Path, run: str) -> Path:
    """Where the stdout and stderr of a run's workers go."""
    return state / "runs" / f"{run}.log"


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class Run:
    """A run in progress: its id, its journal, and the records taken over from an earlier try."""

    def __init__(self, journal: Journal, fd: int, path: Path, resumed: list[Record]) -> None:
        self.id = path.stem
        self.journal = journal
        self.resumed = resumed
        """Finished records of the interrupted run that this one continues."""
        self._fd = fd
        self._path = path

    def finish(self, passed: int, failed: int, skipped: int) -> None:
        """Mark the run as through, so that the same command starts anew."""
        footer = Footer(finished=_now(), passed=passed, failed=failed, skipped=skipped)
        _write(self._fd, footer, self._path)

    def close(self) -> None:
        """Let go of the run; without `finish` the next identical command continues it."""
        os.close(self._fd)
        self.journal.close()


def _write(fd: int, line: msgspec.Struct, path: Path) -> None:
    try:
        os.write(fd, msgspec.json.encode(line) + b"\n")
        os.fsync(fd)
    except OSError as error:
        raise unwritable(path.parent, error) from error


def _lock(path: Path, flags: int) -> int | None:
    """A descriptor that holds the run file; None if another process does."""
    fd = os.open(path, flags | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return None
    return fd


def start(state: Path, header: Header) -> Run:
    """Start a new run in folder `state`.

    Raises:
        MxbenchError: the folder cannot be written to.
    """
    journal = Journal(state)
    path = state / "runs" / f"{header.run}.jsonl"
    try:
        path.parent.mkdir(exist_ok=True)
        fd = _lock(path, os.O_CREAT | os.O_EXCL)
    except OSError as error:
        raise unwritable(state, error) from error
    assert fd is not None  # nobody else knows a file that is just made
    _write(fd, header, path)
    return Run(journal, fd, path, [])


def header(run: str, title: str, plan: str, steps: int, target: str, device: str) -> Header:
    """The first line of a run that starts now."""
    return Header(
        run=run,
        started=_now(),
        title=title,
        plan=plan,
        steps=steps,
        target=target,
        device=device,
    )


def resume(state: Path, plan: str) -> Run | None:
    """The newest interrupted run of this very plan, if there is one."""
    for path in sorted((state / "runs").glob("*.jsonl"), reverse=True):
        head, footer = read_run(path)
        if head is None or head.plan != plan or footer is not None:
            continue
        try:
            fd = _lock(path, 0)
        except OSError as error:
            raise unwritable(state, error) from error
        if fd is None:  # it runs at this moment
            continue
        records, _ = read_journal(state / "journal.jsonl")
        done = {(r.id, r.kernel): r for r in records if r.run == path.stem}
        return Run(Journal(state), fd, path, list(done.values()))
    return None


def read_run(path: Path) -> tuple[Header | None, Footer | None]:
    """Header and footer of a run file; None for what is missing or damaged."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise MxbenchError(f"cannot read {path}: {error.strerror}") from error
    header = _decode(lines[0], Header) if lines else None
    footer = _decode(lines[-1], Footer) if len(lines) > 1 else None
    return header, footer


def _decode(line: bytes, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(line, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
