"""What repeated calls need not look up again.

Looking up a schedule and a program takes longer in Python than a small launch on the GPU.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass
class _Kept:
    """By this process."""

    memos: list[dict[Any, Any]] = field(default_factory=list)
    trials: int = 0
    """How many `trial` are under way."""


_kept = _Kept()


def memo() -> dict[Any, Any]:
    """A dict for a kernel module: what a call of some shape launches. Fill it with `remember`."""
    made: dict[Any, Any] = {}
    _kept.memos.append(made)
    return made


def remember(made: dict[Any, Any], key: Any, value: Any) -> Any:
    """Store `value` in a memo, unless a `trial` is under way."""
    if not _kept.trials:
        made[key] = value
    return value


def forget() -> None:
    """Empty all memos: from now on calls may launch something else."""
    for made in _kept.memos:
        made.clear()


@contextlib.contextmanager
def trial() -> Iterator[None]:
    """Inside, memos stay empty: for calls that launch nothing, or not what others launch."""
    _kept.trials += 1
    forget()
    try:
        yield
    finally:
        _kept.trials -= 1
