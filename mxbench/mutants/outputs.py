"""Mistakes that show in any operator's output."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from .. import reference

if TYPE_CHECKING:
    from . import Subject

Change = Callable[[torch.Tensor], torch.Tensor]
"""Of the factor whose terms are summed."""
Mistake = tuple[str, Callable[[], torch.Tensor]]

ANOTHER_SEED = 1_000_003


def mistakes(found: Subject) -> Iterator[Mistake]:
    """Zeros, scales, a row or head left out or taken for another, the result of other inputs."""
    golden = found.golden
    yield "all zeros", lambda: torch.zeros_like(golden)
    yield "output x 1.02", lambda: golden * 1.02
    yield "output x 0.98", lambda: golden * 0.98
    row = _typical_row(golden)
    if row is not None:
        yield "one row zero", lambda: _with_row(golden, row, 0)
        yield "one row doubled", lambda: _with_row(golden, row, 2)
    heads = _head_axis(found)
    if heads is not None and golden.shape[heads] > 1:
        yield "one head zero", lambda: golden.index_fill(heads, _index(golden, 0), 0)
        yield "two heads swapped", lambda: _swapped(golden, heads)
    yield "output of another seed", lambda: _stale(found)


def _index(like: torch.Tensor, i: int) -> torch.Tensor:
    return torch.tensor([i], device=like.device)


def _typical_row(golden: torch.Tensor) -> int | None:
    """A row of middling norm; None if all are zero."""
    norms = golden.flatten(0, -2).norm(dim=-1)
    nonzero = norms.nonzero().flatten()
    if not len(nonzero):
        return None
    order = norms[nonzero].argsort()
    return int(nonzero[order[len(order) // 2]])


def _with_row(golden: torch.Tensor, row: int, factor: float) -> torch.Tensor:
    changed = golden.clone()
    changed.view(-1, golden.shape[-1])[row] *= factor
    return changed


def _head_axis(found: Subject) -> int | None:
    axes = found.case.spec.row_axes["out"]
    return axes.index("head") if "head" in axes else None


def _swapped(golden: torch.Tensor, axis: int) -> torch.Tensor:
    order = torch.arange(golden.shape[axis], device=golden.device)
    order[0], order[1] = 1, 0
    return golden.index_select(axis, order)


def _stale(found: Subject) -> torch.Tensor:
    """What lay in the buffer: the same call on other numbers."""
    other = replace(found.case, seed=found.case.seed + ANOTHER_SEED)
    drawn = reference.make_inputs(other, found.golden.device)
    out = reference.expected(other, drawn, found.outputs).tensors["out"]
    rows = torch.arange(found.golden.shape[0], device=out.device) % out.shape[0]
    return out[rows]  # another routing may have another padding, and so more or fewer rows


def even_cuts(parts: int) -> list[float]:
    """Where to cut a whole into so many equal parts, as `bounds` takes it."""
    return [part / parts for part in range(1, parts)]


def bounds(cuts: Sequence[float], size: int) -> Iterator[slice]:
    """The parts of `size` things that lie between the cuts, which are shares of it in order."""
    places = [0, *(int(cut * size) for cut in cuts), size]
    yield from (slice(a, b) for a, b in itertools.pairwise(places))


def as_it_is(x: torch.Tensor) -> torch.Tensor:
    """x in fp32: the change that changes nothing."""
    return x.float()


def accumulated(parts: Iterator[torch.Tensor]) -> torch.Tensor:
    """A sum that is rounded to bf16 after each part, as a kernel with bf16 accumulators has it."""
    total = next(parts).bfloat16()
    for part in parts:
        total = (total.float() + part).bfloat16()
    return total.float()


def blur(x: torch.Tensor, dtype: torch.dtype, source: torch.Generator) -> torch.Tensor:
    """x with each element off by a relative rounding error of `dtype`, in fp32."""
    unit = torch.finfo(dtype).eps / 2
    noise = torch.empty(x.shape, dtype=torch.float32, device=x.device)
    noise.uniform_(-unit, unit, generator=source)
    return x.float() * noise.add_(1)
