"""Hopper's second grouped GEMM for few rows an expert; `_few_gate_up` says how it multiplies.

The first stages of weights are loaded while `gate_up` still runs.
"""

import tilelang.language as T

from ..common.dialect import Dialect, program
from ._few_parts import (
    Walk,
    bursts,
    clear_padding,
    list_blocks,
    load_rows,
    multiply,
    part_of,
    staging,
    store,
    tile_of_turn,
    variable,
)
from ._grouped import ceildiv
from ._hopper import (
    BLOCK_K,
    CONSUMER_REGISTERS,
    GROUP,
    MANUAL,
    PRODUCER_REGISTERS,
    Team,
    acquire,
    load,
    skip,
)


@program(writes=("out",), pass_configs=MANUAL)
def down(
    D: Dialect, *, d_hidden: int, d_expert: int, dtype: str, block_token: int, weighted: bool,
    block_t: int, narrow: int, room: int, groups: int, stages: int, passes: int, burst: int = 0,
    pair: bool = False,
):  # fmt: skip
    """out[r] = hidden[r] @ down[e].T; `groups` consumers of 128 columns; see `_grouped.down`."""
    rows, slots, pairs = T.dynamic("rows"), T.dynamic("slots"), T.dynamic("pairs")
    blocks, experts = T.dynamic("blocks"), T.dynamic("experts")
    team, block_n = Team(D.target.sms, pair), 2 * GROUP * groups
    tiles_n, steps = ceildiv(d_hidden, block_n), ceildiv(d_expert, BLOCK_K)
    assert not narrow or narrow >= part_of(block_t, passes)
    near, pieces = bursts(burst, block_n, steps)
    inside = d_hidden % block_n == 0
    consumers = tuple(range(groups))  # a range itself would become a loop of the program
    ahead = min(stages, steps) // len(near) * len(near)

    @T.macro
    def load_weights(weight, e, tile_n, k, first, w_tile, full):
        col = tile_n * block_n
        for w0, w1 in pieces:
            for i in near:
                s, at = T.truncmod(first + i, stages), (k + i) * BLOCK_K
                load(
                    weight[e, col + w0 : col + w1, at : at + BLOCK_K], w_tile[s, w0:w1, :], full,
                    s, team.mask,
                )  # fmt: skip

    @T.macro
    def produce(walk, cta, hidden, weight, x_tile, w_tile, full, empty):
        # Weights do not depend on `gate_up`, so the first ones are loaded while it still runs.
        own = team.number(cta, 0)
        if own < walk.items:
            for k in T.serial(ahead // len(near)):
                e, n = walk.owner[walk.head(own)], k * len(near)
                load_weights(weight, e, walk.tile_n(own), n, n, w_tile, full)
        T.pdl_sync()
        count = T.alloc_var("int32", init=0)
        for turn in T.serial(walk.turns(cta)):
            e, b, row, width, tile_n = tile_of_turn(walk, cta, turn)
            wide = width == block_t
            for k in T.serial(steps // len(near)):
                n = k * len(near)
                for i in near:
                    acquire(empty, count + n + i, stages)
                if count + n >= ahead:
                    load_weights(weight, e, tile_n, n, count + n, w_tile, full)
                for i in near:
                    s, at = T.truncmod(count + n + i, stages), (n + i) * BLOCK_K
                    if not pair or walk.sizes[e] > row:
                        load_rows(hidden, b * block_t, wide, at, x_tile, s, full, narrow)
                    T.mbarrier_arrive(full[s])
            count = count + steps

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
        if weighted:
            T.sync_threads(1 + which, 128)  # `scale` is written; `store` waits after reading it
        store(low_acc, scale, out_tile[which], out, which, start, col, valid, inside)
        store(high_acc, scale, out_tile[which], out, which, start, col + GROUP, valid, inside)

    @T.macro
    def consume(
        which: int, walk, cta, route_w, offsets, compact, out, scale, x_tile, w_tile, out_tile,
        full, empty,
    ):  # fmt: skip
        count = T.alloc_var("int32", init=0)
        for turn in T.serial(walk.turns(cta)):
            e, _, row, width, tile_n = tile_of_turn(walk, cta, turn)
            col = tile_n * block_n + which * 2 * GROUP
            row = variable(row)
            valid = variable(T.min(walk.sizes[e] - row, width))
            first = offsets[e] + row
            start = T.if_then_else(compact != 0, first, walk.padded[e] + row)
            if weighted:
                for piece in T.serial(ceildiv(block_t, 128)):
                    j = piece * 128 + T.get_thread_binding() - 128 - which * 128
                    if j < block_t:
                        scale[which, j] = T.if_then_else(
                            j < valid, T.cast(route_w[first + j], "float32"), 0
                        )
            if pair and valid <= 0:
                skip(full, empty, count, steps, stages)
            elif not narrow or width == block_t:
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
        with T.Kernel(D.target.sms, threads=128 + 128 * groups, cluster_dims=team.size) as cta:
            x_tile = T.alloc_shared((stages, block_t, BLOCK_K), dtype)
            w_tile = T.alloc_shared((stages, block_n, BLOCK_K), dtype)
            out_tile = staging(groups, part_of(block_t, passes), dtype)
            order = T.alloc_shared((room,), "int32", scope="shared")
            found = T.alloc_shared((1,), "int32", scope="shared")
            scale = None
            if weighted:
                scale = T.alloc_shared((groups, block_t), "float32", scope="shared")
            full = T.alloc_barrier([32] * stages)
            empty = team.barrier([4 * groups * team.size] * stages)
            T.pdl_trigger()
            walk = Walk(
                team, tiles_n, block_token, block_t, narrow, group_sizes, group_padded_offsets,
                group_idx_for_bx, order, found,
            )  # fmt: skip
            list_blocks(walk, blocks, 128 + 128 * groups)
            if pair:
                T.cluster_sync()
            with T.ws(0):
                T.dec_max_nreg(PRODUCER_REGISTERS)
                if T.get_thread_binding() < 32:
                    produce(walk, cta, hidden, weight, x_tile, w_tile, full, empty)
                elif weighted and compact == 0:
                    clear_padding(walk, cta, blocks, rows, out)
            for which in consumers:
                with T.ws(1 + which):
                    T.inc_max_nreg(CONSUMER_REGISTERS)
                    consume(
                        which, walk, cta, route_w, group_offsets, compact, out, scale, x_tile,
                        w_tile, out_tile, full, empty,
                    )  # fmt: skip
            if pair:
                T.cluster_sync()  # neither leaves while the other may still signal to it

    return moe_down
