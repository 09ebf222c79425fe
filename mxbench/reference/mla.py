"""Inputs and goldens of multi-head latent attention."""

from __future__ import annotations

import math
from typing import Any

import torch

from ..case import Case
from ..ops.mla import QK_DIM, V_DIM, DenseParams, MlaRecipe, PagedParams
from .base import Expected
from .draw import (
    POISON,
    full_precision,
    generator,
    golden_dtype,
    normal,
    poisoned,
    slab,
)


def make_inputs(case: Case, device: torch.device) -> dict[str, Any]:
    """Inputs of either contract; see `mxbench/ops/mla.py` for sizes and recipe."""
    dtype = getattr(torch, case.dtype)
    source = generator(case.seed, device)
    assert isinstance(case.recipe, MlaRecipe)
    if isinstance(case.params, DenseParams):
        return _dense_inputs(case.params, case.recipe, dtype, source)
    assert isinstance(case.params, PagedParams)
    return _paged_inputs(case.params, case.recipe, dtype, source, case.seed)


def make_outputs(
    case: Case, inputs: dict[str, Any], device: torch.device
) -> dict[str, torch.Tensor]:
    """`out`, and `lse` of `paged`, poisoned."""
    q = inputs["q"]
    if isinstance(case.params, DenseParams):
        return {"out": poisoned(q.shape, q.dtype, device)}
    batch, q_len, heads, _ = q.shape
    return {
        "out": poisoned((batch, q_len, heads, V_DIM), q.dtype, device),
        "lse": poisoned((batch, heads, q_len), torch.float32, device),
    }


def expected(
    case: Case, inputs: dict[str, Any], outputs: dict[str, torch.Tensor], precision: str
) -> Expected:
    """The golden outputs in fp32 or fp64; `outputs` do not matter here."""
    dtype = golden_dtype(precision)
    with full_precision():
        if isinstance(case.params, DenseParams):
            return Expected({"out": _dense_golden(inputs, dtype)})
        out, lse = _paged_golden(inputs, dtype)
        return Expected({"out": out, "lse": lse})


# ---- inputs ----


def _dense_inputs(
    params: DenseParams, recipe: MlaRecipe, dtype: torch.dtype, source: torch.Generator
) -> dict[str, Any]:
    p = params
    queries, keys = (p.batch, p.heads), (p.batch, p.kv_ctx, p.kv_heads)
    return {
        "q": normal((*queries, p.dim), recipe.q, dtype, source),
        "q_pe": normal((*queries, p.pe_dim), recipe.q, dtype, source),
        "kv": normal((*keys, p.dim), recipe.kv, dtype, source),
        "k_pe": normal((*keys, p.pe_dim), recipe.kv, dtype, source),
        "softmax_scale": p.scale,
    }


