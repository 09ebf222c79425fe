"""From work and a device's rates to a bound: how fast a call could be, and what limits it. Pure."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import msgspec

from . import jsonfile
from .errors import MxbenchError
from .jsonfile import Source
from .ops.base import Dtype, Work

PROFILES = Path(__file__).parent / "profiles"

LAUNCH_FLOOR_MS = 0.002
"""No GPU starts and ends a kernel faster: a launch of an empty kernel in a CUDA graph takes about
2 us from its predecessor's end to its own. It is a floor for the bound, not a claim of a device."""


class Rates(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a device does per second."""

    tflops: dict[Dtype, float]
    """Dense matrix products, 1e12 operations a second, additions counted apart."""
    gbps: float
    """Device memory, 1e9 bytes a second, read plus written."""

    def __str__(self) -> str:
        matrix = ", ".join(f"{name} {rate:g}" for name, rate in self.tflops.items())
        return f"{matrix} TFLOP/s, {self.gbps:g} GB/s"


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a block of threads may use, and which programs the device takes."""

    kind: Literal["cuda", "maca"]
    arch: str
    """`sm_90a`, ...; empty where the target has none."""
    schedules: str
    """Device class of `kernels/common/schedules/`."""
    sms: int
    shared_bytes: int
    threads: int
    wave: int
    """Threads that run in step: a block's threads are a multiple."""
    registers: int
    """32-bit registers of a multiprocessor: a block's threads share them."""
    thread_registers: int


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Peaks of one device model."""

    schema: Literal[1]
    name: str
    title: str
    match: str
    """Regular expression found in the driver's device name."""
    theoretical: Rates
    """Physical ceilings: nothing runs faster, and a time that says so is an error."""
    measured: Rates | None
    """What a large matrix product and a large copy reach; None where nobody measured."""
    l2_bytes: int
    limits: Limits | None = None
    source: str
    uncertainty: str


class Peaks(msgspec.Struct, frozen=True, kw_only=True):
    """The rates a bound is computed with, and where they come from."""

    rates: Rates
    source: str


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """How fast a call could be on a device."""

    floor: float
    """Milliseconds: the largest of compute, memory and launch time."""
    share: float
    """floor / measured time: 1 is as fast as the rates allow."""
    limit: Literal["compute", "memory", "launch"]
    peaks: str
    """Where the rates come from."""


def profiles() -> dict[str, Profile]:
    """The device profiles that come with mxbench, by name."""
    found = {}
    for file in sorted(PROFILES.glob("*.json")):
        shown = f"profiles/{file.name}"
        found[file.stem] = jsonfile.convert(jsonfile.read(file, shown), Profile, Source(shown))
    return found


def profile_of(device: str) -> Profile | None:
    """The profile of the device that the driver calls `device`, or None."""
    for profile in profiles().values():
        if re.search(profile.match, device):
            return profile
    return None


def peaks_of(device: str, measured_here: Rates | None = None) -> Peaks | None:
    """The best known achievable rates of a device: measured here, else its profile's.

    None for a device without a profile that was not measured either.
    """
    if measured_here is not None:
        return Peaks(rates=measured_here, source=f"measured on this device ({measured_here})")
    profile = profile_of(device)
    if profile is None:
        return None
    if profile.measured is not None:
        return Peaks(rates=profile.measured, source=f"profile {profile.name}, measured elsewhere")
    return Peaks(rates=profile.theoretical, source=f"profile {profile.name}, data sheet")


def _measured_file(state: Path, device: str) -> Path:
    slug = re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")
    return state / "devices" / f"{slug}.json"


def load_measured(state: Path, device: str) -> Rates | None:
    """The rates that `save_measured` kept of the device, or None."""
    file = _measured_file(state, device)
    if not file.exists():
        return None
    return jsonfile.convert(jsonfile.read(file, file.name), Rates, Source(file.name))


def save_measured(state: Path, device: str, rates: Rates) -> Path:
    """Keep rates measured on the device at hand; returns the file."""
    file = _measured_file(state, device)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(msgspec.json.format(msgspec.json.encode(rates)) + b"\n")
    except OSError as error:
        raise MxbenchError(f"cannot write {file}: {error.strerror}", "make room there") from error
    return file


def bound(work: Work, dtype: Dtype, time_ms: float, peaks: Peaks) -> Bound:
    """The bound of a call that took `time_ms` milliseconds.

    floor = max(FLOPs / matrix rate, bytes / copy rate, launch): the roofline of Williams,
    Waterman and Patterson (2009) with a launch term for small calls.
    """
    compute = work.flops / (peaks.rates.tflops[dtype] * 1e9)
    memory = work.bytes / (peaks.rates.gbps * 1e6)
    floor = max(compute, memory, LAUNCH_FLOOR_MS)
    limit: Literal["compute", "memory", "launch"] = "launch"
    if floor == compute:
        limit = "compute"
    elif floor == memory:
        limit = "memory"
    return Bound(floor=floor, share=floor / time_ms, limit=limit, peaks=peaks.source)


def physical_floor_ms(work: Work, dtype: Dtype, profile: Profile) -> float:
    """Milliseconds below which a measured time cannot be true.

    Calls repeated over the same tensors may find up to an L2's worth of bytes in the cache, so
    only the rest must come from memory.
    """
    compute = work.flops / (profile.theoretical.tflops[dtype] * 1e9)
    beyond_cache = max(0, work.bytes - profile.l2_bytes)
    return max(compute, beyond_cache / (profile.theoretical.gbps * 1e6))
