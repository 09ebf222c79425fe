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

import tilelang.language as T

from ..common.dialect import Dialect, program
from ._grouped import LOG2E, ceildiv
from ._hopper import (
    BLOCK_K,
    CONSUMER_REGISTERS,
    GROUP,
    MANUAL,
    PRODUCER_REGISTERS,
    acquire,
    await_full,
    release,
    turns,
)

ROWS = 2 * GROUP  # of a tile
WIDE = 256  # columns of an accumulator
PIECE = 64  # columns stored at once


@T.macro
def _tiles(sizes, padded, experts, tiles_n: int, extra: int):
    """How many tiles there are up to the last expert's last row; `extra` makes one more row."""
    end = padded[experts - 1] + sizes[experts - 1] + extra
    return T.truncdiv(end + ROWS - 1, ROWS) * tiles_n


@T.macro
def _tile(number, owner, sizes, padded, experts, tiles_n: int, panel: int, extra: int):
    """Expert, row and column of tile `number`.

    Expert by expert, so that its weights come from memory once. Within an expert CTAs run through
    `panel` row tiles before the next column, so that the panels of one wave share rows in L2.
    """
    e = owner[T.truncdiv(number, tiles_n)]
    first = T.truncdiv(padded[e], ROWS)
    used = T.truncdiv(padded[e] + sizes[e] + extra + ROWS - 1, ROWS)
    end = T.if_then_else(
        e == experts - 1, used, T.truncdiv(padded[T.min(e + 1, experts - 1)], ROWS)
    )
    past = T.truncdiv(number - first * tiles_n, panel * tiles_n) * panel
    within = T.truncmod(number - first * tiles_n, panel * tiles_n)
    width = T.max(T.min(end - first - past, panel), 1)
    return e, (first + past + T.truncmod(within, width)) * ROWS, T.truncdiv(within, width)


@T.macro
def _multiply(x, w, acc, full, empty, count, steps: int, row: int, stages: int):
    """acc = x[:, row:row+64] @ w.T over `steps` stages, the first being number `count`."""
    T.clear(acc)
    for k in T.serial(steps):
        s = T.truncmod(count + k, stages)
        await_full(full, count + k, stages)
        T.wgmma_gemm(x[s, row : row + GROUP, :], w[s, :, :], acc, transpose_B=True)
        T.wait_wgmma(0)
        release(empty, count + k, stages)


@T.macro
def _skip(full, empty, count, steps: int, stages: int):
    """Give every stage back unread: this warpgroup's half of the tile holds no row."""
    for k in T.serial(steps):
        await_full(full, count + k, stages)
        release(empty, count + k, stages)


