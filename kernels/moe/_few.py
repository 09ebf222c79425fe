"""Hopper's grouped GEMMs for few rows an expert: the weights take the side of 64-row instructions.

wgmma multiplies 64 rows by any multiple of 8 columns. With few rows an expert, tokens on the row
side would fill 64 or 128 rows with little; so weights go there and the tokens become the columns:
out.T = w @ x.T, with `block_t` tokens a tile. Each weight is then read once, and arithmetic costs
what the tile holds. `_hopper` explains the pipeline. Stages are given back at once: what is scarce
here are bytes under way, not wgmma.

The intermediate has a tile space of its own, `block_t` rows a block: block b of
`group_idx_for_bx`, the i-th of its expert, stands for the expert's rows from i * block_t on and
keeps them at b * block_t. Since `block_t` is at least `block_token`, no expert needs more tiles
than it has blocks.
"""

import tilelang.language as T

from ..common.dialect import Dialect, program
from ._few_parts import Share, list_blocks, load_rows, multiply, order_of_k, staging, store, tile_of
from ._grouped import LOG2E, ceildiv
from ._hopper import (
    BLOCK_K,
    CONSUMER_REGISTERS,
    GROUP,
    MANUAL,
    PRODUCER_REGISTERS,
    acquire,
    load,
    load_wide,
    turns,
)


