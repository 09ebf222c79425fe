"""Seeded draws and the precision of goldens: what the operators' references share."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence

import torch

POISON = float("nan")  # in output tensors before a call, and wherever a kernel must not read
INT_POISON = 2**30

# Goldens work in slabs of about this many bytes, a few of which live at once, so that they stay
# below 2 GiB beyond inputs and outputs whatever the case's size.
SLAB_BYTES = 256 << 20

_DRAW_ELEMENTS = 1 << 24  # 64 MiB of fp32: a 22 GB weight must not pass through an fp32 copy


def generator(seed: int, device: torch.device) -> torch.Generator:
    """A fresh seeded generator. Different device types give different numbers."""
    return torch.Generator(device=device).manual_seed(seed)


def normal(
    shape: Sequence[int], scale: float, dtype: torch.dtype, source: torch.Generator
) -> torch.Tensor:
    """scale * N(0, 1) in `dtype`, drawn on the generator's device in fp32 slabs."""
    out = torch.empty(tuple(shape), dtype=dtype, device=source.device)
    flat = out.view(-1)
    for start in range(0, flat.numel(), _DRAW_ELEMENTS):
        part = flat[start : start + _DRAW_ELEMENTS]
        draw = torch.randn(part.numel(), generator=source, device=source.device)
        part.copy_(draw.mul_(scale))
    return out


def poisoned(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """A tensor whose every element says that nobody wrote it."""
    return poison(torch.empty(tuple(shape), dtype=dtype, device=device))


def poison(tensor: torch.Tensor) -> torch.Tensor:
    """Overwrite every element with what says that nobody wrote it."""
    return tensor.fill_(POISON if tensor.dtype.is_floating_point else INT_POISON)


def level(tensor: torch.Tensor) -> None:
    """Make all elements the first one that is no poison; poison stays."""
    flat = tensor.view(-1)
    drawn = ~flat.isnan()
    if drawn.any():
        flat.masked_fill_(drawn, float(flat[drawn.byte().argmax()]))


def golden_dtype(precision: str) -> torch.dtype:
    """The dtype of `precision`, `fp32` or `fp64`; ValueError for another word."""
    dtypes = {"fp32": torch.float32, "fp64": torch.float64}
    if precision not in dtypes:
        raise ValueError(f"precision must be fp32 or fp64, not {precision!r}")
    return dtypes[precision]


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """fp32 products in fp32: TF32 keeps 10 mantissa bits, no more than the kernels under test."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    try:
        with torch.no_grad():
            yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def slab(row_bytes: int, total: int) -> int:
    """How many rows of `row_bytes` each fit into one slab: at least 1, at most `total`."""
    return max(1, min(total, math.floor(SLAB_BYTES / max(1, row_bytes))))