def _paged_inputs(
    params: PagedParams,
    recipe: MlaRecipe,
    dtype: torch.dtype,
    source: torch.Generator,
    seed: int,
) -> dict[str, Any]:
    p = params
    table = _block_table(p, seed)
    cache = normal((p.pages, p.page_size, 1, QK_DIM), recipe.kv, dtype, source)
    used = table[table >= 0]
    spare = torch.ones(p.pages, dtype=torch.bool)
    spare[used] = False
    cache[spare.to(cache.device)] = POISON
    for b, length in enumerate(p.cache_seqlens):
        if tail := length % p.page_size:
            cache[int(table[b, length // p.page_size]), tail:] = POISON
    device = source.device
    return {
        "q": normal((p.batch, p.q_len, p.heads, QK_DIM), recipe.q, dtype, source),
        "kv_cache": cache,
        "block_table": table.to(device, torch.int32),
        "cache_seqlens": torch.tensor(p.cache_seqlens, dtype=torch.int32, device=device),
        "softmax_scale": p.scale,
        "causal": p.causal,
    }


def _block_table(params: PagedParams, seed: int) -> torch.Tensor:
    """Shuffled page numbers of every sequence, -1 past its last page: [B, max_pages]."""
    source = generator(seed, torch.device("cpu"))
    free = torch.randperm(params.pages, generator=source)
    table = torch.full((params.batch, params.max_pages), -1)
    for b, length in enumerate(params.cache_seqlens):
        count = math.ceil(length / params.page_size)
        table[b, :count], free = free[:count], free[count:]
    return table


# ---- goldens ----


def attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, seen: torch.Tensor, softmax_scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """softmax(q @ k.T * softmax_scale) @ v and the log-sum-exp of the scaled scores.

    q: [n, D] in the golden's dtype; k: [S, D] and v: [S, V] in half, S > 0; seen: [n], how many
    keys each query sees, from the first one on. Returns [n, V] and [n], of q's dtype. Scores of
    a slab of queries are kept whole, which makes the softmax the plain two-pass one; keys are
    widened slab by slab.
    """
    keys = k.shape[0]
    step = slab(k.shape[1] * q.element_size(), keys)
    position = torch.arange(keys, device=q.device)
    outs, sums = [], []
    rows = slab(keys * q.element_size(), q.shape[0])
    for part, limit in zip(q.split(rows), seen.split(rows), strict=True):
        scores = q.new_empty(len(part), keys)
        for score, slab_k in zip(scores.split(step, 1), k.split(step), strict=True):
            score.copy_(part @ slab_k.to(q.dtype).T)
        scores.mul_(softmax_scale).masked_fill_(position >= limit[:, None], -math.inf)
        lse = scores.logsumexp(-1)  # -inf where nothing is seen
        scores.sub_(lse.clamp_min(torch.finfo(q.dtype).min)[:, None]).exp_()
        out = q.new_zeros(len(part), v.shape[1])
        for weight, slab_v in zip(scores.split(step, 1), v.split(step), strict=True):
            out.addmm_(weight, slab_v.to(q.dtype))
        outs.append(out)
        sums.append(lse)
    return torch.cat(outs), torch.cat(sums)


def _dense_golden(inputs: dict[str, Any], dtype: torch.dtype) -> torch.Tensor:
    """`out` [B, Hq, dim] in `dtype`."""
    q = torch.cat([inputs["q"], inputs["q_pe"]], -1)  # [B, Hq, D]
    kv, k_pe = inputs["kv"], inputs["k_pe"]  # [B, S, Hkv, dim], [B, S, Hkv, pe_dim]
    batch, keys, kv_heads, dim = kv.shape
    group = q.shape[1] // kv_heads
    out = torch.empty(batch, q.shape[1], dim, dtype=dtype, device=q.device)
    seen = torch.full((group,), keys, device=q.device)
    for b in range(batch):
        for h in range(kv_heads):
            heads = slice(h * group, (h + 1) * group)
            k = torch.cat([kv[b, :, h], k_pe[b, :, h]], -1)  # [S, D]
            v = k[:, :dim]
            out[b, heads], _ = attend(q[b, heads].to(dtype), k, v, seen, inputs["softmax_scale"])
    return out


def _paged_golden(inputs: dict[str, Any], dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """`out` [B, Sq, Hq, 512] and `lse` [B, Hq, Sq] in `dtype`; 0 and -inf where nothing is seen."""
    q, cache, table = inputs["q"], inputs["kv_cache"], inputs["block_table"]
    batch, q_len, heads, _ = q.shape
    page_size = cache.shape[1]
    out = torch.zeros(batch, q_len, heads, V_DIM, dtype=dtype, device=q.device)
    lse = torch.full((batch, heads, q_len), -math.inf, dtype=dtype, device=q.device)
    query = torch.arange(q_len, device=q.device)
    for b, length in enumerate(inputs["cache_seqlens"].tolist()):
        if length == 0:
            continue
        pages = table[b, : math.ceil(length / page_size)].long()
        k = cache[pages].flatten(0, 2)[:length]  # [length, 576]
        later = q_len - 1 - query if inputs["causal"] else torch.zeros_like(query)
        seen = (length - later).clamp_min(0).repeat_interleave(heads)  # [Sq * Hq]
        rows = q[b].flatten(0, 1).to(dtype)  # [Sq * Hq, 576]
        o, total = attend(rows, k, k[:, :V_DIM], seen, inputs["softmax_scale"])
        out[b] = o.unflatten(0, (q_len, heads))
        lse[b] = total.unflatten(0, (q_len, heads)).T
    return out, lse
