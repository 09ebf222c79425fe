"""Inputs and goldens of every operator: the only part of an operator's definition with torch."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import torch

from ..case import Case
from .base import Expected
from .draw import level

__all__ = ["Expected", "expected", "make_inputs", "make_outputs"]


# What `values: equal` makes equal: not what routing or a choice of blocks would tie by, nor moe's
# last factor, with which each row of `out` would be one sum, that may cancel in any kernel.
_LEVELLED = {
    ("moe", "routed"): ("tokens",),
    ("moe", "layer"): ("gate_w", "up_w"),
    ("mla", "dense"): ("q", "q_pe", "kv", "k_pe"),
    ("mla", "paged"): ("q", "kv_cache"),
    ("nsa", "selected"): ("q", "k", "v"),
    ("nsa", "full"): ("q", "v"),
}


def _module(case: Case) -> ModuleType:
    return importlib.import_module(f".{case.op}", __name__)


def make_inputs(case: Case, device: torch.device | str) -> dict[str, Any]:
    """Every tensor the contract reads, on `device`, and its options, by argument name.

    Deterministic in `case.seed` for one device type; a CPU and a GPU draw different numbers.
    """
    inputs: dict[str, Any] = _module(case).make_inputs(case, torch.device(device))
    if case.recipe.values == "equal":
        for name in _LEVELLED[case.op, case.contract]:
            level(inputs[name])
    return inputs


def make_outputs(
    case: Case, inputs: dict[str, Any], device: torch.device | str
) -> dict[str, torch.Tensor]:
    """Output tensors filled with poison (NaN, or 2**30 in integer ones), by argument name."""
    outputs: dict[str, torch.Tensor] = _module(case).make_outputs(
        case, inputs, torch.device(device)
    )
    return outputs


def expected(
    case: Case,
    inputs: dict[str, Any],
    outputs: dict[str, torch.Tensor],
    precision: str = "fp32",
) -> Expected:
    """The golden of `inputs` in `precision`, `fp32` or `fp64`, on the inputs' device.

    `outputs` are the kernel's: nsa `full` is judged under the blocks that the kernel chose.
    """
    result: Expected = _module(case).expected(case, inputs, outputs, precision)
    return result
