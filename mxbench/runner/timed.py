"""Timing one case in the worker, after it was judged; a sample of the timed calls is judged too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import torch

from .. import roofline, timing
from ..case import Case
from ..device import DeviceInfo
from ..measurement import Plan, Timing
from ..ops.base import Dtype, Work
from ..ops.moe import LayerParams, RoutedParams, routed_work
from ..reference import mirror
from ..roofline import Profile
from ..timing import Watch
from .driver import Driver
from .rounds import Rounds

DEFAULT_L2_BYTES = 64 << 20  # to flush on a device without a profile
ROTATIONS = 2  # copies of the inputs beside the original
# A second set of inputs changes nothing where both stay in the L2 (whose halves may hold the same
# data twice), and where one alone is far too large for it.
RESIDENT, STREAMING = 1 / 4, 2


class BelowFloor(Exception):
    """A measured time that the device cannot physically reach."""


def time_call(
    rounds: Rounds,
    case: Case,
    plan: Plan,
    device: DeviceInfo,
    driver: Driver,
    first_call: float,
    rotated: Callable[[], list[Callable[[], object]]],
) -> Timing:
    """All times that `plan` asks for; the first call took `first_call` milliseconds.

    `rotated` makes the same call on copies of the inputs (see `copies_that_fit`).

    Raises:
        BelowFloor: the mean is below the time that the device's data-sheet peaks allow.
        WorkUnseen, NotCapturable: see `timing.time_gpu`.
        Fault: a timed call put out something else.
    """
    profile = _profile(device)
    l2_bytes = profile.l2_bytes if profile else DEFAULT_L2_BYTES
    rotate(rounds, None if device.torch_device == "cpu" else l2_bytes)
    with torch.no_grad():
        if device.torch_device == "cpu":
            measured = timing.time_cpu(rounds, plan, first_call)
        else:
            watch = Watch(lambda: driver.before(wait=plan.extras), driver.conditions)
            measured = timing.time_gpu(rounds, plan, l2_bytes, first_call, rotated, watch)
    require_possible_here(measured.mean, case, rounds.inputs, device)
    return msgspec.structs.replace(measured, rotated=len(rounds.sets), verified=rounds.verified)


def rotate(rounds: Rounds, l2_bytes: int | None) -> None:
    """Let the timed calls alternate between two sets of inputs, unless that distorts their time.

    The rule times one set. A second one must not change what the L2 holds from call to call: that
    it does where one set fits into it, more or less, and two do not.
    """
    one = mirror.input_bytes(rounds.inputs)
    both = one + rounds.extra_bytes
    distorts = l2_bytes is not None and RESIDENT * l2_bytes < both and one < STREAMING * l2_bytes
    if not distorts:
        rounds.rotate()


def _profile(device: DeviceInfo) -> Profile | None:
    return None if device.torch_device == "cpu" else roofline.profile_of(device.name)


def require_possible_here(
    mean: float, case: Case, inputs: dict[str, Any], device: DeviceInfo
) -> None:
    """BelowFloor if a call of `mean` milliseconds cannot have done a case's work on the device."""
    profile = _profile(device)
    if profile is not None:
        require_possible(mean, certain_work(case, inputs), case.dtype, profile)


def require_possible(mean: float, work: Work, dtype: Dtype, profile: Profile) -> None:
    """BelowFloor if a call of `mean` milliseconds cannot have done the work on this device."""
    floor = roofline.physical_floor_ms(work, dtype, profile)
    if mean < floor:
        raise BelowFloor(
            f"{mean:.4g} ms a call is below the {floor:.4g} ms that "
            f"{profile.title} physically needs: the call did not do the work"
        )


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
