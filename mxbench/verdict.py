"""What became of a case: status, error figures and a reason. Importing this needs no torch."""

from __future__ import annotations

from enum import Enum

import msgspec


class Status(str, Enum):
    """What became of one case."""

    PASSED = "PASSED"
    """Every output is within tolerance."""
    MISMATCH = "MISMATCH"
    """An output is out of tolerance, or a choice it rests on is invalid."""
    NON_FINITE = "NON_FINITE"
    """An output holds NaN or infinity where the golden does not, or the other way round."""
    WRONG_SHAPE = "WRONG_SHAPE"
    """The kernel changed an output's shape."""
    WRONG_DTYPE = "WRONG_DTYPE"
    """The kernel changed an output's dtype."""
    NON_DETERMINISTIC = "NON_DETERMINISTIC"
    """Asked to repeat the call, the kernel put out other bits. Only where that was asked for."""
    INPUT_MUTATED = "INPUT_MUTATED"
    """The kernel wrote to one of its inputs."""
    INTEGRITY = "INTEGRITY"
    """The result, or its time, is not what it seems; the reason is the evidence."""
    SANITIZER = "SANITIZER"
    """The sanitizer saw invalid accesses or races. Only where that was asked for."""
    NOT_IMPLEMENTED = "NOT_IMPLEMENTED"
    """The kernel says that it does not serve this case."""
    COMPILE_ERROR = "COMPILE_ERROR"
    """The kernel did not compile."""
    RUNTIME_ERROR = "RUNTIME_ERROR"
    """The kernel raised, or the device reported an error."""
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    """The device had not enough memory for the case."""
    TIMEOUT = "TIMEOUT"
    """The case was not done within its time limit."""
    CRASHED = "CRASHED"
    """The worker process died."""
    SKIPPED = "SKIPPED"
    """The device cannot hold the case, or not do it in reasonable time. Never a pass."""


JUDGED = frozenset({Status.PASSED, Status.MISMATCH, Status.NON_FINITE})
"""The statuses that come of comparing outputs; the others say why nothing was compared."""


class Errors(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far the outputs are from the golden; over several outputs, the worst of each figure.

    A non-finite element that the golden does not share counts as 0 here, so that a row of NaN
    shows as a row error of 1 and every figure stays a number.
    """

    max_abs: float
    """Largest |out - golden|."""
    max_rel: float
    """Largest |out - golden| / |golden| among elements no smaller than their row's rms."""
    rms_ratio: float
    """||out - golden|| / ||golden|| over the whole output."""
    worst_row_rms_ratio: float
    """The same over the worst row (the last axis)."""
    cos_diff: float
    """1 - 2 <out, golden> / (||out||^2 + ||golden||^2): 0 for equal, 1 for unrelated."""
    matched: float
    """Share of elements within the official tolerance."""
    worst_index: list[int]
    """Where the output is worst: the element that decides the verdict."""
    worst_output: str = "out"
    """The output that `worst_index` points into."""
    worst_value: float | None = None
    """What stands there; absent if it is NaN or infinite."""
    worst_expected: float | None = None
    """What should stand there; absent if it is infinite."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The outcome of one case.

    A judged case has a strict verdict too; any case that did not pass both has a reason. A judged
    case has error figures unless nothing could be compared. ValueError otherwise.
    """

    status: Status
    """By the official tolerance: what scores."""
    strict: Status | None = None
    """By the strict tolerance: PASSED, MISMATCH or NON_FINITE."""
    errors: Errors | None = None
    reason: str = ""
    """One sentence that names the fault; empty if both verdicts are PASSED."""

    def __post_init__(self) -> None:
        if (self.status in JUDGED) != (self.strict is not None):
            raise ValueError(f"a {self.status.value} verdict and strict={self.strict}")
        if self.strict is not None and self.strict not in JUDGED:
            raise ValueError(f"strict cannot be {self.strict.value}")
        if not self.passed and not self.reason:
            raise ValueError(f"a {self.status.value} verdict needs a reason")

    @property
    def passed(self) -> bool:
        """Whether both tolerances hold."""
        return self.status is Status.PASSED and self.strict is Status.PASSED
