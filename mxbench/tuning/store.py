"""Files of a search: what is tried so far, and the schedules it leaves."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from .. import jsonfile
from ..errors import MxbenchError
from ..record import unwritable
from .classes import ShapeClass, Trial


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the log: one candidate of one class is done with."""

    shape_class: str
    trial: Trial


class Log:
    """What an interrupted search had found out; the same command goes on from it."""

    def __init__(self, state: Path, plan: str, *, fresh: bool) -> None:
        self.path = state / "tune" / f"{plan}.jsonl"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if fresh:
                self.path.unlink(missing_ok=True)
            self._file = self.path.open("ab")
        except OSError as error:
            raise unwritable(self.path.parent, error) from error

    def recall(self) -> dict[tuple[str, str], Trial]:
        """Trials by class and schedule; a line that a kill cut short is passed over."""
        found = {}
        for line in self.path.read_bytes().splitlines():
            try:
                note = msgspec.json.decode(line, type=Note)
            except msgspec.MsgspecError:
                continue
            found[note.shape_class, _key(note.trial.use)] = note.trial
        return found

    def keep(self, shape_class: str, trial: Trial) -> None:
        """Write one line, and see it on disk."""
        self._file.write(msgspec.json.encode(Note(shape_class=shape_class, trial=trial)) + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self, *, finished: bool) -> None:
        """Let go of the log; one of a finished search is of no more use."""
        self._file.close()
        if finished:
            self.path.unlink(missing_ok=True)


def _key(schedule: dict[str, Any]) -> str:
    return json.dumps(schedule, sort_keys=True)


# --- schedule files -----------------------------------------------------------------------------


def tables(folder: Path) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """The entries of every schedule file, by device class and program.

    Raises:
        MxbenchError: exit code 2, a file is damaged.
    """
    return {file.stem: read(file)["schedules"] for file in sorted(folder.glob("*.json"))}


def read(file: Path) -> dict[str, Any]:
    """A schedule file's document."""
    document = jsonfile.read(file, file.name)
    if not isinstance(document, dict) or not isinstance(document.get("schedules"), dict):
        raise MxbenchError(f"{file.name}: no `schedules`", "see kernels/common/schedule.py")
    return document


def written(document: dict[str, Any]) -> str:
    """The text of a schedule file: one entry a line, so that a change is one line of a diff."""
    head = {k: v for k, v in document.items() if k != "schedules"}
    lines = [f"  {json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}," for k, v in head.items()]
    programs = []
    for name, entries in document["schedules"].items():
        inner = ",\n".join(f"      {json.dumps(e, ensure_ascii=False)}" for e in entries)
        programs.append(f"    {json.dumps(name)}: [\n{inner}\n    ]")
    return "\n".join(["{", *lines, '  "schedules": {', ",\n".join(programs), "  }", "}", ""])


def with_winners(
    document: dict[str, Any], winners: Sequence[tuple[ShapeClass, dict[str, Any]]]
) -> dict[str, Any]:
    """`document` with an entry for each (class that has a winner, evidence).

    An entry goes before the one that served the class so far, and holds only for the shapes that
    were raced; one that an earlier search wrote for the very same shapes is replaced.
    """
    schedules = {name: list(entries) for name, entries in document["schedules"].items()}
    for one, evidence in winners:
        assert one.winner is not None
        entry = {"when": one.when(), "use": one.winner.use, "evidence": evidence}
        entries = schedules.setdefault(one.program, [])
        same = [
            i for i, e in enumerate(entries) if e.get("when") == entry["when"] and "evidence" in e
        ]
        served = [i for i, e in enumerate(entries) if e["use"] == one.default]
        if same:
            entries[same[0]] = entry
        else:
            entries.insert(served[0] if served else 0, entry)
    return {**document, "schedules": schedules}
