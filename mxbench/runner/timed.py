"""Timing one case in the worker, after it was judged; the last timed call is judged too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from .. import roofline, timing
from ..case import Case
from ..device import DeviceInfo
from ..measurement import Plan, Timing
from ..ops.base import Work
from ..ops.moe import LayerParams, RoutedParams, routed_work

DEFAULT_L2_BYTES = 64 << 20  # to flush on a device without a profile
ROTATIONS = 2  # copies of the inputs beside the original


class BelowFloor(Exception):
    """A measured time that the device cannot physically reach."""


def time_call(
    call: Callable[[], object],
    case: Case,
    inputs: dict[str, Any],
    plan: Plan,
    device: DeviceInfo,
    first_call: float,
    rotated: Callable[[], list[Callable[[], object]]],
) -> Timing:
    """All times that `plan` asks for; the first call took `first_call` milliseconds.

    `rotated` makes the same call on copies of the inputs (see `copies_that_fit`).

    Raises:
        BelowFloor: the mean is below the time that the device's data-sheet peaks allow.
    """
    with torch.no_grad():
        if device.torch_device == "cpu":
            return timing.time_cpu(call, plan, first_call)
        profile = roofline.profile_of(device.name)
        l2_bytes = profile.l2_bytes if profile else DEFAULT_L2_BYTES
        measured = timing.time_gpu(call, plan, l2_bytes, first_call, rotated)
    if profile is not None:
        floor = roofline.physical_floor_ms(certain_work(case, inputs), case.dtype, profile)
        if measured.mean < floor:
            raise BelowFloor(
                f"{measured.mean:.4g} ms a call is below the {floor:.4g} ms that "
                f"{profile.title} physically needs: the call did not do the work"
            )
    return measured


def copies_that_fit(inputs: dict[str, Any]) -> int:
    """How many copies of the inputs a GPU's free memory takes without strain, up to ROTATIONS."""
    size = sum(t.numel() * t.element_size() for t in inputs.values() if isinstance(t, torch.Tensor))
    free, _ = torch.cuda.mem_get_info()
    return min(ROTATIONS, free // 2 // max(size, 1))


def certain_work(case: Case, inputs: dict[str, Any]) -> Work:
    """Work that these very inputs cannot do without.

    The work of a moe case supposes an even routing; a skewed one reads fewer experts' weights.
    """
    if isinstance(case.params, RoutedParams):
        return routed_work(case.params, inputs["group_sizes"].tolist())
    if isinstance(case.params, LayerParams):
        return Work(flops=case.work.flops, bytes=0)
    return case.work
