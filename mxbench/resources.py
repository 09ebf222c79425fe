"""What a compiler makes of a kernel's programs: registers, shared memory, spills, occupancy. Pure.

The figures are read from ptxas by `mxbench.runner.compiled`, in a process of its own, and kept in
`resources.json` beside the journal they belong to; reports only read that file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from . import jsonfile
from .jsonfile import Source

FILE = "resources.json"


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """Of one compiled program; of its several kernels, the one with most registers."""

    op: str
    kernel: str
    program: str
    """`module.function` within `kernels/<op>/`."""
    sizes: dict[str, int | float | str | bool | None]
    """Static sizes it was compiled for, as far as tiles and threads go."""
    threads: int
    """Threads of a block, producer warps included."""
    registers: int
    """Registers a thread, as allocated at launch."""
    shared: int
    """Bytes of shared memory of a block, static and dynamic."""
    spills: int
    """Bytes of spill stores and loads."""


class Resources(msgspec.Struct, frozen=True, kw_only=True):
    """`resources.json`."""

    schema: Literal[1]
    arch: str
    """`sm_90a`, ..."""
    compiler: str
    shas: dict[str, str]
    """`op/kernel` -> hash of the sources that were compiled."""
    programs: tuple[Use, ...]


@dataclass(frozen=True)
class Limits:
    """Of one multiprocessor."""

    registers: int
    shared: int
    """Bytes, of which each block takes `reserved` more than it asks for."""
    reserved: int
    threads: int
    blocks: int


# CUDA C++ Programming Guide, "Technical Specifications per Compute Capability".
LIMITS = {
    "sm_80": Limits(65536, 164 << 10, 1 << 10, 2048, 32),
    "sm_90": Limits(65536, 228 << 10, 1 << 10, 2048, 32),
}
WARP = 32
REGISTER_UNIT = 256
"""Registers are given to a warp in units of so many."""


def limits_of(arch: str) -> Limits | None:
    """The multiprocessor of an architecture such as `sm_90a`, or None."""
    return LIMITS.get(re.sub(r"[a-z]$", "", arch))


def blocks_per_sm(use: Use, limits: Limits) -> int:
    """How many blocks of a program fit a multiprocessor at once."""
    warps = -(-use.threads // WARP)
    per_warp = -(-use.registers * WARP // REGISTER_UNIT) * REGISTER_UNIT
    fits = [limits.blocks, limits.threads // (warps * WARP)]
    if per_warp:
        fits.append(limits.registers // (per_warp * warps))
    fits.append(limits.shared // (use.shared + limits.reserved))
    return min(fits)


def occupancy(use: Use, limits: Limits) -> float:
    """Resident warps over the most that a multiprocessor holds (theoretical occupancy)."""
    warps = -(-use.threads // WARP)
    return blocks_per_sm(use, limits) * warps * WARP / limits.threads


def load(path: Path) -> Resources | None:
    """The file's content; None if there is no such file.

    Raises:
        MxbenchError: it is damaged, with the place in it.
    """
    if not path.is_file():
        return None
    return jsonfile.convert(jsonfile.read(path, path.name), Resources, Source(path.name))
