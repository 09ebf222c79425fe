"""What the spaces of all contracts share: shapes that are compiled for, and sizes near edges."""

from __future__ import annotations

import importlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from hypothesis import strategies as st

from ..case import Case, load_suite, suite_names
from ..ops import operator
from ..ops.base import Contract, Dtype, Tolerance
from ..workspace import Workspace

SUITE = "found"
FAMILIAR = ("smoke", "edge")
"""Suites whose static shapes are fuzzed: `check` has them in the compile cache already."""
FAMILIAR_ON_GPU = {"nsa": ("performance",)}
"""More of them, whose programs only a GPU has."""

Strategy = st.SearchStrategy[Any]


@dataclass(frozen=True)
class Shape:
    """What a program is compiled for: a contract, a dtype and the static parameters."""

    contract: str
    dtype: Dtype
    static: tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Limits:
    """How much one case may take."""

    elements: int
    """Of the largest tensor, about."""
    flops: int


_CPU = Limits(1 << 19, 60_000_000)
_GPU = Limits(1 << 21, 2_000_000_000)
_LARGE = Limits(1 << 25, 150_000_000_000)
"""Reaches the programs for long sequences and many rows."""
LIMITS = {"cpu": (_CPU,), "gpu": (_GPU,) * 7 + (_LARGE,)}
"""Limits that cases draw from, smallest first."""


def tolerance(dtype: Dtype) -> Tolerance:
    """The official tolerance of a drawn case; what decides is the strict one."""
    return (
        Tolerance(atol=0.02, rtol=0.02) if dtype == "bfloat16" else Tolerance(atol=0.01, rtol=0.01)
    )


def shapes(
    workspace: Workspace, op: str, contract: str, kind: str, count: int | None, seed: int
) -> list[Shape]:
    """Static shapes of a contract: those of the familiar suites, or `count` of them or drawn ones.

    kind: of the device; `cpu`, or a GPU's.
    """
    found: dict[Shape, None] = {}
    module = _module(op)
    suites = FAMILIAR if kind == "cpu" else (*FAMILIAR, *FAMILIAR_ON_GPU.get(op, ()))
    for suite in (name for name in suites if name in suite_names(workspace, op)):
        for case in load_suite(workspace, op, suite).cases:
            if case.contract == contract:
                found.setdefault(Shape(contract, case.dtype, module.static_of(case)))
    if count is None:
        return list(found)
    draw = random.Random(seed)
    if count <= len(found):
        return draw.sample(list(found), count)
    for _ in range(100 * count):
        if len(found) == count:
            break
        dtype: Dtype = draw.choice(("float16", "bfloat16"))
        found.setdefault(Shape(contract, dtype, tuple(module.draw_static(contract, draw).items())))
    return list(found)


def cases(op: str, among: Sequence[Shape], kind: str) -> Strategy:
    """Cases of the given shapes, with everything else drawn, for a device of `kind`."""
    limits = LIMITS["cpu" if kind == "cpu" else "gpu"]
    both = st.tuples(st.sampled_from(list(among)), st.sampled_from(limits))
    return both.flatmap(lambda drawn: _cases_of(op, *drawn))


def _cases_of(op: str, shape: Shape, limits: Limits) -> Strategy:
    spec = operator(op).contracts[shape.contract]
    dynamic = _module(op).dynamic(shape.contract, dict(shape.static), limits)
    seeds = st.integers(0, 2**16)
    return st.builds(lambda parts, seed: _case(op, spec, shape, parts, seed), dynamic, seeds)


def _case(
    op: str, spec: Contract, shape: Shape, parts: tuple[dict[str, Any], dict[str, Any]], seed: int
) -> Case:
    """parts: (params, recipe)."""
    return Case(
        op=op,
        suite=SUITE,
        name="drawn",
        contract=spec.name,
        params=msgspec.convert(parts[0], spec.params),
        dtype=shape.dtype,
        seed=seed,
        recipe=msgspec.convert(parts[1], spec.recipe),
        tolerance=tolerance(shape.dtype),
    )


@st.composite
def near_edges(draw: Any, most: int, *steps: int) -> int:
    """A size in [1, most], often next to a multiple of one of the steps.

    Drawn plainly and then moved, so that a failing size shrinks by itself.
    """
    size: int = draw(st.integers(1, max(1, most)))
    step = draw(st.sampled_from((None, *steps)))
    if step is not None:
        size = -(-size // step) * step + draw(st.sampled_from((0, 1, -1)))
    return min(max(size, 1), max(1, most))


def scales(*chosen: float) -> Strategy:
    """One of some scales, the first of which is the usual one."""
    return st.sampled_from(chosen)


def _module(op: str) -> Any:
    return importlib.import_module(f"mxbench.fuzzing.{op}")
