"""Mistakes of mla kernels: keys left out or seen too early, wrong scales, coarse accumulation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ..case import Case
from ..ops.mla import PE_DIM, QK_DIM, V_DIM, PagedParams
from ..reference.draw import full_precision
from ..reference.mla import attend
from .outputs import Change, Mistake, accumulated, as_it_is, bounds, even_cuts

if TYPE_CHECKING:
    from . import Subject

TILE = 64  # keys of the last tile, which kernels with a ragged end tend to lose
PARTS = 16  # of the keys, each added to a bf16 accumulator


def complete(case: Case, inputs: dict[str, Any], outputs: dict[str, torch.Tensor]) -> None:
    """The golden needs nothing of the kernel's outputs."""


@dataclass(frozen=True)
class _Sequence:
    """One sequence's share of a call."""

    q: torch.Tensor  # [n, 576] fp32
    k: torch.Tensor  # [S, 576] half
    seen: torch.Tensor  # [n]: keys each query sees


def _sequences(found: Subject) -> Iterator[_Sequence]:
    x = found.inputs
    if isinstance(found.case.params, PagedParams):
        q, cache = x["q"], x["kv_cache"]
        q_len, heads = q.shape[1], q.shape[2]
        later = torch.arange(q_len - 1, -1, -1, device=q.device) * int(x["causal"])
        for b, length in enumerate(x["cache_seqlens"].tolist()):
            pages = x["block_table"][b, : math.ceil(length / cache.shape[1])].long()
            seen = (length - later).clamp_min(0).repeat_interleave(heads)
            yield _Sequence(q[b].flatten(0, 1).float(), cache[pages].flatten(0, 2)[:length], seen)
        return
    q = torch.cat([x["q"], x["q_pe"]], -1).float()  # [B, Hq, 576]
    for b in range(q.shape[0]):
        k = torch.cat([x["kv"][b, :, 0], x["k_pe"][b, :, 0]], -1)
        yield _Sequence(q[b], k, torch.full((q.shape[1],), len(k), device=q.device))


def _evaluate(found: Subject, change: Any, scale: float | None = None) -> torch.Tensor:
    """`out` with `change(sequence) -> (k, v, seen)` in place of a sequence's own.

    A row that sees nothing gives 0, as in the golden.
    """
    scale = found.inputs["softmax_scale"] if scale is None else scale
    rows = []
    with full_precision():
        for sequence in _sequences(found):
            k, v, seen = change(sequence)
            if len(k):
                out, _ = attend(sequence.q, k, v, seen.clamp(0, len(k)), scale)
            else:
                out = sequence.q.new_zeros(len(sequence.q), V_DIM)
            rows.append(out)
    return torch.stack(rows).view(found.golden.shape)


def _keys(s: _Sequence, first: int = 0, fewer: int = 0, more: int = 0) -> Any:
    k = s.k[first:]
    return k, k[:, :V_DIM], s.seen - first - fewer + more


def _longest(found: Subject) -> int:
    return max(len(s.k) for s in _sequences(found))


def mistakes(found: Subject) -> Iterator[Mistake]:
    """Mistakes of attention over a cache."""
    x, longest = found.inputs, _longest(found)
    if longest > TILE:
        yield "last 64 keys dropped", lambda: _evaluate(found, lambda s: _keys(s, fewer=TILE))
    if longest > 1:
        yield "last key dropped", lambda: _evaluate(found, lambda s: _keys(s, fewer=1))
        yield "first key skipped", lambda: _evaluate(found, lambda s: _keys(s, first=1))
        scale = x["softmax_scale"] * math.sqrt(QK_DIM / V_DIM)
        yield "softmax scale of 512", lambda: _evaluate(found, _keys, scale)
        yield "no softmax: plain mean", lambda: _evaluate(found, _keys, 0.0)
        yield "rotary part ignored", lambda: _evaluate(found, _without_rotary)
    p = found.case.params
    if isinstance(p, PagedParams) and p.causal and p.q_len > 1:
        yield "causal mask one too wide", lambda: _evaluate(found, lambda s: _keys(s, more=1))
    yield "bf16 accumulation", lambda: accumulated(parts(found, even_cuts(PARTS), as_it_is))


def _without_rotary(s: _Sequence) -> Any:
    k = s.k.clone()
    k[:, -PE_DIM:] = 0
    return k, k[:, :V_DIM], s.seen


def parts(found: Subject, cuts: Sequence[float], change: Change) -> Iterator[torch.Tensor]:
    """Terms of `out` from one part of the keys after the other, under the weights of all.

    cuts: where the parts end, as shares of a sequence's keys; change: of the values.
    """

    def only(part: int) -> Any:
        def values(s: _Sequence) -> Any:
            v = torch.zeros_like(s.k[:, :V_DIM], dtype=torch.float32)
            here = list(bounds(cuts, len(s.k)))[part]
            v[here] = change(s.k[here, :V_DIM])
            return s.k, v, s.seen

        return values

    for part in range(len(cuts) + 1):
        yield _evaluate(found, only(part))
