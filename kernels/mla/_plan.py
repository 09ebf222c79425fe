"""What a call launches, found once for its shapes: Python's part of a small call's time."""

from typing import Any, NamedTuple

import torch

from ..common import schedule


class Plan(NamedTuple):
    """Of calls with the same shapes."""

    used: dict[str, dict[str, Any]]
    """Schedules by name, for the record of every call."""
    launch: Any
    part: tuple[int, ...] | None
    """Shape of the splits' scratch; None without splits."""
    alone: Any = None
    """The same in one launch without scratch, where that is faster unless a graph replays it."""

    def scratch(self, like):
        """The tensor of shape `part`, if any, to be spelled out among a launch's arguments."""
        return () if self.part is None else (like.new_empty(self.part, dtype=torch.float32),)


def finder(module):
    """(schedules by name, function that looks up and adds one of `module`'s)."""
    used = {}

    def find(name, **shape):
        name = f"mla/{module}/{name}"
        used[name] = schedule.schedule(name, **shape)
        return used[name]

    return used, find
