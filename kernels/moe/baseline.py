"""MoE as the contest's sample does it: 128 x 128 x 128 tiles, one stage, A in a fragment."""

import tilelang.language as T
import torch

from ..common.dialect import Dialect, program
from ..common.schedule import schedule
from . import _dispatch, _rows

BLOCK_TOKEN = 128  # rows of a tile: a block of group_idx_for_bx
LOG2E = 1.4426950408889634


@program(writes=("up_logits",))
def gate_up(
    D: Dialect, *, d_hidden: int, d_expert: int, dtype: str, block_n: int, block_k: int,
    threads: int, stages: int,
):  # fmt: skip
    """up_logits[r] = silu(x[r] @ gate[e].T) * (x[r] @ up[e].T); up_logits is compact."""
    dtype = D.dtype(dtype)
    rows, pairs = T.dynamic("rows"), T.dynamic("pairs")
    blocks, experts = T.dynamic("blocks"), T.dynamic("experts")

    @T.prim_func
    def moe_sample_gate_up(
        x: T.Tensor((rows, d_hidden), dtype),
        gate: T.Tensor((experts, d_expert, d_hidden), dtype),
        up: T.Tensor((experts, d_expert, d_hidden), dtype),
        group_sizes: T.Tensor((experts,), "int32"),
        group_offsets: T.Tensor((experts,), "int32"),
        group_padded_offsets: T.Tensor((experts,), "int32"),
        group_idx_for_bx: T.Tensor((blocks,), "int32"),
        up_logits: T.Tensor((pairs, d_expert), dtype),
        compact: T.int32,
    ):
        with D.kernel(blocks, T.ceildiv(d_expert, block_n), threads=threads) as (bx, by):
            x_tile = D.alloc_fragment((BLOCK_TOKEN, block_k), dtype)
            gate_tile = D.alloc_shared((block_n, block_k), dtype)
            up_tile = D.alloc_shared((block_n, block_k), dtype)
            gate_acc = D.alloc_fragment((BLOCK_TOKEN, block_n), "float32")
            up_acc = D.alloc_fragment((BLOCK_TOKEN, block_n), "float32")

            e = group_idx_for_bx[bx]
            row = bx * BLOCK_TOKEN - group_padded_offsets[e]  # first row within the expert
            valid = T.min(group_sizes[e] - row, BLOCK_TOKEN)
            pair = group_offsets[e] + row  # the same row in compact order
            start = T.if_then_else(compact != 0, pair, bx * BLOCK_TOKEN)

            T.clear(gate_acc)
            T.clear(up_acc)
            for k in D.pipelined(T.ceildiv(d_hidden, block_k), num_stages=stages):
                at = k * block_k
                T.copy(x[start : start + BLOCK_TOKEN, at : at + block_k], x_tile)
                T.copy(gate[e, by * block_n : (by + 1) * block_n, at : at + block_k], gate_tile)
                T.copy(up[e, by * block_n : (by + 1) * block_n, at : at + block_k], up_tile)
                D.gemm(x_tile, gate_tile, gate_acc, transpose_B=True)
                D.gemm(x_tile, up_tile, up_acc, transpose_B=True)
            for i, j in D.parallel(BLOCK_TOKEN, block_n):
                up_acc[i, j] *= gate_acc[i, j] / (1 + T.exp2(-LOG2E * gate_acc[i, j]))
            for i, j in D.parallel(BLOCK_TOKEN, block_n):
                if i < valid and by * block_n + j < d_expert:
                    up_logits[pair + i, by * block_n + j] = up_acc[i, j]

    return moe_sample_gate_up


