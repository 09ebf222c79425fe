"""What is measured of a call, and what comes of it. Importing this needs no torch."""

from __future__ import annotations

from typing import Literal

import msgspec

from .grade import Grade


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to time."""

    warmup: int
    repeat: int
    mode: Literal["eager", "graph"] = "eager"
    """What the headline times: the call itself, or replays of a CUDA graph of it."""
    extras: bool = True
    """Whether to measure graph replay, kernel time and cold-L2 time beside the headline."""
    budget: float | None = None
    """Seconds for the whole timing of a case on a CPU; None on a GPU."""


class Timing(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Times of one case in milliseconds."""

    mode: str
    """What the headline is: `eager`, `graph` (CUDA-graph replays), or `cpu`."""
    warmup: int
    repeat: int
    """Calls that were timed; on a CPU maybe fewer than `asked`."""
    asked: int | None = None
    mean: float
    """Headline: time of the back-to-back loop over its calls."""
    median: float | None = None
    p10: float | None = None
    p90: float | None = None
    min: float | None = None
    std: float | None = None
    ci95: tuple[float, float] | None = None
    outliers: int | None = None
    per_call_mean: float | None = None
    """Mean of the per-call samples; above the headline for short calls, as events have a cost."""
    host: float | None = None
    """The headline loop by the host's clock, over its calls."""
    graph: float | None = None
    graph_note: str | None = None
    kernel_only: float | None = None
    """How long a call keeps the device busy with kernels, by CUPTI; overlaps counted once."""
    kernel_only_note: str | None = None
    cold_l2: float | None = None
    """Median of single calls, each on other copies of the inputs and after the L2 was flushed."""
    launch: float | None = None
    """Host time until the call returns."""
    first_call: float | None = None
    """The first call of the process on these shapes, compiled programs loaded."""
    grade: Grade | None = None
    """How far it can be trusted; absent in old records."""
    rotated: int | None = None
    """Sets of inputs that the timed calls took in turn."""
    verified: int | None = None
    """Timed calls whose outputs were judged, chosen when they were done."""
    samples: list[float] = []
    notes: list[str] = []
