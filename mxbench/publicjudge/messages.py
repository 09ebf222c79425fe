"""What supervisor and worker say to each other about a problem folder. Needs no torch."""

from __future__ import annotations

from typing import Any

import msgspec

from ..measurement import Timing
from ..verdict import Errors, Status

PROBLEM_STAGES = ("genTestCase", "baseline", "check", "submission")
"""Somebody else's code runs in them; each has the user's time limit."""


class OpenProblem(msgspec.Struct, frozen=True, tag=True):
    """To the worker: import a problem and a submission. Answered by ProblemOpened."""

    folder: str
    submission: str
    """Empty for the problem alone."""


class ProblemCase(msgspec.Struct, frozen=True, kw_only=True):
    """What `getTestCaseSize` says of one case."""

    number: int
    """As the judge counts: what `getTestCaseSize` reads."""
    sizes: list[list[int]]
    """Of each argument: a tensor's shape, or nothing for a scalar."""
    warmup: int
    repeat: int
    flops: float | None = None
    """By the problem's own `getWorkload`, as are `bytes`."""
    bytes: float | None = None

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        return [tuple(size) for size in self.sizes]


class ProblemOpened(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """From the worker: the problem's cases, or what is wrong with it."""

    fault: str = ""
    """What is wrong, in a sentence; empty if nothing is."""
    hint: str = ""
    cases: list[ProblemCase] = []
    classes: list[str] = []
    """INPUT, OUTPUT or INOUT of each argument."""
    vram: float | None = None
    """GB that the problem says it needs."""
    notes: list[str] = []
    said: str = ""
    """What the problem's own code printed."""


class RunProblem(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """To the worker: one case. Answered by stages and a ProblemOutcome."""

    folder: str
    submission: str
    number: int
    timeout: float
    budget: float | None = None
    """Seconds for timing on a CPU."""
    timed: bool = True


class KnownCase(msgspec.Struct, frozen=True, kw_only=True):
    """The operator that a problem's case turned out to be."""

    op: str
    contract: str
    params: dict[str, Any]
    dtype: str


class ProblemOutcome(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """From the worker, or made up for a worker that died: one case is done."""

    status: Status
    """By the problem's own check."""
    strict: Status | None = None
    """By mxbench's golden, where the case is of an operator it knows."""
    errors: Errors | None = None
    timing: Timing | None = None
    baseline: Timing | None = None
    """Times of the problem's baseline, under the same counts."""
    reason: str = ""
    said: str = ""
    notes: list[str] = []
    known: KnownCase | None = None
    dtype: str = ""
    """Of the first tensor."""
    seconds: dict[str, float] = {}
    poisoned: bool = False


class ReadProblem(msgspec.Struct, frozen=True, tag=True):
    """To the worker: what are the problem's cases, as mxbench's? Answered by ProblemRead."""

    folder: str


class ReadCase(msgspec.Struct, frozen=True, kw_only=True):
    """One case of a known operator."""

    number: int
    op: str
    contract: str
    params: dict[str, Any]
    warmup: int
    repeat: int
    inputs: dict[str, float] = {}
    """Scales of the inputs, as the problem draws them; the same for all cases."""
    dtype: str = ""
    """Empty where nothing was drawn."""


class ProblemRead(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """From the worker: the cases, or what is wrong with the problem."""

    fault: str = ""
    hint: str = ""
    cases: list[ReadCase] = []
    tolerance: dict[str, float] = {}
    """Default `atol` and `rtol` of its check."""
    notes: list[str] = []


class Judged(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a public judge's problem adds to a record."""

    number: int
    """The case's number in the problem."""
    baseline: Timing | None = None
    """Times of the problem's own baseline."""
    points: float | None = None
    """100 s / (1 + s) of s = baseline time / kernel time; 0 for a case that failed."""
    said: str = ""
    """What the problem's own code printed."""
    notes: list[str] = []


def points(kernel_ms: float, baseline_ms: float) -> float:
    """The public judge's score of a case, as its participants derived it."""
    speedup = baseline_ms / kernel_ms
    return 100 * speedup / (1 + speedup)
