"""Inputs and goldens of native sparse attention.

Goldens walk the queries of one KV head in slabs: 64K tokens need neither a T x T matrix nor more
than a few hundred MiB beyond inputs and outputs.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from ..case import Case
from ..ops.nsa import FullParams, FullRecipe, SelectedParams, SelectedRecipe
from .base import Expected
from .draw import full_precision, generator, golden_dtype, normal, poisoned, slab
from .nsa_blocks import block_indices
from .nsa_choice import Choices, importance

Inputs = dict[str, Any]

SLAB_QUERIES = 512  # at most, since a slab of n queries scores n + window keys in `_window`


def make_inputs(case: Case, device: torch.device) -> Inputs:
    """Inputs of either contract; see `mxbench/ops/nsa.py` for the recipes."""
    params = case.params
    assert isinstance(params, SelectedParams | FullParams)
    dtype = getattr(torch, case.dtype)
    source = generator(case.seed, device)
    p, tokens = params, (params.batch, params.seqlen)
    scale = case.recipe.scale  # type: ignore[attr-defined]  # both recipes have it
    inputs: Inputs = {
        "q": normal((*tokens, p.q_heads, p.dim), scale, dtype, source),
        "k": normal((*tokens, p.kv_heads, p.dim), scale, dtype, source),
        "v": normal((*tokens, p.kv_heads, p.dim), scale, dtype, source),
    }
    if isinstance(p, SelectedParams):
        assert isinstance(case.recipe, SelectedRecipe)
        inputs["block_indices"] = block_indices(p, case.recipe, source)
        options: Inputs = {"causal": p.causal}
    else:
        assert isinstance(case.recipe, FullRecipe)
        inputs.update(_gates(p, case.recipe, dtype, source))
        names = ("top_k", "window", "cmp_kernel", "cmp_stride")
        options = {name: getattr(p, name) for name in names}
    return {**inputs, "block_size": p.block_size, "softmax_scale": p.scale, **options}


def _gates(
    params: FullParams, recipe: FullRecipe, dtype: torch.dtype, source: torch.Generator
) -> dict[str, torch.Tensor]:
    """The three gates, [B, T, HQ] each; all but `recipe.only`'s are closed if it is set."""
    gates = {}
    shape = (params.batch, params.seqlen, params.q_heads)
    names = {"g_cmp": "compressed", "g_slc": "selected", "g_swa": "window"}
    for name, branch in names.items():
        gate = normal(shape, 1.0, dtype, source).sigmoid_()
        gates[name] = gate if recipe.only in (None, branch) else torch.zeros_like(gate)
    return gates


def make_outputs(case: Case, inputs: Inputs, device: torch.device) -> dict[str, torch.Tensor]:
    """`out` full of NaN, and for `full` also `chosen` full of 2**30, which is no block."""
    outputs = {"out": poisoned(inputs["q"].shape, inputs["q"].dtype, device)}
    if isinstance(case.params, FullParams):
        p = case.params
        shape = (p.batch, p.seqlen, p.kv_heads, p.top_k)
        outputs["chosen"] = poisoned(shape, torch.int32, device)
    return outputs


def expected(
    case: Case, inputs: Inputs, outputs: dict[str, torch.Tensor], precision: str
) -> Expected:
    """The golden `out` in fp32 or fp64.

    For `full` it is the attention under the kernel's own choice of blocks, `outputs["chosen"]`,
    which is judged here: `problem` says what is wrong with it.
    """
    dtype = golden_dtype(precision)
    with full_precision():
        if isinstance(case.params, FullParams):
            return _full_golden(case.params, inputs, outputs["chosen"], dtype)
        assert isinstance(case.params, SelectedParams)
        return Expected({"out": _selected_golden(case.params, inputs, dtype)})


