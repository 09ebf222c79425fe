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
    """The same in one launch and without scratch; None where that is not faster."""
    template: torch.Tensor | None = None
    """One element, seen as a tensor of that shape."""

    def on(self, device):
        """The plan for tensors of this device."""
        if self.part is None:
            return self
        one = torch.empty(1, dtype=torch.float32, device=device)
        return self._replace(template=one.expand(self.part))

    def scratch(self):
        """A new tensor of shape `part`, if any, to be spelled out among a launch's arguments.

        From a template, as that takes less time than `new_empty` with a shape and a dtype: 3.9
        for 6.3 us on the host of an H100.
        """
        if self.template is None:
            return ()
        return (torch.empty_like(self.template, memory_format=torch.contiguous_format),)


def finder(module):
    """(schedules by name, function that looks up and adds one of `module`'s)."""
    used = {}

    def find(name, **shape):
        name = f"mla/{module}/{name}"
        used[name] = schedule.schedule(name, **shape)
        return used[name]

    return used, find
