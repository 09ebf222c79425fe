"""The same call on other numbers, with a result that is known without computing it again.

Each contract's `out` is odd in some of its inputs: negated values (and, where keys and values are
one tensor, negated queries too) give the negated `out`, bit for bit in any order of operations.
The other outputs (`lse`, `chosen`) stay.
"""

from __future__ import annotations

from typing import Any

import torch

from ..ops.base import Contract

_NEGATED = {
    ("moe", "routed"): ("down_w",),
    ("moe", "layer"): ("down_w",),
    # Keys are values here. Negated queries keep the scores.
    ("mla", "dense"): ("q", "q_pe", "kv", "k_pe"),
    ("mla", "paged"): ("q", "kv_cache"),
    ("nsa", "selected"): ("v",),
    ("nsa", "full"): ("v",),
}
ODD = "out"
"""The output that changes its sign."""
_SIGN_BIT = -(2**15)  # of fp16 and bf16, as int16


def negated(contract: Contract) -> tuple[str, ...]:
    """Names of the inputs whose negation negates `out`."""
    return _NEGATED[contract.op, contract.name]


def negate_(tensor: torch.Tensor) -> torch.Tensor:
    """Negate a half-precision tensor in place; a second time restores every bit.

    That of NaN too, which arithmetic may replace by another NaN.
    """
    tensor.view(torch.int16).bitwise_xor_(_SIGN_BIT)
    return tensor


def flip(contract: Contract, inputs: dict[str, Any]) -> None:
    """Negate those inputs in place; a second time restores every bit."""
    for name in negated(contract):
        negate_(inputs[name])


def mirrored(contract: Contract, inputs: dict[str, Any]) -> dict[str, Any]:
    """The inputs with negated copies of those; the others are shared."""
    return {**inputs, **{name: negate_(inputs[name].clone()) for name in negated(contract)}}


def extra_bytes(contract: Contract, inputs: dict[str, Any]) -> int:
    """Bytes that `mirrored` allocates."""
    return sum(_size(inputs[name]) for name in negated(contract))


def input_bytes(inputs: dict[str, Any]) -> int:
    """Bytes of all tensors among the inputs."""
    return sum(_size(value) for value in inputs.values() if isinstance(value, torch.Tensor))


def _size(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()
