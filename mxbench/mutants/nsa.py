"""Mistakes of nsa kernels: a block ignored, a mask one off, wrong scales, gates mistaken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import torch

from ..case import Case
from ..ops.nsa import FullParams, SelectedParams
from ..reference.draw import full_precision
from ..reference.nsa import compress, compressed
from ..reference.nsa_choice import importance
from .outputs import Change, Mistake, accumulated, as_it_is, bounds, even_cuts

if TYPE_CHECKING:
    from . import Subject

PARTS = 8  # of the keys, each added to a bf16 accumulator
SLAB = 512  # queries whose importances are looked at together


def complete(case: Case, inputs: dict[str, Any], outputs: dict[str, torch.Tensor]) -> None:
    """For `full`, write the choice of a right kernel to `chosen`."""
    if not isinstance(case.params, FullParams):
        return
    p, chosen = case.params, outputs["chosen"]
    with full_precision():
        for b in range(p.batch):
            for h in range(p.kv_heads):
                heads = slice(h * p.group, (h + 1) * p.group)
                k, v = (compress(inputs[name][b, :, h].float(), p) for name in ("k", "v"))
                for start in range(0, p.seqlen, SLAB):
                    q = inputs["q"][b, start : start + SLAB, heads].float()
                    _, probs = compressed(q, k, v, start, p)
                    chosen[b, start : start + len(q), h] = _choice(importance(probs, p), start, p)


def _choice(weights: torch.Tensor, start: int, p: FullParams) -> torch.Tensor:
    """The chosen blocks [n, top_k] of queries from `start` on; weights: [n, blocks]."""
    n, blocks = weights.shape
    own = torch.arange(start, start + n, device=weights.device) // p.block_size
    block = torch.arange(blocks, device=weights.device)
    forced = (block == 0) | (block == own[:, None]) | (block == own[:, None] - 1)
    rank = weights.masked_fill(forced, torch.inf).masked_fill(block > own[:, None], -torch.inf)
    best = rank.topk(min(p.top_k, blocks))
    chosen = torch.full((n, p.top_k), -1, dtype=torch.int32, device=weights.device)
    chosen[:, : best.indices.shape[1]] = torch.where(best.values > -torch.inf, best.indices, -1)
    return chosen


def mistakes(found: Subject) -> Iterator[Mistake]:
    """Mistakes of any sparse attention, then of the contract."""
    p = found.case.params
    assert isinstance(p, FullParams | SelectedParams)
    yield "softmax scale of 2 D", lambda: _with_params(found, softmax_scale=p.scale * 2**-0.5)
    yield "no softmax: plain mean", lambda: _with_params(found, softmax_scale=1e-30)
    yield "bf16 accumulation", lambda: accumulated(parts(found, even_cuts(PARTS), as_it_is))
    yield from _of_full(found, p) if isinstance(p, FullParams) else _of_selected(found, p)


def _of_selected(found: Subject, p: SelectedParams) -> Iterator[Mistake]:
    indices = found.inputs["block_indices"]
    yield "one block index ignored", lambda: found.golden_of(block_indices=_one_gone(indices))
    if p.causal:
        yield "causal mask left out", lambda: _with_params(found, causal=False)
        yield "causal mask one too narrow", lambda: _shifted(found)
    if p.kv_heads > 1:
        yield "KV heads swapped", lambda: found.golden_of(v=found.inputs["v"].flip(2))


def _of_full(found: Subject, p: FullParams) -> Iterator[Mistake]:
    x = found.inputs
    yield "window one too long", lambda: _with_params(found, window=p.window + 1)
    if p.window > 1:
        yield "window one too short", lambda: _with_params(found, window=p.window - 1)
    yield "one chosen block ignored", lambda: _ignoring(found)
    yield "gates mistaken", lambda: found.golden_of(g_cmp=x["g_slc"], g_slc=x["g_cmp"])
    yield "compressed branch left out", lambda: found.golden_of(g_cmp=torch.zeros_like(x["g_cmp"]))


def _with_params(found: Subject, **changes: Any) -> torch.Tensor:
    from . import out_of

    case = replace(found.case, params=msgspec.structs.replace(found.case.params, **changes))
    return out_of(case, found.inputs, found.outputs)


def _one_gone(indices: torch.Tensor) -> torch.Tensor:
    """Each token's last block that selects something, replaced by -1. indices: [B, T, H, S]."""
    valid = indices >= 0
    place = torch.arange(indices.shape[-1], device=indices.device)
    last = torch.where(valid, place, -1).amax(-1, keepdim=True)
    return torch.where(place == last, -1, indices).to(indices.dtype)


def _shifted(found: Subject) -> torch.Tensor:
    """Each token without itself as a key: its query moved one place to the front."""
    x = found.inputs
    moved = found.golden_of(q=x["q"].roll(-1, 1), block_indices=x["block_indices"].roll(-1, 1))
    return moved.roll(1, 1)


def _ignoring(found: Subject) -> torch.Tensor:
    from . import out_of

    chosen = _one_gone(found.outputs["chosen"])
    return out_of(found.case, found.inputs, {**found.outputs, "chosen": chosen})


def parts(found: Subject, cuts: Sequence[float], change: Change) -> Iterator[torch.Tensor]:
    """Terms of `out` from one part of the keys after the other, under the weights of all.

    cuts: where the parts end, as shares of the keys; change: of the values.
    """
    v = found.inputs["v"]
    for here in bounds(cuts, v.shape[1]):
        only = torch.zeros_like(v, dtype=torch.float32)
        only[:, here] = change(v[:, here])
        yield found.golden_of(v=only)
