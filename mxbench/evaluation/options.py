"""How an evaluation measures every hand-in alike."""

from __future__ import annotations

from dataclasses import dataclass

from . import isolation


@dataclass(frozen=True)
class Options:
    """How to measure every hand-in alike."""

    target: str
    rule: str
    baseline: str
    suites: dict[str, str]
    """Whose times are ranked, by operator."""
    gates: dict[str, str]
    """The suite of the gate, by operator."""
    kernel: str | None = None
    extras: bool = True
    timeout: float | None = None
    budget: float = 60.0
    limit: float = 3600.0
    drift: float = 0.05
    """Share by which a machine's baseline may be off."""
    patience: float = 600.0
    """Seconds to wait for a device when there is none."""
    model: str = ""
    """Device model to measure on; empty for the one that most devices are."""
    inner: str = isolation.INNER
    fenced: bool = True
    hidden: tuple[str, ...] = ()
    """Folders and files of this machine that no hand-in shall see."""
    on_cpu: bool = False
