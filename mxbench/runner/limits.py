"""What a device cannot hold, or not do in reasonable time. Pure."""

from __future__ import annotations

from ..case import Case
from ..device import DeviceInfo

GIB = 1 << 30
# The golden takes up to 2 GiB beyond inputs and outputs, and a kernel may need some of its own.
MOST_SLACK = 4 * GIB
LEAST_SLACK = GIB // 4
CPU_FLOPS = 5e9  # per second, of TileLang's C backend on one core
TIMEOUT_CPU = 60.0  # seconds
TIMEOUT_GPU = 300.0


def default_timeout(device: DeviceInfo) -> float:
    """Seconds that a kernel may take if the user does not say."""
    return TIMEOUT_CPU if device.kind == "cpu" else TIMEOUT_GPU


def memory_needed(case: Case, device: DeviceInfo) -> int:
    """Bytes for the call and its golden. On a CPU, half precision is widened to fp32 beside."""
    tensors = case.footprint * (3 if device.kind == "cpu" else 1)
    return tensors + max(LEAST_SLACK, min(MOST_SLACK, 16 * case.footprint))


def reason_to_skip(case: Case, device: DeviceInfo, timeout: float) -> str:
    """Why this device should not try the case; empty if it should."""
    needed = memory_needed(case, device)
    if needed > device.free:
        return (
            f"needs {needed / GIB:.1f} GiB with its golden; "
            f"the device has {device.free / GIB:.1f} GiB free"
        )
    if device.kind == "cpu":
        seconds = case.work.flops / CPU_FLOPS
        if seconds > timeout:
            return f"about {seconds:.0f} s on this CPU; raise --timeout ({timeout:g} s) to try"
    return ""