@program(writes=("out",))
def down(
    D: Dialect, *, d_hidden: int, d_expert: int, dtype: str, weighted: bool, block_n: int,
    block_k: int, threads: int, stages: int,
):  # fmt: skip
    """out[r] = route_w[r] * (up_logits[r] @ down[e].T); zeros in the padding of a padded `out`.

    Without `weighted`, `route_w` is left alone.
    """
    dtype = D.dtype(dtype)
    rows, pairs, weights = T.dynamic("rows"), T.dynamic("pairs"), T.dynamic("weights")
    blocks, experts = T.dynamic("blocks"), T.dynamic("experts")

    @T.prim_func
    def moe_sample_down(
        up_logits: T.Tensor((pairs, d_expert), dtype),
        weight: T.Tensor((experts, d_hidden, d_expert), dtype),
        route_w: T.Tensor((weights,), dtype),
        group_sizes: T.Tensor((experts,), "int32"),
        group_offsets: T.Tensor((experts,), "int32"),
        group_padded_offsets: T.Tensor((experts,), "int32"),
        group_idx_for_bx: T.Tensor((blocks,), "int32"),
        out: T.Tensor((rows, d_hidden), dtype),
        compact: T.int32,
    ):
        with D.kernel(blocks, T.ceildiv(d_hidden, block_n), threads=threads) as (bx, by):
            up_tile = D.alloc_fragment((BLOCK_TOKEN, block_k), dtype)
            weight_tile = D.alloc_shared((block_n, block_k), dtype)
            acc = D.alloc_fragment((BLOCK_TOKEN, block_n), "float32")

            e = group_idx_for_bx[bx]
            row = bx * BLOCK_TOKEN - group_padded_offsets[e]
            valid = T.min(group_sizes[e] - row, BLOCK_TOKEN)
            pair = group_offsets[e] + row
            start = T.if_then_else(compact != 0, pair, bx * BLOCK_TOKEN)

            T.clear(acc)
            for k in D.pipelined(T.ceildiv(d_expert, block_k), num_stages=stages):
                at = k * block_k
                T.copy(up_logits[pair : pair + BLOCK_TOKEN, at : at + block_k], up_tile)
                T.copy(weight[e, by * block_n : (by + 1) * block_n, at : at + block_k], weight_tile)
                D.gemm(up_tile, weight_tile, acc, transpose_B=True)
            for i, j in D.parallel(BLOCK_TOKEN, block_n):
                if by * block_n + j < d_hidden:
                    if i < valid:
                        if weighted:
                            acc[i, j] *= T.cast(route_w[pair + i], "float32")
                        out[start + i, by * block_n + j] = acc[i, j]
                    elif compact == 0 and start + i < rows:
                        out[start + i, by * block_n + j] = 0

    return moe_sample_down


def routed(
    tokens,  # [R, H]
    gate_w,  # [E, I, H]
    up_w,  # [E, I, H]
    down_w,  # [E, H, I]
    route_w,  # [group_sum]
    group_sizes,  # [E]
    group_offsets,  # [E]
    group_padded_offsets,  # [E]
    group_idx_for_bx,  # [blocks of 128 rows]
    out,  # [R, H]
):
    """Experts over rows already sorted by expert, compact or padded; two launches."""
    if tokens.shape[0] == 0:
        return
    groups = (group_sizes, group_offsets, group_padded_offsets, group_idx_for_bx)
    n_pairs = route_w.shape[0]
    compact = tokens.shape[0] == n_pairs
    _experts(tokens, gate_w, up_w, down_w, route_w, n_pairs, groups, out, compact, weighted=True)


def layer(
    hidden,  # [T, H]
    router_w,  # [E, H]
    gate_w,  # [E, I, H]
    up_w,  # [E, I, H]
    down_w,  # [E, H, I]
    out,  # [T, H]
    *,
    top_k,
):
    """Router, top-k, sort, copy to expert order, the two GEMMs of `routed`, weighted sum."""
    if hidden.shape[0] == 0:
        return
    routing = _dispatch.plan_route(hidden, router_w, top_k, BLOCK_TOKEN, every=False)(
        hidden, router_w
    )
    rows = _dispatch.permuted(_dispatch.plan_rows(_rows.permute, hidden, top_k), hidden, routing)
    results = torch.empty_like(rows)
    n_pairs = hidden.shape[0] * top_k
    _experts(
        rows, gate_w, up_w, down_w, hidden.view(-1), n_pairs, routing.groups, results,
        compact=False, weighted=False,
    )  # fmt: skip
    combine = _dispatch.plan_rows(_rows.combine, hidden, top_k)
    combine(results, routing.pair_row, routing.weights, out)


def _experts(
    x: torch.Tensor,  # [rows, H]
    gate_w: torch.Tensor,  # [E, I, H]
    up_w: torch.Tensor,  # [E, I, H]
    down_w: torch.Tensor,  # [E, H, I]
    route_w: torch.Tensor,  # [pairs]; read only if weighted
    n_pairs: int,
    groups: tuple[torch.Tensor, ...],
    out: torch.Tensor,  # [rows, H]
    compact: bool,
    weighted: bool,
) -> None:
    n_experts, d_expert, d_hidden = gate_w.shape
    static = {"d_hidden": d_hidden, "d_expert": d_expert, "dtype": _dispatch.dtype_name(x)}
    shape = {"d_hidden": d_hidden, "d_expert": d_expert, "n_experts": n_experts}
    # One row where there is no pair at all (nothing but padding): no tensor map is empty.
    up_logits = torch.empty((max(n_pairs, 1), d_expert), dtype=x.dtype, device=x.device)
    first = gate_up.get(**static, **schedule("moe/baseline/gate_up", **shape))
    first(x, gate_w, up_w, *groups, up_logits, int(compact))
    second = down.get(weighted=weighted, **static, **schedule("moe/baseline/down", **shape))
    second(up_logits, down_w, route_w, *groups, out, int(compact))
