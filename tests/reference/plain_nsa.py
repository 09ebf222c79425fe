"""nsa in plain loops, straight from the definitions, and small cases to try them on."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import torch

from mxbench.case import Case
from mxbench.ops.nsa import FullParams, SelectedParams
from mxbench.reference import Expected, expected, make_outputs

from .conftest import build

CPU = torch.device("cpu")


def case(params: Any, recipe: Any = None, dtype: str = "float16", seed: int = 3) -> Case:
    contract = "selected" if isinstance(params, SelectedParams) else "full"
    recipe = {} if recipe is None else msgspec.to_builtins(recipe)
    return build("nsa", contract, msgspec.to_builtins(params), recipe, dtype, seed)


def sizes(**change: Any) -> SelectedParams:
    base = dict(batch=1, seqlen=53, kv_heads=2, q_heads=4, dim=8, selected=3, block_size=8)
    return SelectedParams(**{**base, **change})


def full_sizes(**change: Any) -> FullParams:
    base = dict(batch=1, seqlen=75, kv_heads=2, q_heads=4, dim=8, block_size=8, top_k=4)
    base.update(window=11, cmp_kernel=4, cmp_stride=2)
    return FullParams(**{**base, **change})


# ---- plain loops in fp64: one query and head at a time, one key at a time ----


def plain_attention(
    q: torch.Tensor, keys: list[torch.Tensor], values: list[torch.Tensor], scale: float
) -> torch.Tensor:
    """q: [D]; keys, values: any number of [D], repeated ones included."""
    if not keys:
        return torch.zeros_like(q)
    weights = [math.exp(float(q @ key) * scale) for key in keys]
    return sum(w * value for w, value in zip(weights, values, strict=True)) / sum(weights)


def plain_blocks(q, k, v, chosen: list[int], t: int, size: int, causal: bool, scale: float):
    """k, v: [T, D]; the keys of all chosen blocks, block by block."""
    seen = [
        token
        for block in chosen
        for token in range(block * size, (block + 1) * size)
        if 0 <= token < (t + 1 if causal else len(k))
    ]
    return plain_attention(q, [k[i] for i in seen], [v[i] for i in seen], scale)


def plain_selected(params: SelectedParams, inputs: dict[str, Any]) -> torch.Tensor:
    q, k, v = (inputs[name].double() for name in "qkv")
    out = torch.full_like(q, math.nan)
    group = params.q_heads // params.kv_heads
    for b in range(params.batch):
        for t in range(params.seqlen):
            for hq in range(params.q_heads):
                h = hq // group
                chosen = inputs["block_indices"][b, t, h].tolist()
                out[b, t, hq] = plain_blocks(
                    q[b, t, hq], k[b, :, h], v[b, :, h], chosen, t,
                    params.block_size, params.causal, inputs["softmax_scale"],
                )  # fmt: skip
    return out


def plain_importance(params: FullParams, inputs: dict[str, Any], b: int, t: int, h: int):
    """Importance of each block to token t, straight from the definition; and each head's o_cmp."""
    q, k, v = (inputs[name].double() for name in "qkv")
    p, group = params, params.q_heads // params.kv_heads
    blocks = [0.0] * math.ceil(p.seqlen / p.block_size)
    starts = range(0, t + 1 - p.cmp_kernel + 1, p.cmp_stride)
    outs = []
    for hq in range(h * group, (h + 1) * group):
        keys = [k[b, s : s + p.cmp_kernel, h].mean(0) for s in starts]
        values = [v[b, s : s + p.cmp_kernel, h].mean(0) for s in starts]
        weights = [math.exp(float(q[b, t, hq] @ key) * inputs["softmax_scale"]) for key in keys]
        outs.append(plain_attention(q[b, t, hq], keys, values, inputs["softmax_scale"]))
        for start, weight in zip(starts, weights, strict=True):
            for j in range(len(blocks)):
                low, high = j * p.block_size, (j + 1) * p.block_size
                overlap = min(high, start + p.cmp_kernel) - max(low, start)
                blocks[j] += max(0, overlap) / p.cmp_stride * weight / sum(weights)
    return blocks, outs


def plain_choice(params: FullParams, importance: list[float], t: int) -> list[int]:
    """The forced blocks, then the most important ones, then -1."""
    own = t // params.block_size
    chosen = sorted({0, max(0, own - 1), own})
    rest = sorted(set(range(own + 1)) - set(chosen), key=lambda j: -importance[j])
    chosen = [*chosen, *rest][: params.top_k]
    return chosen + [-1] * (params.top_k - len(chosen))


def plain_full(params: FullParams, inputs: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    q, k, v = (inputs[name].double() for name in "qkv")
    p, group, scale = params, params.q_heads // params.kv_heads, inputs["softmax_scale"]
    out = torch.full_like(q, math.nan)
    chosen = torch.full((p.batch, p.seqlen, p.kv_heads, p.top_k), -9, dtype=torch.int32)
    for b in range(p.batch):
        for t in range(p.seqlen):
            for h in range(p.kv_heads):
                weights, o_cmp = plain_importance(p, inputs, b, t, h)
                picked = plain_choice(p, weights, t)
                chosen[b, t, h] = torch.tensor(picked)
                keys, values = k[b, :, h], v[b, :, h]
                near = range(max(0, t - p.window + 1), t + 1)
                for g in range(group):
                    hq = h * group + g
                    query = q[b, t, hq]
                    o_slc = plain_blocks(query, keys, values, picked, t, p.block_size, True, scale)
                    o_swa = plain_attention(
                        query, [keys[i] for i in near], [values[i] for i in near], scale
                    )
                    gate = [inputs[n][b, t, hq].double() for n in ("g_cmp", "g_slc", "g_swa")]
                    out[b, t, hq] = gate[0] * o_cmp[g] + gate[1] * o_slc + gate[2] * o_swa
    return out, chosen


def golden(some: Case, inputs: dict[str, Any], precision: str = "fp64", **outputs) -> Expected:
    return expected(some, inputs, {**make_outputs(some, inputs, CPU), **outputs}, precision)
