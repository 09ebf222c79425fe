"""Cases for the reference tests, built without a suite file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from mxbench.case import Case
from mxbench.ops import contract
from mxbench.ops.base import Tolerance


def build(
    op: str,
    name: str,
    params: dict[str, Any],
    recipe: dict[str, Any] | None = None,
    dtype: str = "float16",
    seed: int = 0,
) -> Case:
    """A case of contract `name` from JSON-like parameters and recipe."""
    spec = contract(op, name)
    return Case(
        op=op,
        suite="test",
        name="test",
        contract=name,
        params=msgspec.convert(params, spec.params),
        dtype=dtype,
        seed=seed,
        recipe=msgspec.convert(recipe or {}, spec.recipe),
        tolerance=Tolerance(atol=0.01, rtol=0.01),
    )


@pytest.fixture
def make_case() -> Callable[..., Case]:
    return build
