"""What every bench asks of its device between two steps."""

from __future__ import annotations

import contextlib
import gc

import torch

from ..device import DeviceInfo


class OnDevice:
    """A part of the worker that runs strangers' code on `device`."""

    def __init__(self, device: DeviceInfo) -> None:
        self.device = device

    def synchronize(self) -> None:
        """Wait for the GPU; on a CPU there is nothing to wait for."""
        if self.device.torch_device == "cuda":
            torch.cuda.synchronize()

    def is_poisoned(self) -> bool:
        """Whether an earlier fault (an illegal access) makes every further call fail."""
        try:
            self.synchronize()
        except RuntimeError:
            return True
        return False

    def free(self) -> None:
        """Give memory back that no tensor holds any more."""
        gc.collect()
        if self.device.torch_device == "cuda":
            # A poisoned context refuses this as everything else; `is_poisoned` tells.
            with contextlib.suppress(RuntimeError):
                torch.cuda.empty_cache()