@program(writes=("hidden",), pass_configs=MANUAL)
def gate_up(
    D: Dialect,
    *,
    d_hidden: int,
    d_expert: int,
    dtype: str,
    stages: int,
    panel: int,
):
    """hidden[r] = silu(x[r] @ gate[e].T) * (x[r] @ up[e].T) for the rows r of every expert e."""
    rows, slots = T.dynamic("rows"), T.dynamic("slots")
    blocks, experts = T.dynamic("blocks"), T.dynamic("experts")
    sms, block_n = D.target.sms, WIDE // 2
    tiles_n, steps = ceildiv(d_expert, block_n), ceildiv(d_hidden, BLOCK_K)

    @T.macro
    def produce(
        cta, x, gate, up, sizes, offsets, padded, owner, compact, x_tile, w_tile, full, empty
    ):
        count = T.alloc_var("int32", init=0)
        tiles = _tiles(sizes, padded, experts, tiles_n, 0)
        for turn in T.serial(turns(cta, sms, tiles)):
            e, slot, tile_n = _tile(
                cta + turn * sms, owner, sizes, padded, experts, tiles_n, panel, 0
            )
            col = tile_n * block_n
            row = slot - padded[e]
            start = T.if_then_else(compact != 0, offsets[e] + row, slot)
            if sizes[e] > row:
                for k in T.serial(steps):
                    s = T.truncmod(count + k, stages)
                    at = k * BLOCK_K
                    acquire(empty, count + k, stages)
                    T.tma_copy(
                        x[start : start + ROWS, at : at + BLOCK_K],
                        x_tile[s, :, :],
                        barrier=full[s],
                        leader_scope_threads=32,
                    )
                    T.tma_copy(
                        gate[e, col : col + block_n, at : at + BLOCK_K],
                        w_tile[s, 0:block_n, :],
                        barrier=full[s],
                        leader_scope_threads=32,
                    )
                    T.tma_copy(
                        up[e, col : col + block_n, at : at + BLOCK_K],
                        w_tile[s, block_n:WIDE, :],
                        barrier=full[s],
                        leader_scope_threads=32,
                    )
                    T.mbarrier_arrive(full[s])
                count = count + steps

    @T.macro
    def consume(
        which: int, cta, sizes, padded, owner, hidden, x_tile, w_tile, out_tile, full, empty
    ):
        acc = T.alloc_fragment((GROUP, WIDE), "float32")
        up_acc = T.alloc_fragment((GROUP, block_n), "float32")
        count = T.alloc_var("int32", init=0)
        tiles = _tiles(sizes, padded, experts, tiles_n, 0)
        for turn in T.serial(turns(cta, sms, tiles)):
            e, slot, tile_n = _tile(
                cta + turn * sms, owner, sizes, padded, experts, tiles_n, panel, 0
            )
            valid = sizes[e] - slot + padded[e]
            if valid > which * GROUP:
                _multiply(x_tile, w_tile, acc, full, empty, count, steps, which * GROUP, stages)
                for i, j in T.Parallel(GROUP, block_n):
                    up_acc[i, j] = acc[i, block_n + j]
                for i, j in T.Parallel(GROUP, block_n):
                    up_acc[i, j] *= acc[i, j] / (1 + T.exp2(-LOG2E * acc[i, j]))
                T.tma_store_wait(0)  # the previous tile has left out_tile
                T.sync_threads(1 + which, 128)
                T.copy(up_acc, out_tile[which, :, :])
                T.fence_proxy_async()
                T.sync_threads(1 + which, 128)
                first = slot + which * GROUP
                col = tile_n * block_n
                T.tma_copy(
                    out_tile[which, :, :], hidden[first : first + GROUP, col : col + block_n]
                )
                count = count + steps
            elif valid > 0:
                _skip(full, empty, count, steps, stages)
                count = count + steps
        T.tma_store_wait(0)

    @T.prim_func
    def moe_gate_up(
        x: T.Tensor((rows, d_hidden), dtype),
        gate: T.Tensor((experts, d_expert, d_hidden), dtype),
        up: T.Tensor((experts, d_expert, d_hidden), dtype),
        group_sizes: T.Tensor((experts,), "int32"),
        group_offsets: T.Tensor((experts,), "int32"),
        group_padded_offsets: T.Tensor((experts,), "int32"),
        group_idx_for_bx: T.Tensor((blocks,), "int32"),
        hidden: T.Tensor((slots, d_expert), dtype),
        compact: T.int32,
    ):
        with T.Kernel(sms, threads=384) as cta:
            x_tile = T.alloc_shared((stages, ROWS, BLOCK_K), dtype)
            w_tile = T.alloc_shared((stages, WIDE, BLOCK_K), dtype)
            out_tile = T.alloc_shared((2, GROUP, block_n), dtype)
            full = T.alloc_barrier([32] * stages)
            empty = T.alloc_barrier([8] * stages)
            T.pdl_sync()
            T.pdl_trigger()
            with T.ws(0):
                T.dec_max_nreg(PRODUCER_REGISTERS)
                if T.get_thread_binding() < 32:
                    produce(
                        cta, x, gate, up, group_sizes, group_offsets, group_padded_offsets,
                        group_idx_for_bx, compact, x_tile, w_tile, full, empty,
                    )  # fmt: skip
            with T.ws(1):
                T.inc_max_nreg(CONSUMER_REGISTERS)
                consume(
                    0, cta, group_sizes, group_padded_offsets, group_idx_for_bx, hidden,
                    x_tile, w_tile, out_tile, full, empty,
                )  # fmt: skip
            with T.ws(2):
                T.inc_max_nreg(CONSUMER_REGISTERS)
                consume(
                    1, cta, group_sizes, group_padded_offsets, group_idx_for_bx, hidden,
                    x_tile, w_tile, out_tile, full, empty,
                )  # fmt: skip

    return moe_gate_up