def attend(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    visible: torch.Tensor,
    softmax_scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention of each query's heads to its own keys; a query that sees none gives 0.

    q: [n, G, D]; k, v: [n, M, D], or [M, D] for keys that all queries share; visible: [n, M].
    Returns out [n, G, D] and the probabilities [n, G, M].
    """
    scores = (q @ k.transpose(-1, -2)).mul_(softmax_scale)  # [n, G, M]
    if scores.shape[-1] == 0:
        return torch.zeros_like(q), scores
    scores.masked_fill_(~visible.unsqueeze(1), -torch.inf)
    # A row of -inf would give NaN: its maximum is replaced, and its sum of 0 divides as 1.
    top = scores.amax(-1, keepdim=True).clamp_(min=torch.finfo(q.dtype).min)
    probs = scores.sub_(top).exp_()
    total = probs.sum(-1, keepdim=True)
    probs.div_(total.masked_fill_(total == 0, 1))
    return probs @ v, probs


class _Blocks:
    """K and V of one KV head, cut into blocks, for attention to a few blocks a query."""

    def __init__(self, k: torch.Tensor, v: torch.Tensor, block_size: int) -> None:
        """k, v: [T, D]."""
        self.seqlen, self.dim = k.shape
        self.size = block_size
        pad = (0, 0, 0, -self.seqlen % block_size)  # zeros behind the last, short block
        self.k = F.pad(k, pad).view(-1, block_size, self.dim)  # [blocks, block_size, D]
        self.v = F.pad(v, pad).view(-1, block_size, self.dim)

    def attend(
        self,
        q: torch.Tensor,
        start: int,
        indices: torch.Tensor,
        causal: bool,
        softmax_scale: float,
    ) -> torch.Tensor:
        """Attention of queries start .. start + n to their blocks, [n, G, D].

        q: [n, G, D]; indices: [n, S], where a block below 0 or past the end selects nothing.
        """
        n, slots = indices.shape
        indices = indices.long()
        inside = (indices >= 0) & (indices < len(self.k))
        block = torch.where(inside, indices, 0)
        offset = torch.arange(self.size, device=q.device)
        key = block.unsqueeze(-1) * self.size + offset  # [n, S, block_size]
        end: int | torch.Tensor = self.seqlen
        if causal:
            token = torch.arange(start, start + n, device=q.device)
            end = (token + 1).view(-1, 1, 1)
        visible = (inside.unsqueeze(-1) & (key < end)).view(n, -1)  # [n, S * block_size]
        k = self.k[block].view(n, slots * self.size, self.dim)
        v = self.v[block].view(n, slots * self.size, self.dim)
        return attend(q, k, v, visible, softmax_scale)[0]

    def query_bytes(self, slots: int, group: int) -> int:
        """What one query takes in `attend`: its keys and values, and scores thrice."""
        return slots * self.size * (2 * self.dim + 3 * group) * self.k.element_size()


def _selected_golden(params: SelectedParams, inputs: Inputs, dtype: torch.dtype) -> torch.Tensor:
    """out [B, T, HQ, D] in `dtype`."""
    p, q, indices = params, inputs["q"], inputs["block_indices"]
    out = torch.empty(q.shape, dtype=dtype, device=q.device)
    for b in range(p.batch):
        for h in range(p.kv_heads):
            heads = slice(h * p.group, (h + 1) * p.group)
            k, v = (inputs[name][b, :, h].to(dtype) for name in ("k", "v"))  # [T, D]
            blocks = _Blocks(k, v, p.block_size)
            rows = slab(blocks.query_bytes(p.selected, p.group), p.seqlen)
            for start in range(0, p.seqlen, rows):
                part = slice(start, min(start + rows, p.seqlen))
                out[b, part, heads] = blocks.attend(
                    q[b, part, heads].to(dtype),
                    start,
                    indices[b, part, h],
                    p.causal,
                    p.scale,
                )
    return out


def compress(x: torch.Tensor, params: FullParams) -> torch.Tensor:
    """Means of all windows, [windows, D], of one head's K or V, [T, D]."""
    if params.windows == 0:
        return x.new_empty(0, x.shape[1])
    return x.unfold(0, params.cmp_kernel, params.cmp_stride).mean(-1)


def compressed(
    q: torch.Tensor, k_cmp: torch.Tensor, v_cmp: torch.Tensor, start: int, params: FullParams
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention of queries start .. start + n to the windows that have ended by their token.

    q: [n, G, D]; k_cmp, v_cmp: [windows, D]. Returns out [n, G, D] and the probabilities
    [n, G, windows that the last query sees].
    """
    p, stop = params, start + len(q)
    seen = min(p.windows, max(0, (stop - p.cmp_kernel) // p.cmp_stride + 1))
    token = torch.arange(start, stop, device=q.device).unsqueeze(1)
    last = torch.arange(seen, device=q.device) * p.cmp_stride + p.cmp_kernel - 1
    return attend(q, k_cmp[:seen], v_cmp[:seen], last <= token, p.scale)


def _window(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    start: int,
    window: int,
    softmax_scale: float,
) -> torch.Tensor:
    """Sliding-window attention of queries start .. start + n, [n, G, D]; k, v: [T, D]."""
    first, stop = max(0, start - window + 1), start + len(q)
    token = torch.arange(start, stop, device=q.device).unsqueeze(1)
    key = torch.arange(first, stop, device=q.device)
    visible = (key <= token) & (key > token - window)  # [n, keys]
    return attend(q, k[first:stop], v[first:stop], visible, softmax_scale)[0]


def _full_golden(
    params: FullParams, inputs: Inputs, chosen: torch.Tensor, dtype: torch.dtype
) -> Expected:
    """out [B, T, HQ, D] in `dtype` under the kernel's `chosen` [B, T, H, top_k]."""
    p, q = params, inputs["q"]
    out = torch.empty(q.shape, dtype=dtype, device=q.device)
    choices = Choices(p, inputs["q"].dtype)
    for b in range(p.batch):
        for h in range(p.kv_heads):
            heads = slice(h * p.group, (h + 1) * p.group)
            k, v = (inputs[name][b, :, h].to(dtype) for name in ("k", "v"))  # [T, D]
            k_cmp, v_cmp = compress(k, p), compress(v, p)
            blocks = _Blocks(k, v, p.block_size)
            keys = 3 * p.group * (p.windows + p.window + SLAB_QUERIES) * k.element_size()
            rows = slab(blocks.query_bytes(p.top_k, p.group) + keys, p.seqlen)
            rows = min(rows, SLAB_QUERIES)
            for start in range(0, p.seqlen, rows):
                part = slice(start, min(start + rows, p.seqlen))
                queries = q[b, part, heads].to(dtype)  # [n, G, D]
                o_cmp, probs = compressed(queries, k_cmp, v_cmp, start, p)
                choices.judge(chosen[b, part, h], importance(probs, p), (b, start, h))
                o_slc = blocks.attend(queries, start, chosen[b, part, h], True, p.scale)
                o_swa = _window(queries, k, v, start, p.window, p.scale)
                g_cmp, g_slc, g_swa = (
                    inputs[name][b, part, heads].to(dtype).unsqueeze(-1)
                    for name in ("g_cmp", "g_slc", "g_swa")
                )
                out[b, part, heads] = g_cmp * o_cmp + g_slc * o_slc + g_swa * o_swa
    return Expected({"out": out}, choices.problem)
