"""Grouped GEMMs over the routed rows: gate and up fused with SiLU * mul, then down.

Both walk the same *tile space*: `group_idx_for_bx` names the expert of every `block_token` rows,
and expert e's rows start at `group_padded_offsets[e]`. That is the contest's padded layout, and
`layer` builds the same metadata for itself with a finer `block_token`, so one pair of programs
serves both contracts and both row layouts. The rows between the two GEMMs lie in tile space too:
a tile is then written whole (one TMA store on Hopper), and what stands in its unused rows is never
looked at, because row r of a GEMM's result depends on row r of its left operand alone.
"""

import tilelang.language as T

from ..common.dialect import Dialect, program

LOG2E = 1.4426950408889634

WARPS = {
    "rows": T.GemmWarpPolicy.FullRow,
    "square": T.GemmWarpPolicy.Square,
    "columns": T.GemmWarpPolicy.FullCol,
}


def ceildiv(a: int, b: int) -> int:
    return -(-a // b)


@T.macro
def _tile(pid, tiles_m, tiles_n: int, panel: int):
    """Row and column tile number of CTA `pid`.

    CTAs run through `panel` row tiles before the next column tile. Row tiles of one expert are
    neighbours, so a panel's CTAs share its weights in L2, and the panels of one wave share rows.
    `truncdiv` because nothing is negative here: floor division costs a sign test each time.
    """
    first = T.truncdiv(pid, panel * tiles_n) * panel
    within = T.truncmod(pid, panel * tiles_n)
    width = T.min(tiles_m - first, panel)
    return first + T.truncmod(within, width), T.truncdiv(within, width)


@program(writes=("hidden",))
def gate_up(
    D: Dialect,
    *,
    d_hidden: int,
    d_expert: int,
    dtype: str,
    block_token: int,
    gather: bool,
    block_m: int,
    block_n: int,
    block_k: int,
    threads: int,
    stages: int,
    panel: int,
    warps: str,
):
    """hidden[r] = silu(x[r] @ gate[e].T) * (x[r] @ up[e].T) for the rows r of every expert e.

    One pass over x feeds both accumulators, so x is read once and neither product leaves the
    registers. `gather` takes row r of x from `source_row[r]` (the token of that row) instead of
    from x's own layout, which `compact` tells: rows at `group_offsets`, or in tile space.
    """
    dtype = D.dtype(dtype)
    rows, slots = T.dynamic("rows"), T.dynamic("slots")
    blocks, experts = T.dynamic("blocks"), T.dynamic("experts")
    sources = T.dynamic("sources")
    tiles_m = blocks * (block_token // block_m)
    tiles_n, steps = ceildiv(d_expert, block_n), ceildiv(d_hidden, block_k)
    policy = WARPS[warps]

    @T.prim_func
    def moe_gate_up(
        x: T.Tensor((rows, d_hidden), dtype),
        gate: T.Tensor((experts, d_expert, d_hidden), dtype),
        up: T.Tensor((experts, d_expert, d_hidden), dtype),
        group_sizes: T.Tensor((experts,), "int32"),
        group_offsets: T.Tensor((experts,), "int32"),
        group_padded_offsets: T.Tensor((experts,), "int32"),
        group_idx_for_bx: T.Tensor((blocks,), "int32"),
        source_row: T.Tensor((sources,), "int32"),
        hidden: T.Tensor((slots, d_expert), dtype),
        compact: T.int32,
    ):
        with D.kernel(tiles_m * tiles_n, threads=threads) as pid:
            x_tile = D.alloc_shared((block_m, block_k), dtype)
            gate_tile = D.alloc_shared((block_n, block_k), dtype)
            up_tile = D.alloc_shared((block_n, block_k), dtype)
            out_tile = D.alloc_shared((block_m, block_n), dtype)
            gate_acc = D.alloc_fragment((block_m, block_n), "float32")
            up_acc = D.alloc_fragment((block_m, block_n), "float32")
            source = D.alloc_shared((block_m,), "int32", static=True)

            tile_m, tile_n = _tile(pid, tiles_m, tiles_n, panel)
            slot = tile_m * block_m  # first row in tile space
            col = tile_n * block_n
            e = group_idx_for_bx[T.truncdiv(slot, block_token)]
            row = slot - group_padded_offsets[e]  # first row within the expert
            valid = T.min(group_sizes[e] - row, block_m)
            start = T.if_then_else(compact != 0, group_offsets[e] + row, slot)

            T.clear(gate_acc)
            T.clear(up_acc)
            if gather:
                for i in D.parallel(block_m):
                    source[i] = T.if_then_else(i < valid, source_row[slot + i], 0)
            if valid > 0:
                for k in D.pipelined(steps, num_stages=stages):
                    at = k * block_k
                    if gather:
                        for i, j in D.parallel(block_m, block_k):
                            x_tile[i, j] = x[source[i], at + j]
                    else:
                        T.copy(x[start : start + block_m, at : at + block_k], x_tile)
                    T.copy(gate[e, col : col + block_n, at : at + block_k], gate_tile)
                    T.copy(up[e, col : col + block_n, at : at + block_k], up_tile)
                    D.gemm(x_tile, gate_tile, gate_acc, transpose_B=True, policy=policy)
                    D.gemm(x_tile, up_tile, up_acc, transpose_B=True, policy=policy)

            if valid > 0:
                for i, j in D.parallel(block_m, block_n):
                    up_acc[i, j] *= gate_acc[i, j] / (1 + T.exp2(-LOG2E * gate_acc[i, j]))
                T.copy(up_acc, out_tile)
                T.copy(out_tile, hidden[slot : slot + block_m, col : col + block_n])

    return moe_gate_up


@program(writes=("out",))
def down(
    D: Dialect,
    *,
    d_hidden: int,
    d_expert: int,
    dtype: str,
    block_token: int,
    weighted: bool,
    block_m: int,
    block_n: int,
    block_k: int,
    threads: int,
    stages: int,
    panel: int,
    warps: str,
):
    """out[r] = hidden[r] @ down[e].T for the rows r of every expert e.

    `hidden` lies in tile space, `out` in the layout that `compact` tells. With `weighted` (the
    `routed` contract) row r is multiplied by `route_w[r]`, which is compact in either layout, and
    rows of `out` in tile space that belong to no expert become 0. Otherwise `route_w` is left
    alone and those rows hold anything, or nothing where a tile has no row at all.
    """
    dtype = D.dtype(dtype)
    rows, slots, pairs = T.dynamic("rows"), T.dynamic("slots"), T.dynamic("pairs")
    blocks, experts = T.dynamic("blocks"), T.dynamic("experts")
    tiles_m = blocks * (block_token // block_m)
    tiles_n, steps = ceildiv(d_hidden, block_n), ceildiv(d_expert, block_k)
    policy = WARPS[warps]

    @T.prim_func
    def moe_down(
        hidden: T.Tensor((slots, d_expert), dtype),
        weight: T.Tensor((experts, d_hidden, d_expert), dtype),
        route_w: T.Tensor((pairs,), dtype),
        group_sizes: T.Tensor((experts,), "int32"),
        group_offsets: T.Tensor((experts,), "int32"),
        group_padded_offsets: T.Tensor((experts,), "int32"),
        group_idx_for_bx: T.Tensor((blocks,), "int32"),
        out: T.Tensor((rows, d_hidden), dtype),
        compact: T.int32,
    ):
        with D.kernel(tiles_m * tiles_n, threads=threads) as pid:
            hidden_tile = D.alloc_shared((block_m, block_k), dtype)
            weight_tile = D.alloc_shared((block_n, block_k), dtype)
            out_tile = D.alloc_shared((block_m, block_n), dtype)
            acc = D.alloc_fragment((block_m, block_n), "float32")
            scale = D.alloc_fragment((block_m,), "float32")

            tile_m, tile_n = _tile(pid, tiles_m, tiles_n, panel)
            slot = tile_m * block_m
            col = tile_n * block_n
            e = group_idx_for_bx[T.truncdiv(slot, block_token)]
            row = slot - group_padded_offsets[e]
            valid = T.min(group_sizes[e] - row, block_m)
            pair = group_offsets[e] + row
            start = T.if_then_else(compact != 0, pair, slot)

            T.clear(acc)
            if valid > 0:
                for k in D.pipelined(steps, num_stages=stages):
                    at = k * block_k
                    T.copy(hidden[slot : slot + block_m, at : at + block_k], hidden_tile)
                    T.copy(weight[e, col : col + block_n, at : at + block_k], weight_tile)
                    D.gemm(hidden_tile, weight_tile, acc, transpose_B=True, policy=policy)

            if weighted:
                for i in D.parallel(block_m):
                    scale[i] = T.if_then_else(i < valid, T.cast(route_w[pair + i], "float32"), 0)
                for i, j in D.parallel(block_m, block_n):
                    # Not by a product with 0: unused rows of `hidden` may hold NaN.
                    acc[i, j] = T.if_then_else(i < valid, acc[i, j] * scale[i], 0)
            T.copy(acc, out_tile)
            # Rows of `out` that this tile owns: in tile space the whole tile.
            whole = compact == 0 if weighted else T.And(compact == 0, valid > 0)
            owned = T.if_then_else(whole, block_m, valid)
            if owned == block_m:
                T.copy(out_tile, out[start : start + block_m, col : col + block_n])
            else:
                for i, j in D.parallel(block_m, block_n):
                    if i < owned and start + i < rows and col + j < d_hidden:
                        out[start + i, col + j] = out_tile[i, j]

    return moe_down
