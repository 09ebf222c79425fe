"""What an evaluation keeps on disk, written so that a kill at any moment loses no finished case.

DIR/ledger.jsonl                         a line for each try that ended, strike, flag and rerun
DIR/handins/NAME/OP/journal.jsonl        records, as they come; `mxbench rank DIR/handins`
DIR/handins/NAME/OP/dropped-N.jsonl      those of tries that did not count
DIR/handins/NAME/OP/log.txt              what was said when it did not go well
DIR/repeats/K/NAME/OP/journal.jsonl      the same on the K-th machine, of --repeat-on
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Literal

import msgspec

from ..errors import MxbenchError
from ..handins import JOURNAL
from ..record import Journal, Record, read_journal, unwritable
from .messages import Place, Result, Work

Kind = Literal["start", "result", "strike", "loss", "drift", "flag", "stop"]


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of the ledger."""

    kind: Kind
    hand_in: str = ""
    op: str = ""
    replica: int = 0
    machine: str = ""
    model: str = ""
    """Device, units and memory."""
    kernel: str = ""
    status: str = ""
    """Of a result: finished, malformed, time limit, died, unmeasured."""
    reason: str = ""
    passed: int = 0
    cases: int = 0
    ratios: dict[str, float] = {}
    """Baseline's time over the hand-in's on that very device, by case."""
    baseline: dict[str, float] = {}
    """Milliseconds of the baseline, by case."""
    deviation: float | None = None
    """Share by which the baseline was off; recorded where it is the reason for something."""
    lint: tuple[str, ...] = ()
    lint_note: str = ""
    seconds: float = 0.0
    fenced: bool = False
    """Whether it ran behind namespaces."""

    @property
    def failed(self) -> bool:
        """Of a result: whether there is no complete journal of what was handed in."""
        return self.status not in ("finished", "absent")

    @property
    def work(self) -> Work:
        return Work(self.hand_in, self.op, self.replica)


class Settings(msgspec.Struct, frozen=True):
    """What must be equal for an evaluation to be continued; the first line."""

    settings: dict[str, str]


class Ledger:
    """The folder of one evaluation."""

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        """Open, or create, the evaluation in `folder`.

        Raises:
            MxbenchError: exit code 2; the folder cannot be written to, another process works
                there, or it holds an evaluation with other settings.
        """
        self.folder = folder
        self._journals: dict[Work, Journal] = {}
        path = folder / "ledger.jsonl"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise MxbenchError(f"another evaluation writes to {folder}", "wait for it") from None
        except OSError as error:
            raise unwritable(folder, error) from error
        lines = path.read_bytes().split(b"\n")
        self._torn = bool(lines[-1])
        self.entries = self._read(lines, settings)

    def _read(self, lines: list[bytes], settings: dict[str, str]) -> list[Entry]:
        if not any(lines):
            self._write(Settings(settings))
            return []
        try:
            before = msgspec.json.decode(lines[0], type=Settings).settings
        except msgspec.MsgspecError:
            raise MxbenchError(
                f"{self.folder}/ledger.jsonl is no ledger of evaluate", "name another --out"
            ) from None
        differ = [k for k in {**before, **settings} if before.get(k) != settings.get(k)]
        if differ:
            raise MxbenchError(
                f"{self.folder} holds an evaluation with another {differ[0]}: "
                f"{before.get(differ[0])!r}, not {settings.get(differ[0])!r}",
                "continue with the same options, or name another --out",
            )
        found = []
        for line in lines[1:]:
            try:
                found.append(msgspec.json.decode(line, type=Entry))
            except msgspec.MsgspecError:  # cut by a kill: that try did not end, and is made again
                continue
        return found

    def add(self, entry: Entry) -> None:
        """Write a line and see it on disk; MxbenchError if the disk is full."""
        self.entries.append(entry)
        self._write(entry)

    def _write(self, line: msgspec.Struct) -> None:
        try:
            os.write(self._fd, b"\n" * self._torn + msgspec.json.encode(line) + b"\n")
            self._torn = False
            os.fsync(self._fd)
        except OSError as error:
            raise unwritable(self.folder, error) from error

    def close(self) -> None:
        for journal in self._journals.values():
            journal.close()
        self._journals.clear()
        os.close(self._fd)

    # --- journals -------------------------------------------------------------------------------

    def place_of(self, work: Work) -> Path:
        """The folder of a task."""
        top = "handins" if not work.replica else f"repeats/{work.replica + 1}"
        return self.folder / top / work.hand_in / work.op

    def keep(self, work: Work, record: Record) -> None:
        """Write a finished case; MxbenchError if the disk is full."""
        if work not in self._journals:
            self._journals[work] = Journal(self.place_of(work))
        self._journals[work].append(record)

    def records(self, work: Work) -> tuple[Record, ...]:
        """What is finished of a task: of each case, and of check and perf, the newest record."""
        found, _ = read_journal(self.place_of(work) / JOURNAL)
        return tuple({(r.id, r.kernel, r.rule): r for r in found}.values())

    def let_go(self, work: Work) -> None:
        """No more records of a task are to be expected."""
        if (journal := self._journals.pop(work, None)) is not None:
            journal.close()

    def drop(self, work: Work) -> None:
        """Put a task's records aside: it is measured anew."""
        self.let_go(work)
        folder = self.place_of(work)
        if (folder / JOURNAL).exists():
            number = len(list(folder.glob("dropped-*.jsonl"))) + 1
            (folder / JOURNAL).rename(folder / f"dropped-{number}.jsonl")

    def said(self, work: Work, text: str) -> None:
        """Keep the end of a log."""
        folder = self.place_of(work)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "log.txt").write_text(text.replace(" | ", "\n") + "\n", encoding="utf-8")
        except OSError as error:
            raise unwritable(folder, error) from error


def entry(work: Work, kind: Kind, place: Place | None, result: Result | None = None) -> Entry:
    """A ledger line without figures."""
    return Entry(
        kind=kind,
        hand_in=work.hand_in,
        op=work.op,
        replica=work.replica,
        machine=place.machine if place else "",
        model=place.model if place else "",
        status=result.status if result else "",
        reason=result.reason if result else "",
        lint=result.lint if result else (),
        lint_note=result.lint_note if result else "",
        seconds=result.seconds if result else 0.0,
        fenced=place is not None and place.fenced,
    )
