"""Arguments without data: a contract's tensors on torch's `meta` device, to compile ahead with."""

from __future__ import annotations

from typing import Any

import torch

from ..case import Case
from ..ops.mla import QK_DIM, V_DIM, DenseParams, PagedParams
from ..ops.moe import BLOCK_ROWS, LayerParams, RoutedParams
from ..ops.nsa import FullParams, SelectedParams

HALF, INT, FLOAT = "half", torch.int32, torch.float32
Shapes = dict[str, tuple[tuple[int, ...], Any]]


def arguments(case: Case) -> tuple[list[torch.Tensor], dict[str, Any]]:
    """(tensors in calling order, options) of a case, outputs included, without any data.

    The rows of moe's padded layout depend on the drawn routing; here they are the worst case.
    """
    shapes = _shapes(case.params)
    half = getattr(torch, case.dtype)
    tensors = []
    for name in case.spec.tensors:
        shape, kind = shapes[name]
        dtype = half if kind is HALF else kind
        tensors.append(torch.empty(shape, dtype=dtype, device="meta"))
    return tensors, {name: _option(case.params, name) for name in case.spec.options}


def _option(params: Any, name: str) -> Any:
    return params.scale if name == "softmax_scale" else getattr(params, name)


def _shapes(params: Any) -> Shapes:
    if isinstance(params, RoutedParams):
        return _routed(params)
    if isinstance(params, LayerParams):
        return _layer(params)
    if isinstance(params, DenseParams):
        return _dense(params)
    if isinstance(params, PagedParams):
        return _paged(params)
    if isinstance(params, SelectedParams):
        return _selected(params)
    assert isinstance(params, FullParams), type(params)
    return _full(params)


def _routed(p: RoutedParams) -> Shapes:
    rows = p.rows + (p.n_experts * BLOCK_ROWS if p.layout == "padded" else 0)
    tables = ("group_sizes", "group_offsets", "group_padded_offsets")
    return {
        "tokens": ((rows, p.d_hidden), HALF),
        **_experts(p),
        "route_w": ((p.rows,), HALF),
        **{name: ((p.n_experts,), INT) for name in tables},
        "group_idx_for_bx": ((p.blocks,), INT),
        "out": ((rows, p.d_hidden), HALF),
    }


def _experts(p: RoutedParams | LayerParams) -> Shapes:
    wide = (p.n_experts, p.d_expert, p.d_hidden)
    return {
        "gate_w": (wide, HALF),
        "up_w": (wide, HALF),
        "down_w": ((p.n_experts, p.d_hidden, p.d_expert), HALF),
    }


def _layer(p: LayerParams) -> Shapes:
    hidden = ((p.tokens, p.d_hidden), HALF)
    router = ((p.n_experts, p.d_hidden), HALF)
    return {"hidden": hidden, "router_w": router, **_experts(p), "out": hidden}


def _dense(p: DenseParams) -> Shapes:
    queries, keys = (p.batch, p.heads), (p.batch, p.kv_ctx, p.kv_heads)
    return {
        "q": ((*queries, p.dim), HALF),
        "q_pe": ((*queries, p.pe_dim), HALF),
        "kv": ((*keys, p.dim), HALF),
        "k_pe": ((*keys, p.pe_dim), HALF),
        "out": ((*queries, p.dim), HALF),
    }


def _paged(p: PagedParams) -> Shapes:
    queries = (p.batch, p.q_len, p.heads)
    return {
        "q": ((*queries, QK_DIM), HALF),
        "kv_cache": ((p.pages, p.page_size, 1, QK_DIM), HALF),
        "block_table": ((p.batch, p.max_pages), INT),
        "cache_seqlens": ((p.batch,), INT),
        "out": ((*queries, V_DIM), HALF),
        "lse": ((p.batch, p.heads, p.q_len), FLOAT),
    }


def _attention(p: SelectedParams | FullParams) -> Shapes:
    queries = ((p.batch, p.seqlen, p.q_heads, p.dim), HALF)
    keys = ((p.batch, p.seqlen, p.kv_heads, p.dim), HALF)
    return {"q": queries, "k": keys, "v": keys, "out": queries}


def _selected(p: SelectedParams) -> Shapes:
    return {
        **_attention(p),
        "block_indices": ((p.batch, p.seqlen, p.kv_heads, p.selected), INT),
    }


def _full(p: FullParams) -> Shapes:
    gate = ((p.batch, p.seqlen, p.q_heads), HALF)
    return {
        **_attention(p),
        "g_cmp": gate,
        "g_slc": gate,
        "g_swa": gate,
        "chosen": ((p.batch, p.seqlen, p.kv_heads, p.top_k), INT),
    }
