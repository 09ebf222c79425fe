"""Can a program fit a device at all? Pure: a footprint and a device's limits in, a reason out."""

from __future__ import annotations

import msgspec

from ..roofline import Limits

KIB = 1024


class Footprint(msgspec.Struct, frozen=True, kw_only=True):
    """The least that a program needs, read off it before it is compiled.

    All figures are lower bounds: what only needs room at different times is not added up, so a
    program dropped for one of them cannot have worked.
    """

    shared_bytes: int = 0
    """Shared memory of a block: what one loop uses at once, in as many stages as it asks for."""
    threads: int = 0
    """Of a block."""
    thread_registers: int = 0
    """32-bit registers of a thread that hold tiles, all at once in one loop."""


def reason(footprint: Footprint, limits: Limits) -> str:
    """Why no block of such a program can run there; empty if it may."""
    if footprint.shared_bytes > limits.shared_bytes:
        return (
            f"shared memory: at least {footprint.shared_bytes / KIB:.0f} KiB, "
            f"{limits.shared_bytes / KIB:.0f} KiB a block"
        )
    if footprint.threads > limits.threads:
        return f"threads: {footprint.threads}, at most {limits.threads} a block"
    if footprint.threads % limits.wave:
        return f"threads: {footprint.threads} are no multiple of {limits.wave}"
    if footprint.thread_registers > limits.thread_registers:
        return (
            f"registers: at least {footprint.thread_registers} a thread for tiles, "
            f"{limits.thread_registers} in all"
        )
    if footprint.thread_registers * footprint.threads > limits.registers:
        return (
            f"registers: at least {footprint.thread_registers} x {footprint.threads} threads, "
            f"{limits.registers} in all"
        )
    return ""
