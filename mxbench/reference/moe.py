"""Inputs and goldens of the fused mixture of experts."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from ..case import Case
from ..ops.moe import (
    LayerParams,
    LayerRecipe,
    RoutedParams,
    RoutedRecipe,
    Scale,
    scale,
)
from .base import Expected
from .draw import full_precision, generator, golden_dtype, normal, poisoned, slab
from .moe_routing import metadata, near_ties, pad, router_probs, skew_tokens, split_rows

REDRAWS = 200  # each leaves less than half of the unsure tokens, so this many never run out


def make_inputs(case: Case, device: torch.device) -> dict[str, Any]:
    """Inputs of either contract; see `mxbench/ops/moe.py` for the recipes."""
    dtype = getattr(torch, case.dtype)
    source = generator(case.seed, device)
    if isinstance(case.params, LayerParams):
        assert isinstance(case.recipe, LayerRecipe)
        return _layer_inputs(case.params, case.recipe, dtype, source)
    assert isinstance(case.params, RoutedParams) and isinstance(case.recipe, RoutedRecipe)
    return _routed_inputs(case.params, case.recipe, dtype, source, case.seed)


def make_outputs(
    case: Case, inputs: dict[str, Any], device: torch.device
) -> dict[str, torch.Tensor]:
    """`out`, poisoned: as many rows as `tokens` (compact or padded) or `hidden` have."""
    rows = inputs["hidden"] if isinstance(case.params, LayerParams) else inputs["tokens"]
    return {"out": poisoned(rows.shape, rows.dtype, device)}


def expected(
    case: Case, inputs: dict[str, Any], outputs: dict[str, torch.Tensor], precision: str
) -> Expected:
    """The golden `out` in fp32 or fp64; `outputs` do not matter here."""
    dtype = golden_dtype(precision)
    with full_precision():
        if isinstance(case.params, LayerParams):
            out = _layer_golden(inputs, dtype)
        else:
            out = _routed_golden(inputs, dtype)
    return Expected({"out": out})


# ---- inputs ----


def _expert_weights(
    params: RoutedParams | LayerParams,
    gate_up: Scale,
    down: Scale,
    dtype: torch.dtype,
    source: torch.Generator,
) -> dict[str, torch.Tensor]:
    e, h, i = params.n_experts, params.d_hidden, params.d_expert
    return {
        "gate_w": normal((e, i, h), scale(gate_up, params), dtype, source),
        "up_w": normal((e, i, h), scale(gate_up, params), dtype, source),
        "down_w": normal((e, h, i), scale(down, params), dtype, source),
    }


def _routed_inputs(
    params: RoutedParams,
    recipe: RoutedRecipe,
    dtype: torch.dtype,
    source: torch.Generator,
    seed: int,
) -> dict[str, Any]:
    inputs = _expert_weights(params, recipe.gate_up, recipe.down, dtype, source)
    token_scale = scale(recipe.tokens, params)
    # rows: compact rows in the experts' order [G, H]; weights: [G]
    if recipe.routing == "router" and params.group_sizes is None:
        rows, weights, sizes = _route(params, recipe, dtype, source)
    else:
        sizes = split_rows(params, recipe, seed)
        rows = normal((params.rows, params.d_hidden), token_scale, dtype, source)
        weights = _loose_weights(params, source)
    if recipe.route_w == "uniform":
        weights = torch.rand(params.rows, generator=source, device=source.device)
    return {
        "tokens": rows if params.layout == "compact" else pad(rows, sizes),
        **inputs,
        "route_w": weights.to(dtype),
        **metadata(sizes, params, source.device),
    }


def _route(
    params: RoutedParams, recipe: RoutedRecipe, dtype: torch.dtype, source: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    """Tokens sent through a router: rows [G, H] in the experts' order, weights [G], sizes."""
    tokens, top_k = params.tokens or params.rows, params.top_k or 1
    router_scale = scale(recipe.router, params)
    router_w = normal((params.n_experts, params.d_hidden), router_scale, dtype, source)
    token_scale = scale(recipe.tokens, params)
    hidden = normal((tokens, params.d_hidden), token_scale, dtype, source)
    hidden = skew_tokens(hidden, router_w, recipe.skew)
    with full_precision():
        weights, experts = router_probs(hidden, router_w, torch.float32).topk(top_k)  # [T, K]
    experts = experts.flatten()
    order = experts.argsort(stable=True)
    sizes = experts.bincount(minlength=params.n_experts).tolist()
    return hidden[order // top_k], weights.flatten()[order], sizes


def _loose_weights(params: RoutedParams, source: torch.Generator) -> torch.Tensor:
    """Weights [G] for rows that no router sent: each one of the top_k of unit-normal logits."""
    top_k = params.top_k or 1
    logits = torch.randn(params.rows, params.n_experts, generator=source, device=source.device)
    rank = torch.randint(top_k, (params.rows, 1), generator=source, device=source.device)
    return logits.softmax(-1).topk(top_k).values.gather(1, rank).flatten()


def _layer_inputs(
    params: LayerParams, recipe: LayerRecipe, dtype: torch.dtype, source: torch.Generator
) -> dict[str, Any]:
    router_scale = scale(recipe.router, params)
    router_w = normal((params.n_experts, params.d_hidden), router_scale, dtype, source)

    def draw(tokens: int) -> torch.Tensor:
        hidden = normal((tokens, params.d_hidden), scale(recipe.hidden, params), dtype, source)
        return skew_tokens(hidden, router_w, recipe.skew)

    hidden = draw(params.tokens)
    unsure = near_ties(hidden, router_w, params.top_k)
    for _ in range(REDRAWS):
        if not len(unsure):
            break
        hidden[unsure] = draw(len(unsure))
        unsure = unsure[near_ties(hidden[unsure], router_w, params.top_k)]
    if len(unsure):
        raise ValueError(
            f"{len(unsure)} tokens still choose their experts by rounding after {REDRAWS} redraws:"
            " the recipe's scales of hidden and router are too small to tell experts apart"
        )
    weights = _expert_weights(params, recipe.gate_up, recipe.down, dtype, source)
    return {"hidden": hidden, "router_w": router_w, **weights, "top_k": params.top_k}


# ---- goldens ----


def _ffn(
    x: torch.Tensor, gate: torch.Tensor, up: torch.Tensor, down: torch.Tensor, dtype: torch.dtype
) -> torch.Tensor:
    """(silu(x @ gate.T) * (x @ up.T)) @ down.T in `dtype`: [n, H].

    x: [n, H]; gate, up: [I, H]; down: [H, I]. Slabs of I bound the widened copies.
    """
    x = x.to(dtype)
    out = torch.zeros_like(x)
    width = _width(gate, dtype)
    for i in range(0, gate.shape[0], width):
        inner = F.silu(x @ gate[i : i + width].to(dtype).T)
        inner *= x @ up[i : i + width].to(dtype).T
        out.addmm_(inner, down[:, i : i + width].to(dtype).T)
    return out


def _width(gate: torch.Tensor, dtype: torch.dtype) -> int:
    """Inner columns to widen at once; gate: [I, H]."""
    return slab(3 * gate.shape[1] * dtype.itemsize, gate.shape[0])


def _row_slab(gate: torch.Tensor, dtype: torch.dtype) -> int:
    """Rows to compute at once: x and out of H columns, three inner arrays. gate: [I, H]."""
    return slab((2 * gate.shape[1] + 3 * _width(gate, dtype)) * dtype.itemsize, 1 << 30)


def _routed_golden(inputs: dict[str, Any], dtype: torch.dtype) -> torch.Tensor:
    """`out` [R, H] in `dtype`; padding rows are 0 and their NaN inputs are never touched."""
    tokens, route_w, gate_w = inputs["tokens"], inputs["route_w"], inputs["gate_w"]
    sizes = inputs["group_sizes"].tolist()
    offsets = inputs["group_offsets"].tolist()
    compact = tokens.shape[0] == route_w.shape[0]
    starts = offsets if compact else inputs["group_padded_offsets"].tolist()
    out = torch.zeros(tokens.shape, dtype=dtype, device=tokens.device)
    step = _row_slab(gate_w[0], dtype)
    for e, size in enumerate(sizes):
        for row in range(0, size, step):
            n = min(step, size - row)
            here = slice(starts[e] + row, starts[e] + row + n)
            weight = route_w[offsets[e] + row :][:n].to(dtype)  # [n]
            y = _ffn(tokens[here], gate_w[e], inputs["up_w"][e], inputs["down_w"][e], dtype)
            out[here] = y.mul_(weight[:, None])
    return out


def _layer_golden(inputs: dict[str, Any], dtype: torch.dtype) -> torch.Tensor:
    """`out` [T, H] in `dtype`: each token's top_k experts, weighted by their probabilities.

    The probabilities are taken as they are, not renormalised over the chosen experts, as in the
    contest's sample (softmax first, then top-k).
    """
    hidden, gate_w = inputs["hidden"], inputs["gate_w"]
    weights, experts = router_probs(hidden, inputs["router_w"], dtype).topk(
        inputs["top_k"]
    )  # [T, K]
    out = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device)
    step = _row_slab(gate_w[0], dtype)
    for e in range(gate_w.shape[0]):
        token, choice = (experts == e).nonzero(as_tuple=True)
        for row in range(0, len(token), step):
            where = token[row : row + step]
            weight = weights[where, choice[row : row + step]]  # [n]
            y = _ffn(hidden[where], gate_w[e], inputs["up_w"][e], inputs["down_w"][e], dtype)
            out.index_add_(0, where, y.mul_(weight[:, None]))
    return out
