"""The parts of `_many`'s two programs: which tiles there are, loading them, and multiplying."""

import tilelang.language as T

from ._grouped import ceildiv
from ._hopper import BLOCK_K, GROUP, acquire, await_full, load, release_pair

ROWS = 2 * GROUP  # of a tile
PAIR = 2 * ROWS  # of the two CTAs of a cluster
THREADS = 384


@T.macro
def list_units(starts, sizes, extra: int):
    """starts[e] = units (pairs of row tiles) of the experts before e; the last entry: of all.

    `extra` rows follow every expert's own; a thread adds up the predecessors of its experts.
    """
    experts = starts.shape[0] - 1
    before = T.alloc_var("int32", init=0)
    for turn in T.serial(ceildiv(experts + 1, THREADS)):
        e = turn * THREADS + T.get_thread_binding()
        if e <= experts:
            before = 0
            for q in T.serial(e):
                before = before + T.truncdiv(sizes[q] + extra + PAIR - 1, PAIR)
            starts[e] = before
    T.sync_threads()


@T.macro
def tile_of_turn(team, cta, turn, starts, tiles_n: int, panel: int):
    """Expert, first row within it, and column of the tile that `cta` works on.

    Expert by expert, so that its weights come from memory once. Within an expert clusters run
    through `panel` row pairs before the next column, so that one wave's panels share rows in L2.
    """
    experts = starts.shape[0] - 1
    unit = team.number(cta, turn)
    e = T.alloc_var("int32", init=0)
    e = 0
    for bit in T.unroll(experts.bit_length()):
        ahead = e + (1 << (experts.bit_length() - 1 - bit))
        if ahead < experts and starts[T.min(ahead, experts)] * tiles_n <= unit:
            e = ahead
    own = unit - starts[e] * tiles_n
    past = T.truncdiv(own, panel * tiles_n) * panel
    within = T.truncmod(own, panel * tiles_n)
    width = T.max(T.min(starts[e + 1] - starts[e] - past, panel), 1)
    row = (past + T.truncmod(within, width)) * PAIR + team.rank(cta) * ROWS
    return e, row, T.truncdiv(within, width)


@T.macro
def produce(
    team, cta, x, offsets, padded, compact, sizes, weights, load_weights, starts, x_tile,
    w_tile, full, empty, tiles_n: int, steps: int, stages: int, panel: int,
):  # fmt: skip
    """Load the stages of all tiles of CTA `cta`, from `x` in compact order or in tile space."""
    count = T.alloc_var("int32", init=0)
    valid = T.alloc_var("int32", init=0)
    for turn in T.serial(team.turns(cta, starts[starts.shape[0] - 1] * tiles_n)):
        e, row, tile_n = tile_of_turn(team, cta, turn, starts, tiles_n, panel)
        start = T.if_then_else(compact != 0, offsets[e], padded[e]) + row
        valid = sizes[e] - row
        if valid + team.rank(cta) * ROWS > 0:
            for k in T.serial(steps):
                s = T.truncmod(count + k, stages)
                at = k * BLOCK_K
                acquire(empty, count + k, stages)
                if valid > 0:
                    load(x[start : start + ROWS, at : at + BLOCK_K], x_tile[s, :, :], full, s)
                load_weights(weights, e, tile_n, at, s, w_tile, full)
                T.mbarrier_arrive(full[s])
            count = count + steps


@T.macro
def multiply(x, w, acc, full, empty, count, steps: int, row: int, stages: int):
    """acc = x[:, row:row+64] @ w.T over `steps` stages, the first being number `count`."""
    T.clear(acc)
    for k in T.serial(steps):
        s = T.truncmod(count + k, stages)
        await_full(full, count + k, stages)
        T.wgmma_gemm(x[s, row : row + GROUP, :], w[s, :, :], acc, transpose_B=True)
        T.wait_wgmma(0)
        release_pair(empty, count + k, stages)