@program(writes=("out",), pass_configs=MANUAL)
def down(
    D: Dialect,
    *,
    d_hidden: int,
    d_expert: int,
    dtype: str,
    weighted: bool,
    stages: int,
    panel: int,
):
    """out[r] = hidden[r] @ down[e].T for the rows r of every expert e; see `_grouped.down`."""
    rows, slots, pairs = T.dynamic("rows"), T.dynamic("slots"), T.dynamic("pairs")
    blocks, experts = T.dynamic("blocks"), T.dynamic("experts")
    sms = D.target.sms
    extra = 1 if weighted else 0  # padding follows every expert: a block of it if rows fill theirs
    tiles_n, steps = ceildiv(d_hidden, WIDE), ceildiv(d_expert, BLOCK_K)

    @T.macro
    def produce(cta, hidden, weight, sizes, padded, owner, h_tile, w_tile, full, empty):
        count = T.alloc_var("int32", init=0)
        tiles = _tiles(sizes, padded, experts, tiles_n, extra)
        for turn in T.serial(turns(cta, sms, tiles)):
            e, slot, tile_n = _tile(
                cta + turn * sms, owner, sizes, padded, experts, tiles_n, panel, extra
            )
            col = tile_n * WIDE
            if sizes[e] > slot - padded[e]:
                for k in T.serial(steps):
                    s = T.truncmod(count + k, stages)
                    at = k * BLOCK_K
                    acquire(empty, count + k, stages)
                    T.tma_copy(
                        hidden[slot : slot + ROWS, at : at + BLOCK_K],
                        h_tile[s, :, :],
                        barrier=full[s],
                        leader_scope_threads=32,
                    )
                    T.tma_copy(
                        weight[e, col : col + WIDE, at : at + BLOCK_K],
                        w_tile[s, :, :],
                        barrier=full[s],
                        leader_scope_threads=32,
                    )
                    T.mbarrier_arrive(full[s])
                count = count + steps

    @T.macro
    def consume(
        which: int, cta, route_w, sizes, offsets, padded, owner, compact, out,
        h_tile, w_tile, out_tile, full, empty,
    ):  # fmt: skip
        acc = T.alloc_fragment((GROUP, WIDE), "float32")
        scale = T.alloc_fragment((GROUP,), "float32")
        count = T.alloc_var("int32", init=0)
        tiles = _tiles(sizes, padded, experts, tiles_n, extra)
        for turn in T.serial(turns(cta, sms, tiles)):
            e, first, tile_n = _tile(
                cta + turn * sms, owner, sizes, padded, experts, tiles_n, panel, extra
            )
            slot = first + which * GROUP
            col = tile_n * WIDE
            row = slot - padded[e]
            valid = T.min(sizes[e] - row, GROUP)
            pair = offsets[e] + row
            start = T.if_then_else(compact != 0, pair, slot)
            # Rows of `out` that this half of the tile owns: in tile space all of them.
            whole = compact == 0 if weighted else T.And(compact == 0, valid > 0)
            owned = T.if_then_else(whole, GROUP, valid)
            if valid > 0:
                if weighted:
                    for i in T.Parallel(GROUP):
                        scale[i] = T.if_then_else(
                            i < valid, T.cast(route_w[pair + i], "float32"), 0
                        )
                _multiply(h_tile, w_tile, acc, full, empty, count, steps, which * GROUP, stages)
            else:
                T.clear(acc)
                if valid + which * GROUP > 0:
                    _skip(full, empty, count, steps, stages)
            if valid + which * GROUP > 0:
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
        weight: T.Tensor((experts, d_hidden, d_expert), dtype),
        route_w: T.Tensor((pairs,), dtype),
        group_sizes: T.Tensor((experts,), "int32"),
        group_offsets: T.Tensor((experts,), "int32"),
        group_padded_offsets: T.Tensor((experts,), "int32"),
        group_idx_for_bx: T.Tensor((blocks,), "int32"),
        out: T.Tensor((rows, d_hidden), dtype),
        compact: T.int32,
    ):
        with T.Kernel(sms, threads=384) as cta:
            h_tile = T.alloc_shared((stages, ROWS, BLOCK_K), dtype)
            w_tile = T.alloc_shared((stages, WIDE, BLOCK_K), dtype)
            out_tile = T.alloc_shared((2, 2, GROUP, PIECE), dtype)
            full = T.alloc_barrier([32] * stages)
            empty = T.alloc_barrier([8] * stages)
            T.pdl_sync()
            T.pdl_trigger()
            with T.ws(0):
                T.dec_max_nreg(PRODUCER_REGISTERS)
                if T.get_thread_binding() < 32:
                    produce(
                        cta, hidden, weight, group_sizes, group_padded_offsets, group_idx_for_bx,
                        h_tile, w_tile, full, empty,
                    )  # fmt: skip
            with T.ws(1):
                T.inc_max_nreg(CONSUMER_REGISTERS)
                consume(
                    0, cta, route_w, group_sizes, group_offsets, group_padded_offsets,
                    group_idx_for_bx, compact, out, h_tile, w_tile, out_tile, full, empty,
                )  # fmt: skip
            with T.ws(2):
                T.inc_max_nreg(CONSUMER_REGISTERS)
                consume(
                    1, cta, route_w, group_sizes, group_offsets, group_padded_offsets,
                    group_idx_for_bx, compact, out, h_tile, w_tile, out_tile, full, empty,
                )  # fmt: skip

    return moe_down
