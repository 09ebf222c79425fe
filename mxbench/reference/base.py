"""What a golden computation returns."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Expected:
    """The golden outputs of one call."""

    tensors: dict[str, torch.Tensor]
    """By output name, in fp32 or fp64; integer outputs as they are."""
    problem: str | None = None
    """Why an output that the golden depends on (`chosen` of nsa `full`) is invalid."""
