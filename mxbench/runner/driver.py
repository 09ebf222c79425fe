"""What the GPU's driver tells about clocks, limits and processes: by NVML, else by nvidia-smi.

NVML is asked through `pynvml` (package nvidia-ml-py) where that is installed. nvidia-smi is a
process for each question, so it is only asked before and after a measurement. Where neither
answers, nothing is known, and nothing is said.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from typing import Any

import msgspec

from ..grade import Conditions

SMI_LIMIT = 5.0  # seconds for nvidia-smi to answer
IDLE_WAIT = 0.5  # seconds, about the window over which the driver averages utilisation
BUSY = 0.1  # utilisation of an idle worker's GPU that means somebody computes there
IDLE_KEPT = 120.0  # seconds for which one look at the idle GPU stands
SMI_PAUSE = 5.0  # seconds between two questions to nvidia-smi, each of which takes some 50 ms

# NVML's performance policies, and nvidia-smi's names of the counters for the same limits.
_POLICIES = {"power": 0, "thermal": 1}
_COUNTERS = {
    "power": "clocks_event_reasons_counters.sw_power_cap",
    "thermal": "clocks_event_reasons_counters.sw_thermal_slowdown",
    "hardware": "clocks_event_reasons_counters.hw_thermal_slowdown",
}


class Reading(msgspec.Struct, frozen=True):
    """One look at a GPU."""

    at: float
    """The host's monotonic clock, seconds."""
    limited: dict[str, float]
    """Seconds that each limit has been in force, since some time in the past."""
    pids: list[int] | None
    """Compute processes with a context on it."""
    utilization: float | None
    """Share of the last moments in which it computed."""


Reader = Callable[[], Reading]
COMPANIONS = "MXBENCH_COMPANIONS"
"""Environment variable: workers of this run on the same GPU, idle while this one measures."""


class Driver:
    """Readings of one GPU. `read` is None where no driver answers."""

    def __init__(self, uuid: str | None) -> None:
        """uuid: as the driver writes it, `GPU-...`; None where torch does not tell it."""
        self.read: Reader | None = None if uuid is None else _nvml(uuid)
        self._pause = 0.0
        if self.read is None and uuid is not None:
            self.read, self._pause = _smi(uuid), SMI_PAUSE
        self._next = 0.0
        self._looked = -float("inf")
        self._busy: float | None = None

    def before(self, wait: bool = True) -> Reading | None:
        """A reading, taken while this process leaves the GPU alone; None if it is too soon for one.

        wait: whether to look, now and then, for half a second what others do on the GPU.
        """
        if self.read is None or time.monotonic() < self._next:
            return None
        self._next = time.monotonic() + self._pause
        reading = self.read()
        seldom = reading.at - self._looked > IDLE_KEPT
        if wait and seldom and others(reading.pids) != 0:
            time.sleep(IDLE_WAIT)  # our own last work must have left the driver's average
            reading = self.read()
            used = reading.utilization
            self._busy = used if used is not None and used >= BUSY else None
            self._looked = reading.at
        return reading

    def conditions(self, before: Reading | None) -> Conditions:
        """What was the case since `before`."""
        if before is None or self.read is None:
            return Conditions()
        now = self.read()
        seconds = max(now.at - before.at, 1e-6)
        shares = {
            limit: min(1.0, (now.limited[limit] - was) / seconds)
            for limit, was in before.limited.items()
            if now.limited.get(limit, was) > was
        }
        count = others(now.pids)
        return Conditions(throttled=shares, others=count, busy=self._busy if count != 0 else None)


def others(pids: list[int] | None) -> int | None:
    """Processes besides this one; None if the driver does not show any.

    In a container the driver may know this process by another number; it is one of them anyway.
    """
    if not pids:
        return None
    count = len(set(pids) - {os.getpid()}) if os.getpid() in pids else len(set(pids)) - 1
    return max(0, count - int(os.environ.get(COMPANIONS, "0")))


def _nvml(uuid: str) -> Reader | None:
    """A reader by way of pynvml; None if that, or the driver, does not answer."""
    try:
        import pynvml as nvml  # type: ignore[import-not-found, import-untyped, unused-ignore]

        nvml.nvmlInit()
        try:
            handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
        except TypeError:  # older ones want bytes
            handle = nvml.nvmlDeviceGetHandleByUUID(uuid.encode())
    except Exception:  # not installed, no driver, no permission: all mean "ask nvidia-smi"
        return None

    def ask(function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(handle, *arguments)
        except Exception:  # this device or driver does not have it
            return None

    def read() -> Reading:
        spent = {n: ask(nvml.nvmlDeviceGetViolationStatus, p) for n, p in _POLICIES.items()}
        running = ask(nvml.nvmlDeviceGetComputeRunningProcesses)
        used = ask(nvml.nvmlDeviceGetUtilizationRates)
        return Reading(
            time.monotonic(),
            {n: s.violationTime / 1e9 for n, s in spent.items() if s is not None},
            None if running is None else [int(p.pid) for p in running],
            None if used is None else used.gpu / 100,
        )

    return read


def _smi(uuid: str) -> Reader | None:
    """A reader by way of nvidia-smi; None if there is none, or it does not answer."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None

    def ask(query: str) -> list[str] | None:
        command = [program, "-i", uuid, query, "--format=csv,noheader,nounits"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SMI_LIMIT)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.splitlines() if done.returncode == 0 else None

    fields = ["utilization.gpu", *_COUNTERS.values()]
    if ask(f"--query-gpu={','.join(fields)}") is None:  # a driver without the counters
        fields = fields[:1]
        if ask(f"--query-gpu={fields[0]}") is None:
            return None

    def read() -> Reading:
        lines = ask(f"--query-gpu={','.join(fields)}")
        apps = ask("--query-compute-apps=pid")
        cells = [_number(cell) for cell in (lines or [""])[0].split(",")]
        counters = zip(_COUNTERS, cells[1:], strict=False)  # microseconds
        return Reading(
            time.monotonic(),
            {name: micro / 1e6 for name, micro in counters if micro is not None},
            None if apps is None else [int(line) for line in apps if line.strip().isdigit()],
            None if cells[0] is None else cells[0] / 100,
        )

    return read


def _number(text: str) -> float | None:
    try:
        return float(text.strip())
    except ValueError:  # `[N/A]`
        return None
