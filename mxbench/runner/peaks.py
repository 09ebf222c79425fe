"""What the GPU at hand reaches: a large matrix product, and a large copy. Runs in the worker.

Bounds computed with these say how far a kernel is from what the best library call gets out of
this very device, clocks, power limit and all.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import get_args

import torch

from ..ops.base import Dtype
from ..roofline import Rates

MATRIX = 8192
"""Side of the square matrices: 1.1 TFLOP a product, long enough to hide its start and end."""
COPY_BYTES = 4 << 30
"""Copied at once, far more than any L2 holds; a quarter of the free memory if that is less."""
SUSTAINED = 2.0
"""Seconds of each measurement, so that clocks have settled to what the power limit allows."""


def measure() -> Rates:
    """Rates of the current GPU, each the mean of the second half of SUSTAINED seconds."""
    return Rates(tflops={name: _matrix_tflops(name) for name in get_args(Dtype)}, gbps=_copy_gbps())


def _matrix_tflops(name: Dtype) -> float:
    """1e12 operations a second of a [MATRIX, MATRIX] product of normally distributed numbers."""
    dtype = getattr(torch, name)
    a, b = (torch.randn(MATRIX, MATRIX, device="cuda", dtype=dtype) for _ in range(2))
    out = torch.empty_like(a)
    ms = _sustained_ms(lambda: torch.mm(a, b, out=out))
    return round(2 * MATRIX**3 / ms / 1e9, 1)


def _copy_gbps() -> float:
    """1e9 bytes a second, read plus written, of a device-to-device copy."""
    free, _ = torch.cuda.mem_get_info()
    size = min(COPY_BYTES, free // 4)
    source = torch.empty(size, dtype=torch.int8, device="cuda").random_()
    target = torch.empty_like(source)
    ms = _sustained_ms(lambda: target.copy_(source))
    return round(2 * size / ms / 1e6, 1)


def _sustained_ms(call: Callable[[], object]) -> float:
    """Milliseconds a call in the second half of SUSTAINED seconds of calls back to back."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    deadline = time.perf_counter() + SUSTAINED / 2
    calls = 0
    while time.perf_counter() < deadline:
        for _ in range(8):
            call()
        calls += 8
        torch.cuda.synchronize()
    begin.record()
    for _ in range(calls):
        call()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / calls
