"""How an evaluation stands at one moment."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Load:
    """One device."""

    label: str
    model: str
    now: str
    """What it is doing."""
    served: int
    """Tasks it has finished."""
    busy: float
    """Share of the time since the start that it had a task."""
    trusted: bool
    """False once its baseline has drifted too often."""


@dataclass(frozen=True)
class Snapshot:
    """All of it."""

    total: int
    """Tasks: hand-ins times operators times machines."""
    done: int
    failed: int
    """Of those done: without a complete journal."""
    running: int
    seconds: float
    left: float | None
    """Seconds to go at the pace so far; None before the first result."""
    loads: list[Load]
