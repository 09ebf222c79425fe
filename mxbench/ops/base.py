"""What an operator is made of. Pure data and arithmetic: importing this never imports torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

Dtype = Literal["float16", "bfloat16"]
DTYPES: tuple[Dtype, ...] = ("float16", "bfloat16")
ELEMENT_BYTES = 2  # of fp16 and bf16 alike


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Sizes and switches of one call. Subclasses validate in `__post_init__` (ValueError)."""

    def label(self) -> str:
        """A short readable id such as `B1-S2048-H16`, unique within a contract."""
        raise NotImplementedError


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a case's inputs are drawn: scales and patterns. The seed is the case's."""

    values: Literal["normal", "equal"] = "normal"
    """`equal`: the elements of a tensor are all the first one drawn (see reference/__init__.py)."""


class Tolerance(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The official test: |out - golden| <= atol + rtol * |golden| for (nearly) all elements."""

    atol: float
    rtol: float
    max_mismatched_ratio: float = 0.0

    def __post_init__(self) -> None:
        finite = math.isfinite(self.atol) and math.isfinite(self.rtol)  # JSON's 1e999 is infinite
        if not finite or self.atol < 0 or self.rtol < 0:
            raise ValueError("atol and rtol must be finite and >= 0")
        if not 0 <= self.max_mismatched_ratio <= 1:
            raise ValueError("max_mismatched_ratio must be in [0, 1]")


@dataclass(frozen=True)
class StrictTolerance:
    """The strict test, in relative root-mean-square errors, so that no scale hides a fault."""

    rms_ratio: float
    """Limit of ||out - golden|| / ||golden|| over the whole output."""
    row_rms_ratio: float
    """The same limit for every single row (the last axis)."""


@dataclass(frozen=True)
class Work:
    """Least work of one call."""

    flops: int
    """Multiplications and additions of the matrix products, counted separately."""
    bytes: int
    """Each input byte the result depends on read once, each output byte written once."""


@dataclass(frozen=True)
class Contract:
    """One calling convention of an operator: the function a kernel module must define."""

    op: str
    name: str
    tensors: tuple[str, ...]
    """Positional arguments in calling order, outputs included."""
    outputs: tuple[str, ...]
    """Those of `tensors` that the kernel writes."""
    options: tuple[str, ...]
    """Keyword-only scalar arguments."""
    params: type[Params]
    recipe: type[Recipe]
    work: Callable[[Any], Work]
    """Params -> Work."""
    footprint: Callable[[Any], int]
    """Params -> bytes of all tensors of one call."""
    dynamic: tuple[str, ...]
    """Parameters that may change without compiling again."""
    row_axes: dict[str, tuple[str, ...]]
    """Names of each output's axes, for naming the worst element."""
    strict: Callable[[Any, Dtype], StrictTolerance]

    @property
    def signature(self) -> str:
        """The Python signature a kernel module must define for this contract."""
        parts = list(self.tensors) + (["*", *self.options] if self.options else [])
        return f"{self.name}({', '.join(parts)})"


@dataclass(frozen=True)
class Operator:
    """A named operator with its contracts; never a kernel."""

    name: str
    title: str
    contracts: dict[str, Contract]


def require_positive(params: msgspec.Struct, *names: str) -> None:
    """ValueError unless every field in `names` is at least 1. A field that is None is absent."""
    for name in names:
        value = getattr(params, name)
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")


def is_power_of_two(value: int) -> bool:
    """Whether `value` is 1, 2, 4, 8, ..."""
    return value > 0 and value & (value - 1) == 0