@program(writes=("hidden",), pass_configs=MANUAL)
def gate_up(
    D: Dialect,
    *,
    d_hidden: int,
    d_expert: int,
    dtype: str,
    block_token: int,
    block_t: int,
    narrow: int,
    room: int,
    groups: int,
    stages: int,
    passes: int,
    pair: bool = False,
    turned: bool = False,
    matrices: bool = False,
    burst: int = 0,
    promote: bool = False,
):
    """hidden[r] = silu(x[r] @ gate[e].T) * (x[r] @ up[e].T); `groups` consumers of 64 columns."""
    rows, slots = T.dynamic("rows"), T.dynamic("slots")
    blocks, experts = T.dynamic("blocks"), T.dynamic("experts")
    sms, block_n = D.target.sms, GROUP * groups
    tiles_n, steps = ceildiv(d_expert, block_n), ceildiv(d_hidden, BLOCK_K)
    share = Share(sms, tiles_n, pair)
    part = block_t // passes
    assert narrow % part == 0

    @T.macro
    def produce(
        cta, x, gate, up, sizes, offsets, padded, owner, compact, order, found, x_tile, w_tile,
        full, empty,
    ):  # fmt: skip
        count = T.alloc_var("int32", init=0)
        for turn in T.serial(share.turns(cta, found[0])):
            b = order[share.block(cta, turn)]
            col = share.column(cta, turn) * block_n
            e = owner[b]
            row, width = tile_of(b, e, sizes, padded, block_token, block_t, narrow)
            start = T.if_then_else(compact != 0, offsets[e], padded[e]) + row
            wide = width == block_t
            if burst:
                for k in T.serial(steps // 2):
                    n = count + 2 * k
                    s, z = T.truncmod(n, stages), T.truncmod(n + 1, stages)
                    at, after = 2 * k * BLOCK_K, (2 * k + 1) * BLOCK_K
                    acquire(empty, n, stages)
                    acquire(empty, n + 1, stages)
                    for weight, first in ((gate, 0), (up, block_n)):
                        for p in tuple(range(0, block_n, burst)):
                            q, c = first + p, col + p
                            load(
                                weight[e, c : c + burst, at : at + BLOCK_K],
                                w_tile[s, q : q + burst, :], full, s,
                            )  # fmt: skip
                            load(
                                weight[e, c : c + burst, after : after + BLOCK_K],
                                w_tile[z, q : q + burst, :], full, z,
                            )  # fmt: skip
                    load_rows(x, start, wide, at, x_tile, s, full, narrow)
                    T.mbarrier_arrive(full[s])
                    load_rows(x, start, wide, after, x_tile, z, full, narrow)
                    T.mbarrier_arrive(full[z])
            else:
                for k in T.serial(steps):
                    s = T.truncmod(count + k, stages)
                    at = order_of_k(k, cta, steps, turned) * BLOCK_K
                    acquire(empty, count + k, stages)
                    for weight, first in ((gate, 0), (up, block_n)):
                        if promote:
                            load_wide(weight, e, col, at, block_n, w_tile, s, first, full)
                        else:
                            load(
                                weight[e, col : col + block_n, at : at + BLOCK_K],
                                w_tile[s, first : first + block_n, :], full, s,
                            )  # fmt: skip
                    load_rows(x, start, wide, at, x_tile, s, full, narrow, share.mask)
                    T.mbarrier_arrive(full[s])
            count = count + steps

    @T.macro
    def compute(
        n: int, which: int, hidden, row, col, valid, count, x_tile, w_tile, out_tile, full, empty
    ):
        gate_acc = T.alloc_fragment((GROUP, n), "float32")
        up_acc = T.alloc_fragment((GROUP, n), "float32")
        multiply(
            w_tile, x_tile, gate_acc, up_acc, full, empty, count, steps,
            which * GROUP, block_n + which * GROUP, stages, pair,
        )  # fmt: skip
        for i, j in T.Parallel(GROUP, n):
            up_acc[i, j] *= gate_acc[i, j] / (1 + T.exp2(-LOG2E * gate_acc[i, j]))
        store(up_acc, None, out_tile, hidden, which, row, col, valid, True)

    @T.macro
    def consume(
        which: int, cta, sizes, padded, owner, hidden, order, found, x_tile, w_tile, out_tile,
        full, empty,
    ):  # fmt: skip
        count = T.alloc_var("int32", init=0)
        for turn in T.serial(share.turns(cta, found[0])):
            b = order[share.block(cta, turn)]
            col = share.column(cta, turn) * block_n + which * GROUP
            e = owner[b]
            row, width = tile_of(b, e, sizes, padded, block_token, block_t, narrow)
            valid = T.min(sizes[e] - row, width)
            if not narrow or width == block_t:
                compute(
                    block_t, which, hidden, b * block_t, col, valid, count, x_tile, w_tile,
                    out_tile, full, empty,
                )  # fmt: skip
            else:
                compute(
                    narrow, which, hidden, b * block_t, col, valid, count, x_tile, w_tile,
                    out_tile, full, empty,
                )  # fmt: skip
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
        with T.Kernel(sms, threads=128 + 128 * groups, cluster_dims=share.span) as cta:
            x_tile = T.alloc_shared((stages, block_t, BLOCK_K), dtype)
            w_tile = T.alloc_shared((stages, 2 * block_n, BLOCK_K), dtype)
            out_tile = staging(groups, part, dtype, matrices)
            order = T.alloc_shared((room,), "int32", scope="shared")
            found = T.alloc_shared((1,), "int32", scope="shared")
            full = T.alloc_barrier([32] * stages)
            empty = share.empty(4 * groups, stages)
            T.pdl_sync()
            T.pdl_trigger()
            list_blocks(
                order, found, group_idx_for_bx, group_sizes, group_padded_offsets, blocks,
                block_token, block_t, narrow, 128 + 128 * groups,
            )  # fmt: skip
            if pair:
                T.cluster_sync()
            with T.ws(0):
                T.dec_max_nreg(PRODUCER_REGISTERS)
                if T.get_thread_binding() < 32:
                    produce(
                        cta, x, gate, up, group_sizes, group_offsets, group_padded_offsets,
                        group_idx_for_bx, compact, order, found, x_tile, w_tile, full, empty,
                    )  # fmt: skip
            with T.ws(1):
                T.inc_max_nreg(CONSUMER_REGISTERS)
                consume(
                    0, cta, group_sizes, group_padded_offsets, group_idx_for_bx, hidden, order,
                    found, x_tile, w_tile, out_tile, full, empty,
                )  # fmt: skip
            if groups > 1:
                with T.ws(2):
                    T.inc_max_nreg(CONSUMER_REGISTERS)
                    consume(
                        1, cta, group_sizes, group_padded_offsets, group_idx_for_bx, hidden, order,
                        found, x_tile, w_tile, out_tile, full, empty,
                    )  # fmt: skip
            if pair:
                T.cluster_sync()  # neither leaves while the other may still signal to it

    return moe_gate_up


@program(writes=("out",), pass_configs=MANUAL)
def down(
    D: Dialect,
    *,
    d_hidden: int,
    d_expert: int,
    dtype: str,
    block_token: int,
    weighted: bool,
    block_t: int,
    narrow: int,
    room: int,
    groups: int,
    stages: int,
    passes: int,
    pair: bool = False,
    turned: bool = False,
    matrices: bool = False,
    burst: int = 0,
    promote: bool = False,
):
    """out[r] = hidden[r] @ down[e].T; `groups` consumers of 128 columns; see `_grouped.down`."""
    rows, slots, pairs = T.dynamic("rows"), T.dynamic("slots"), T.dynamic("pairs")
    blocks, experts = T.dynamic("blocks"), T.dynamic("experts")
    sms, block_n = D.target.sms, 2 * GROUP * groups
    tiles_n, steps = ceildiv(d_hidden, block_n), ceildiv(d_expert, BLOCK_K)
    share = Share(sms, tiles_n, pair)
    part = block_t // passes
    assert narrow % part == 0

    ahead = min(stages, steps)
    if burst:
        ahead -= ahead % 2

    @T.macro
    def load_weight(weight, e, col, k, s, w_tile, full):
        if promote:
            load_wide(weight, e, col, k * BLOCK_K, block_n, w_tile, s, 0, full)
        else:
            load(
                weight[e, col : col + block_n, k * BLOCK_K : k * BLOCK_K + BLOCK_K],
                w_tile[s, :, :], full, s,
            )  # fmt: skip

    @T.macro
    def produce(
        cta, hidden, weight, sizes, padded, owner, order, found, x_tile, w_tile, full, empty
    ):
        # Weights do not depend on `gate_up`, so the first ones are loaded while it still runs.
        if share.turns(cta, found[0]) > 0:
            for k in T.serial(ahead):
                load_weight(
                    weight, owner[order[share.block(cta, 0)]], share.column(cta, 0) * block_n,
                    order_of_k(k, cta, steps, turned), k, w_tile, full,
                )  # fmt: skip
        T.pdl_sync()
        count = T.alloc_var("int32", init=0)
        for turn in T.serial(share.turns(cta, found[0])):
            b = order[share.block(cta, turn)]
            e = owner[b]
            wide = tile_of(b, e, sizes, padded, block_token, block_t, narrow)[1] == block_t
            col = share.column(cta, turn) * block_n
            if burst:
                for k in T.serial(steps // 2):
                    n = count + 2 * k
                    s, z = T.truncmod(n, stages), T.truncmod(n + 1, stages)
                    at, after = 2 * k * BLOCK_K, (2 * k + 1) * BLOCK_K
                    acquire(empty, n, stages)
                    acquire(empty, n + 1, stages)
                    if n >= ahead:
                        for p in tuple(range(0, block_n, burst)):
                            load(
                                weight[e, col + p : col + p + burst, at : at + BLOCK_K],
                                w_tile[s, p : p + burst, :], full, s,
                            )  # fmt: skip
                            load(
                                weight[e, col + p : col + p + burst, after : after + BLOCK_K],
                                w_tile[z, p : p + burst, :], full, z,
                            )  # fmt: skip
                    load_rows(hidden, b * block_t, wide, at, x_tile, s, full, narrow)
                    T.mbarrier_arrive(full[s])
                    load_rows(hidden, b * block_t, wide, after, x_tile, z, full, narrow)
                    T.mbarrier_arrive(full[z])
            else:
                for k in T.serial(steps):
                    s = T.truncmod(count + k, stages)
                    at = order_of_k(k, cta, steps, turned)
                    acquire(empty, count + k, stages)
                    if count + k >= ahead:
                        load_weight(weight, e, col, at, s, w_tile, full)
                    load_rows(
                        hidden, b * block_t, wide, at * BLOCK_K, x_tile, s, full, narrow, share.mask
                    )
                    T.mbarrier_arrive(full[s])
            count = count + steps

    @T.macro
    def clear_padding(cta, sizes, padded, owner, blocks, rows, out):
        """Rows of the padded layout that belong to no expert become 0, by the idle warps."""
        lane = T.get_thread_binding() - 32
        for turn in T.serial(turns(cta, sms, blocks * 4)):
            slot = T.truncdiv(cta + turn * sms, 4) * block_token
            e = owner[T.truncdiv(slot, block_token)]
            first = slot + T.truncmod(cta + turn * sms, 4) * (block_token // 4)
            used = T.max(padded[e] + sizes[e], first)
            last = T.min(first + block_token // 4, rows)
            for n in T.serial(T.max(last - used, 0)):
                for c in T.serial(ceildiv(d_hidden // 8, 96)):
                    if lane + c * 96 < d_hidden // 8:
                        for v in T.vectorized(8):
                            out[used + n, (lane + c * 96) * 8 + v] = 0

    @T.macro
    def compute(
        n: int, which: int, out, start, col, valid, scale, count, x_tile, w_tile, out_tile,
        full, empty,
    ):  # fmt: skip
        low_acc = T.alloc_fragment((GROUP, n), "float32")
        high_acc = T.alloc_fragment((GROUP, n), "float32")
        multiply(
            w_tile, x_tile, low_acc, high_acc, full, empty, count, steps,
            which * 2 * GROUP, which * 2 * GROUP + GROUP, stages, pair,
        )  # fmt: skip
        store(low_acc, scale, out_tile, out, which, start, col, valid, not weighted)
        store(high_acc, scale, out_tile, out, which, start, col + GROUP, valid, not weighted)

    @T.macro
    def consume(
        which: int, cta, route_w, sizes, offsets, padded, owner, compact, out, order, found,
        scale, x_tile, w_tile, out_tile, full, empty,
    ):  # fmt: skip
        count = T.alloc_var("int32", init=0)
        for turn in T.serial(share.turns(cta, found[0])):
            b = order[share.block(cta, turn)]
            col = share.column(cta, turn) * block_n + which * 2 * GROUP
            e = owner[b]
            row, width = tile_of(b, e, sizes, padded, block_token, block_t, narrow)
            valid = T.min(sizes[e] - row, width)
            pair = offsets[e] + row
            start = T.if_then_else(compact != 0, pair, padded[e] + row)
            if weighted:  # read after _store's first barrier, last before its last one
                for piece in T.serial(ceildiv(block_t, 128)):
                    j = piece * 128 + T.get_thread_binding() - 128 - which * 128
                    if j < block_t:
                        scale[which, j] = T.if_then_else(
                            j < valid, T.cast(route_w[pair + j], "float32"), 0
                        )
            if not narrow or width == block_t:
                compute(
                    block_t, which, out, start, col, valid, scale, count, x_tile, w_tile,
                    out_tile, full, empty,
                )  # fmt: skip
            else:
                compute(
                    narrow, which, out, start, col, valid, scale, count, x_tile, w_tile,
                    out_tile, full, empty,
                )  # fmt: skip
            count = count + steps
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
        with T.Kernel(sms, threads=128 + 128 * groups, cluster_dims=share.span) as cta:
            x_tile = T.alloc_shared((stages, block_t, BLOCK_K), dtype)
            w_tile = T.alloc_shared((stages, block_n, BLOCK_K), dtype)
            out_tile = staging(groups, part, dtype, matrices)
            order = T.alloc_shared((room,), "int32", scope="shared")
            found = T.alloc_shared((1,), "int32", scope="shared")
            scale = None
            if weighted:
                scale = T.alloc_shared((groups, block_t), "float32", scope="shared")
            full = T.alloc_barrier([32] * stages)
            empty = share.empty(4 * groups, stages)
            T.pdl_trigger()
            list_blocks(
                order, found, group_idx_for_bx, group_sizes, group_padded_offsets, blocks,
                block_token, block_t, narrow, 128 + 128 * groups,
            )  # fmt: skip
            if pair:
                T.cluster_sync()
            with T.ws(0):
                T.dec_max_nreg(PRODUCER_REGISTERS)
                if T.get_thread_binding() < 32:
                    produce(
                        cta, hidden, weight, group_sizes, group_padded_offsets, group_idx_for_bx,
                        order, found, x_tile, w_tile, full, empty,
                    )  # fmt: skip
                elif weighted and compact == 0:
                    clear_padding(
                        cta, group_sizes, group_padded_offsets, group_idx_for_bx, blocks, rows, out
                    )
            with T.ws(1):
                T.inc_max_nreg(CONSUMER_REGISTERS)
                consume(
                    0, cta, route_w, group_sizes, group_offsets, group_padded_offsets,
                    group_idx_for_bx, compact, out, order, found, scale, x_tile, w_tile,
                    out_tile, full, empty,
                )  # fmt: skip
            if groups > 1:
                with T.ws(2):
                    T.inc_max_nreg(CONSUMER_REGISTERS)
                    consume(
                        1, cta, route_w, group_sizes, group_offsets, group_padded_offsets,
                        group_idx_for_bx, compact, out, order, found, scale, x_tile, w_tile,
                        out_tile, full, empty,
                    )  # fmt: skip
            if pair:
                T.cluster_sync()

    return moe_down
