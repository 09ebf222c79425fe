"""Schedules (tile sizes, threads, stages, split counts) per device class, read from data files.

`schedules/<device class>.json` maps `"<op>/<module>/<program>"` to a list of entries; the first
one whose `when` holds is used:

    {"when": {"rows_per_expert": {"max": 16}}, "use": {"block_m": 16, ...}}

A condition is a number (equality) or an object with `min` and/or `max` (inclusive); an entry
without `when` always holds and comes last. Entries that `mxbench tune` wrote have an `evidence`.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .memo import trial
from .target import current

MINE = "MXBENCH_SCHEDULES"
FOLDER = Path(__file__).parent / "schedules"

_found: dict[tuple[Any, ...], dict[str, Any]] = {}
_used: dict[str, dict[str, Any]] = {}
_overrides: dict[str, dict[str, Any]] = {}
_watched: list[tuple[str, dict[str, Any], dict[str, Any]]] | None = None


@functools.cache
def table(device_class: str) -> dict[str, list[dict[str, Any]]]:
    """All schedules of a device class. KeyError-free: a missing file is a plain error.

    A file of the same name in the folder that MXBENCH_SCHEDULES names goes before, program by
    program: schedules tuned by somebody who does not own this checkout.
    """
    found = json.loads((FOLDER / f"{device_class}.json").read_text())["schedules"]
    mine = Path(os.environ.get(MINE, "")) / f"{device_class}.json"
    if os.environ.get(MINE) and mine.is_file():
        found |= json.loads(mine.read_text())["schedules"]
    return found


def _holds(when: dict[str, Any], shape: dict[str, Any]) -> bool:
    for key, wanted in when.items():
        value = shape[key]
        if not isinstance(wanted, dict):
            if value != wanted:
                return False
        elif not wanted.get("min", value) <= value <= wanted.get("max", value):
            return False
    return True


def lookup(device_class: str, name: str, shape: dict[str, Any]) -> dict[str, Any]:
    """The first entry of `name` that holds for `shape`, without recording its use."""
    for entry in table(device_class)[name]:
        if _holds(entry.get("when", {}), shape):
            return entry["use"]
    raise KeyError(f"schedules/{device_class}.json: no entry of {name} holds for {shape}")


def schedule(name: str, **shape: Any) -> dict[str, Any]:
    """The schedule of program `name` for a call of this shape on the current target.

    Remembered for `take_used`, so that a record can say what ran.
    """
    chosen = _overrides.get(name)
    if chosen is None:
        # Every call of a kernel comes here, so remember: microseconds count against small launches.
        key = (current().schedules, name, *shape, *shape.values())
        chosen = _found.get(key)
        if chosen is None:
            chosen = _found[key] = lookup(current().schedules, name, shape)
    _used[name] = chosen
    if _watched is not None:
        _watched.append((name, shape, chosen))
    return chosen


def note(used: dict[str, dict[str, Any]]) -> None:
    """Remember schedules, by name, as used: for calls that kept what `schedule` gave them."""
    _used.update(used)


def take_used() -> dict[str, dict[str, Any]]:
    """Schedules used since the last call, by program name."""
    used = dict(_used)
    _used.clear()
    return used


@contextlib.contextmanager
def watched() -> Iterator[list[tuple[str, dict[str, Any], dict[str, Any]]]]:
    """Inside, memos stay empty; yields every look-up: (program name, shape, schedule)."""
    global _watched
    _watched = []
    try:
        with trial():
            yield _watched
    finally:
        _watched = None


@contextlib.contextmanager
def override(name: str, use: dict[str, Any]) -> Iterator[None]:
    """Inside, program `name` uses this schedule whatever the shape (for tuning)."""
    before = _overrides.get(name)
    _overrides[name] = use
    try:
        with trial():
            yield
    finally:
        if before is None:
            del _overrides[name]
        else:
            _overrides[name] = before
