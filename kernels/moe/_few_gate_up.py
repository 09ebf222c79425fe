"""Hopper's grouped GEMMs for few rows an expert: the weights take the side of 64-row instructions.

wgmma multiplies 64 rows by any multiple of 8 columns. With few rows an expert, tokens on the row
side would fill 64 or 128 rows with little; so weights go there and the tokens become the columns:
out.T = w @ x.T, with `block_t` tokens a tile. Each weight is then read once, and arithmetic costs
what the tile holds. `_hopper` explains the pipeline. Stages are given back at once: what is scarce
here are bytes under way, not wgmma. With a `burst`, two stages are filled in turn, so many rows of
weights at a time: 256 bytes of each row are then asked for at nearly the same time.

Where experts have rows for two tiles, two CTAs of a cluster are a `pair`: they take the two tiles
of one expert, and each weight tile is loaded once, into both by multicast. A CTA whose tile has no
rows lets the weights pass by.

The intermediate has a tile space of its own, `block_t` rows a block: block b of
`group_idx_for_bx`, the i-th of its expert, stands for the expert's rows from i * block_t on and
keeps them at b * block_t. Since `block_t` is at least `block_token`, no expert needs more tiles
than it has blocks.
"""

import tilelang.language as T

from ..common.dialect import Dialect, program
from ._few_parts import (
    Walk,
    bursts,
    list_blocks,
    load_rows,
    multiply,
    part_of,
    staging,
    store,
    tile_of_turn,
    variable,
)
from ._grouped import LOG2E, ceildiv
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


@program(writes=("hidden",), pass_configs=MANUAL)
def gate_up(
    D: Dialect, *, d_hidden: int, d_expert: int, dtype: str, block_token: int, block_t: int,
    narrow: int, room: int, groups: int, stages: int, passes: int, burst: int = 0,
    pair: bool = False,
):  # fmt: skip
    """hidden[r] = silu(x[r] @ gate[e].T) * (x[r] @ up[e].T); `groups` consumers of 64 columns."""
    rows, slots = T.dynamic("rows"), T.dynamic("slots")
    blocks, experts = T.dynamic("blocks"), T.dynamic("experts")
    team, block_n = Team(D.target.sms, pair), GROUP * groups
    tiles_n, steps = ceildiv(d_expert, block_n), ceildiv(d_hidden, BLOCK_K)
    assert not narrow or narrow >= part_of(block_t, passes)
    inside = d_expert % block_n == 0
    consumers = tuple(range(groups))  # a range itself would become a loop of the program
    near, pieces = bursts(burst, block_n, steps)

    @T.macro
    def produce(walk, cta, x, gate, up, offsets, compact, x_tile, w_tile, full, empty):
        count = T.alloc_var("int32", init=0)
        for turn in T.serial(walk.turns(cta)):
            e, _, row, width, tile_n = tile_of_turn(walk, cta, turn)
            col = tile_n * block_n
            start = T.if_then_else(compact != 0, offsets[e], walk.padded[e]) + row
            wide = width == block_t
            for k in T.serial(steps // len(near)):
                first = count + k * len(near)
                for i in near:
                    acquire(empty, first + i, stages)
                for weight, side in ((gate, 0), (up, block_n)):
                    for w0, w1 in pieces:
                        for i in near:
                            s = T.truncmod(first + i, stages)
                            at = (k * len(near) + i) * BLOCK_K
                            load(
                                weight[e, col + w0 : col + w1, at : at + BLOCK_K],
                                w_tile[s, side + w0 : side + w1, :], full, s, team.mask,
                            )  # fmt: skip
                for i in near:
                    s = T.truncmod(first + i, stages)
                    at = (k * len(near) + i) * BLOCK_K
                    if not pair or walk.sizes[e] > row:
                        load_rows(x, start, wide, at, x_tile, s, full, narrow)
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
        store(up_acc, None, out_tile[which], hidden, which, row, col, valid, inside)

    @T.macro
    def consume(which: int, walk, cta, hidden, x_tile, w_tile, out_tile, full, empty):
        count = T.alloc_var("int32", init=0)
        for turn in T.serial(walk.turns(cta)):
            e, b, row, width, tile_n = tile_of_turn(walk, cta, turn)
            col = tile_n * block_n + which * GROUP
            row = variable(row)
            valid = variable(T.min(walk.sizes[e] - row, width))
            if pair and valid <= 0:
                skip(full, empty, count, steps, stages)
            elif not narrow or width == block_t:
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
        with T.Kernel(D.target.sms, threads=128 + 128 * groups, cluster_dims=team.size) as cta:
            x_tile = T.alloc_shared((stages, block_t, BLOCK_K), dtype)
            w_tile = T.alloc_shared((stages, 2 * block_n, BLOCK_K), dtype)
            out_tile = staging(groups, part_of(block_t, passes), dtype)
            order = T.alloc_shared((room,), "int32", scope="shared")
            found = T.alloc_shared((1,), "int32", scope="shared")
            full = T.alloc_barrier([32] * stages)
            empty = team.barrier([4 * groups * team.size] * stages)
            D.follow()
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
                    produce(
                        walk, cta, x, gate, up, group_offsets, compact, x_tile, w_tile, full, empty
                    )
            for which in consumers:
                with T.ws(1 + which):
                    T.inc_max_nreg(CONSUMER_REGISTERS)
                    consume(which, walk, cta, hidden, x_tile, w_tile, out_tile, full, empty)
            if pair:
                T.cluster_sync()  # neither leaves while the other may still signal to it

    return moe_gate_up
