"""Records and the append-only journal they live in: one JSON object a line."""

from __future__ import annotations

import getpass
import os
import platform
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, Literal

import msgspec

from .case import Case
from .errors import MxbenchError
from .measurement import Timing
from .publicjudge.messages import Judged
from .roofline import Bound
from .verdict import Errors, Status

SCHEMA = 1


class Environment(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a result depends on besides kernel, case and device. Names no machine and nobody."""

    mxbench: str | None = None
    python: str
    torch: str
    tilelang: str | None = None
    tvm_ffi: str | None = None
    cuda: str | None = None
    maca: str | None = None
    driver: str | None = None
    arch: str | None = None
    """`sm_90a`, `x86_64`, ..."""
    sms: int
    """Streaming multiprocessors, compute units, or CPU cores."""
    memory: int
    """Bytes of the device."""
    platform: str
    """Operating system and machine type, such as `Linux-x86_64`."""
    knobs: dict[str, str] = {}
    """Environment variables that steer the compiler (`TILELANG_MACA_GEMM_*`, ...)."""


class WorkDone(msgspec.Struct, frozen=True):
    """Least work of the call."""

    flops: int
    bytes: int


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """case x kernel x device -> verdict. Fields in the order of their JSON keys."""

    schema: Literal[1]
    run: str
    op: str
    contract: str
    suite: str
    case: str
    params: dict[str, Any]
    dtype: str
    seed: int
    kernel: str
    """Name of the module, without its folder."""
    kernel_sha: str
    schedule: dict[str, Any] = {}
    """Tile sizes and the like that ran, by program."""
    target: str
    device: str
    rule: str | None = None
    status: Status
    strict: Status | None = None
    errors: Errors | None = None
    timing: Timing | None = None
    work: WorkDone
    bound: Bound | None = None
    env: Environment
    reason: str = ""
    precision: str = "fp32"
    """Of the golden."""
    repeats: int = 0
    """Further calls that had to put out the same bits."""
    probes: list[str] = []
    """What a second call, on other numbers, tested; absent where there was none."""
    seconds: dict[str, float] = {}
    """Wall time of each stage: inputs, compile, kernel (one call), golden."""
    judged: Judged | None = None
    """Of a case of a public judge's problem."""

    @property
    def id(self) -> str:
        return f"{self.op}/{self.suite}/{self.case}"

    @property
    def passed(self) -> bool:
        return self.status == Status.PASSED

    @property
    def skipped(self) -> bool:
        return self.status == Status.SKIPPED


def case_fields(case: Case) -> dict[str, Any]:
    """The fields of a record that come from its case."""
    return {
        "op": case.op,
        "contract": case.contract,
        "suite": case.suite,
        "case": case.name,
        "params": msgspec.to_builtins(case.params),
        "dtype": case.dtype,
        "seed": case.seed,
        "work": WorkDone(case.work.flops, case.work.bytes),
    }


# --- no names of people and machines ------------------------------------------------------------

# Folders of an absolute path; what follows the last slash stays. Not part of a URL or `a/b`.
_FOLDERS = re.compile(r"(?<![\w/.:~*-])~?/(?:[^\s/:'\"<>|,;()\[\]]+/)+")


@cache
def _private_words() -> tuple[tuple[re.Pattern[str], str], ...]:
    """Patterns of this machine's and user's names, with what replaces them."""
    words = []
    for name, label in ((platform.node(), "<host>"), (_user(), "<user>")):
        # `root` and `localhost` say nothing about anybody, and are words of error messages.
        if len(name) > 2 and name not in ("root", "localhost"):
            words.append((re.compile(rf"(?<!\w){re.escape(name)}(?!\w)"), label))
    return tuple(words)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return ""


def scrub(text: str) -> str:
    """`text` without absolute folders, the home folder, the host's and the user's name."""
    home = os.path.expanduser("~")
    if len(home) > 1:
        text = re.sub(rf"{re.escape(home)}(?=/|\b)", "~", text)
    text = _FOLDERS.sub("", text)
    for pattern, label in _private_words():
        text = pattern.sub(label, text)
    return text


# --- the journal --------------------------------------------------------------------------------


class Journal:
    """An append-only file of records that survives a kill at any moment.

    Each line is one `write` to a descriptor opened for appending, followed by `fsync`: what a kill
    can damage is the line being written, and reading passes over it.
    """

    def __init__(self, folder: Path) -> None:
        """Open, or create, `folder`/journal.jsonl.

        Raises:
            MxbenchError: the folder cannot be written to; before any work is done.
        """
        self.path = folder / "journal.jsonl"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._fd = os.open(self.path, flags, 0o644)
        except OSError as error:
            raise unwritable(folder, error) from error
        self._torn = self._ends_torn()

    def _ends_torn(self) -> bool:
        size = os.fstat(self._fd).st_size
        return size > 0 and os.pread(self._fd, 1, size - 1) != b"\n"

    def append(self, record: Record) -> None:
        """Write one line and see it on disk.

        Raises:
            MxbenchError: the disk is full, or gone.
        """
        line = msgspec.json.encode(record) + b"\n"
        if self._torn:
            line = b"\n" + line
        try:
            written = os.write(self._fd, line)
            self._torn = written < len(line)
            if self._torn:
                raise OSError(28, "No space left on device")
            os.fsync(self._fd)
        except OSError as error:
            raise unwritable(self.path.parent, error) from error

    def close(self) -> None:
        os.close(self._fd)


def unwritable(folder: Path, error: OSError) -> MxbenchError:
    """The error for a folder that results cannot be written to."""
    return MxbenchError(
        f"cannot write results to {folder}: {error.strerror or error}",
        "make room there, or name another folder with --out",
    )


def read_journal(path: Path) -> tuple[list[Record], list[str]]:
    """The records of a journal, and one message for each line that is damaged.

    A missing file is an empty journal.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return [], []
    except OSError as error:
        raise MxbenchError(f"cannot read {path}: {error.strerror}") from error
    return _parse(data.split(b"\n"), path.name)


def _parse(lines: Iterable[bytes], name: str) -> tuple[list[Record], list[str]]:
    decoder = msgspec.json.Decoder(Record)
    records, damaged = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            records.append(decoder.decode(line))
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            damaged.append(f"{name}:{number}: damaged line skipped ({error})")
    return records, damaged
