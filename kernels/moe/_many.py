"""Hopper's grouped GEMMs for many rows an expert: tiles of 128 rows and 256 columns of weights.

The arithmetic and the tile space are `_grouped`'s; `_hopper` explains the pipeline.

* One CTA per multiprocessor walks the tiles, so neither a launch nor a pipeline start stands
  between two of them.
* Each of two consumer warpgroups owns 64 rows and 256 columns, one wgmma per 16 of k, and stores
  its rows without asking the other one; so one stores while the other multiplies. A warpgroup
  without rows skips its arithmetic.
* gate and up tiles lie one above the other in shared memory, which makes them one operand of 256
  columns: column j of the accumulator is gate's, column 128 + j in the same thread is up's.
"""

from functools import partial

import tilelang.language as T

from ..common.dialect import Dialect, program
from ._grouped import LOG2E, ceildiv
from ._hopper import (
    BLOCK_K,
    BOTH,
    CONSUMER_REGISTERS,
    GROUP,
    MANUAL,
    PRODUCER_REGISTERS,
    Team,
    load,
    skip,
)
from ._many_parts import ROWS, THREADS, WIDE, Walk, list_units, multiply, produce, tile_of_turn

PIECE = 64  # columns stored at once


@program(writes=("hidden",), pass_configs=MANUAL)
def gate_up(
    D: Dialect,
    *,
    n_experts: int,
    d_hidden: int,
    d_expert: int,
    dtype: str,
    stages: int,
    panel: int,
):
    """hidden[r] = silu(x[r] @ gate[e].T) * (x[r] @ up[e].T) for the rows r of every expert e."""
    rows, slots = T.dynamic("rows"), T.dynamic("slots")
    blocks = T.dynamic("blocks")
    team, block_n = Team(D.target.sms // 2 * 2, True), WIDE // 2
    tiles_n, steps = ceildiv(d_expert, block_n), ceildiv(d_hidden, BLOCK_K)

    @T.macro
    def load_weights(walk, gate, up, e, tile_n, at, s):
        col = tile_n * block_n
        load(
            gate[e, col : col + block_n, at : at + BLOCK_K], walk.w_tile[s, 0:block_n, :],
            walk.full, s, BOTH,
        )  # fmt: skip
        load(
            up[e, col : col + block_n, at : at + BLOCK_K], walk.w_tile[s, block_n:WIDE, :],
            walk.full, s, BOTH,
        )  # fmt: skip

    @T.macro
    def consume(which: int, walk, cta, hidden, out_tile):
        acc = T.alloc_fragment((GROUP, WIDE), "float32")
        up_acc = T.alloc_fragment((GROUP, block_n), "float32")
        count = T.alloc_var("int32", init=0)
        for turn in T.serial(walk.turns(cta)):
            e, row, tile_n = tile_of_turn(walk, cta, turn)
            valid = walk.sizes[e] - row - which * GROUP
            if valid > 0:
                multiply(walk, acc, count, which * GROUP)
                for i, j in T.Parallel(GROUP, block_n):
                    up_acc[i, j] = acc[i, block_n + j]
                for i, j in T.Parallel(GROUP, block_n):
                    up_acc[i, j] *= acc[i, j] / (1 + T.exp2(-LOG2E * acc[i, j]))
                T.tma_store_wait(0)  # the previous tile has left out_tile
                T.sync_threads(1 + which, 128)
                T.copy(up_acc, out_tile[which, :, :])
                T.fence_proxy_async()
                T.sync_threads(1 + which, 128)
                first = walk.padded[e] + row + which * GROUP
                col = tile_n * block_n
                T.tma_copy(
                    out_tile[which, :, :], hidden[first : first + GROUP, col : col + block_n]
                )
                count = count + steps
            elif walk.sizes[e] > row - team.rank(cta) * ROWS:
                skip(walk.full, walk.empty, count, steps, stages)
                count = count + steps
        T.tma_store_wait(0)

    @T.prim_func
    def moe_gate_up(
        x: T.Tensor((rows, d_hidden), dtype),
        gate: T.Tensor((n_experts, d_expert, d_hidden), dtype),
        up: T.Tensor((n_experts, d_expert, d_hidden), dtype),
        group_sizes: T.Tensor((n_experts,), "int32"),
        group_offsets: T.Tensor((n_experts,), "int32"),
        group_padded_offsets: T.Tensor((n_experts,), "int32"),
        group_idx_for_bx: T.Tensor((blocks,), "int32"),
        hidden: T.Tensor((slots, d_expert), dtype),
        compact: T.int32,
    ):
        with T.Kernel(team.sms, threads=THREADS, cluster_dims=team.size) as cta:
            x_tile = T.alloc_shared((stages, ROWS, BLOCK_K), dtype)
            w_tile = T.alloc_shared((stages, WIDE, BLOCK_K), dtype)
            out_tile = T.alloc_shared((2, GROUP, block_n), dtype)
            starts = T.alloc_shared((n_experts + 1,), "int32", scope="shared")
            full = T.alloc_barrier([32] * stages)
            empty = team.barrier([16] * stages)
            walk = Walk(
                team, tiles_n, steps, stages, panel, group_sizes, group_offsets,
                group_padded_offsets, starts, x_tile, w_tile, full, empty,
            )  # fmt: skip
            D.follow()
            list_units(walk, 0)
            T.cluster_sync()
            with T.ws(0):
                T.dec_max_nreg(PRODUCER_REGISTERS)
                if T.get_thread_binding() < 32:
                    produce(walk, cta, x, compact, partial(load_weights, walk, gate, up))
            for which in (0, 1):
                with T.ws(1 + which):
                    T.inc_max_nreg(CONSUMER_REGISTERS)
                    consume(which, walk, cta, hidden, out_tile)
            T.cluster_sync()  # neither leaves while the other may still signal to it

    return moe_gate_up


@program(writes=("out",), pass_configs=MANUAL)
def down(
    D: Dialect,
    *,
    n_experts: int,
    d_hidden: int,
    d_expert: int,
    dtype: str,
    weighted: bool,
    stages: int,
    panel: int,
):
    """out[r] = hidden[r] @ down[e].T for the rows r of every expert e; see `_grouped.down`."""
    rows, slots, pairs = T.dynamic("rows"), T.dynamic("slots"), T.dynamic("pairs")
    blocks = T.dynamic("blocks")
    team = Team(D.target.sms // 2 * 2, True)
    extra = 1 if weighted else 0  # padding follows every expert: a block of it if rows fill theirs
    tiles_n, steps = ceildiv(d_hidden, WIDE), ceildiv(d_expert, BLOCK_K)

    @T.macro
    def load_weights(walk, weight, e, tile_n, at, s):
        col = tile_n * WIDE
        load(
            weight[e, col : col + WIDE, at : at + BLOCK_K], walk.w_tile[s, :, :], walk.full, s, BOTH
        )

    @T.macro
    def consume(which: int, walk, cta, route_w, compact, out, out_tile):
        acc = T.alloc_fragment((GROUP, WIDE), "float32")
        scale = T.alloc_fragment((GROUP,), "float32")
        count = T.alloc_var("int32", init=0)
        for turn in T.serial(walk.turns(cta)):
            e, tile_row, tile_n = tile_of_turn(walk, cta, turn)
            row = tile_row + which * GROUP
            col = tile_n * WIDE
            valid = T.min(walk.sizes[e] - row, GROUP)
            pair = walk.offsets[e] + row
            start = T.if_then_else(compact != 0, pair, walk.padded[e] + row)
            # Rows of `out` that this half of the tile owns: in tile space all of them.
            whole = valid > 0
            if weighted:
                whole = T.truncdiv(walk.sizes[e] + extra + ROWS - 1, ROWS) * ROWS > tile_row
            owned = T.if_then_else(T.And(compact == 0, whole), GROUP, valid)
            if valid > 0:
                if weighted:
                    for i in T.Parallel(GROUP):
                        scale[i] = T.if_then_else(
                            i < valid, T.cast(route_w[pair + i], "float32"), 0
                        )
                multiply(walk, acc, count, which * GROUP)
                count = count + steps
            else:
                T.clear(acc)
                if walk.sizes[e] > tile_row - team.rank(cta) * ROWS:
                    skip(walk.full, walk.empty, count, steps, stages)
                    count = count + steps
            if owned > 0:
                if weighted:
                    for i, j in T.Parallel(GROUP, WIDE):
                        # Not by a product with 0: unused rows of `hidden` may hold NaN.
                        acc[i, j] = T.if_then_else(i < valid, acc[i, j] * scale[i], 0)
                for c in T.unroll(WIDE // PIECE):
                    T.tma_store_wait(1)  # the piece before the last has left its half of out_tile
                    T.sync_threads(1 + which, 128)
                    T.copy(acc[:, c * PIECE : c * PIECE + PIECE], out_tile[which, c % 2, :, :])
                    T.fence_proxy_async()
                    T.sync_threads(1 + which, 128)
                    at = col + c * PIECE
                    if owned == GROUP:
                        T.tma_copy(
                            out_tile[which, c % 2, :, :],
                            out[start : start + GROUP, at : at + PIECE],
                        )
                    else:
                        for i, j in T.Parallel(GROUP, PIECE):
                            if i < owned and start + i < rows and at + j < d_hidden:
                                out[start + i, at + j] = out_tile[which, c % 2, i, j]
        T.tma_store_wait(0)

    @T.prim_func
    def moe_down(
        hidden: T.Tensor((slots, d_expert), dtype),
        weight: T.Tensor((n_experts, d_hidden, d_expert), dtype),
        route_w: T.Tensor((pairs,), dtype),
        group_sizes: T.Tensor((n_experts,), "int32"),
        group_offsets: T.Tensor((n_experts,), "int32"),
        group_padded_offsets: T.Tensor((n_experts,), "int32"),
        group_idx_for_bx: T.Tensor((blocks,), "int32"),
        out: T.Tensor((rows, d_hidden), dtype),
        compact: T.int32,
    ):
        with T.Kernel(team.sms, threads=THREADS, cluster_dims=team.size) as cta:
            x_tile = T.alloc_shared((stages, ROWS, BLOCK_K), dtype)
            w_tile = T.alloc_shared((stages, WIDE, BLOCK_K), dtype)
            out_tile = T.alloc_shared((2, 2, GROUP, PIECE), dtype)
            starts = T.alloc_shared((n_experts + 1,), "int32", scope="shared")
            full = T.alloc_barrier([32] * stages)
            empty = team.barrier([16] * stages)
            walk = Walk(
                team, tiles_n, steps, stages, panel, group_sizes, group_offsets,
                group_padded_offsets, starts, x_tile, w_tile, full, empty,
            )  # fmt: skip
            D.follow()
            list_units(walk, extra)
            T.cluster_sync()
            with T.ws(0):
                T.dec_max_nreg(PRODUCER_REGISTERS)
                if T.get_thread_binding() < 32:
                    produce(walk, cta, hidden, 0, partial(load_weights, walk, weight))
            for which in (0, 1):
                with T.ws(1 + which):
                    T.inc_max_nreg(CONSUMER_REGISTERS)
                    consume(which, walk, cta, route_w, compact, out, out_tile)
            T.cluster_sync()  # neither leaves while the other may still signal to it

    return moe_down
