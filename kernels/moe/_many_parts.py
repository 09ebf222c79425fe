"""The parts of `_many`'s two programs: which tiles there are, loading them, and multiplying."""

from typing import Any, NamedTuple

import tilelang.language as T

from ._grouped import ceildiv
from ._hopper import BLOCK_K, GROUP, Team, acquire, await_full, load, release_pair

ROWS = 2 * GROUP  # of a tile
PAIR = 2 * ROWS  # of the two CTAs of a cluster
WIDE = 256  # columns of an accumulator
THREADS = 384


class Walk(NamedTuple):
    """The tiles, which cluster takes which, and the stages that they pass through."""

    team: Team
    tiles_n: int  # columns of tiles
    steps: int  # stages that a tile takes
    stages: int
    panel: int
    sizes: Any  # [experts], group_sizes
    offsets: Any  # [experts], group_offsets
    padded: Any  # [experts], group_padded_offsets
    starts: Any  # [experts + 1]; `list_units` fills it
    x_tile: Any  # [stages, ROWS, BLOCK_K]
    w_tile: Any  # [stages, WIDE, BLOCK_K]
    full: Any  # [stages]
    empty: Any  # [stages]

    def turns(self, cta: Any) -> Any:
        """How many tiles fall to `cta`."""
        return self.team.turns(cta, self.starts[self.starts.shape[0] - 1] * self.tiles_n)


@T.macro
def list_units(walk, extra: int):
    """starts[e] = units (pairs of row tiles) of the experts before e; the last entry: of all.

    `extra` rows follow every expert's own; a thread adds up the predecessors of its experts.
    """
    experts = walk.starts.shape[0] - 1
    before = T.alloc_var("int32", init=0)
    for turn in T.serial(ceildiv(experts + 1, THREADS)):
        e = turn * THREADS + T.get_thread_binding()
        if e <= experts:
            before = 0
            for q in T.serial(e):
                before = before + T.truncdiv(walk.sizes[q] + extra + PAIR - 1, PAIR)
            walk.starts[e] = before
    T.sync_threads()


@T.macro
def tile_of_turn(walk, cta, turn):
    """Expert, first row within it, and column of the tile that `cta` works on.

    Expert by expert, so that its weights come from memory once. Within an expert clusters run
    through `panel` row pairs before the next column, so that one wave's panels share rows in L2.
    """
    tiles_n, panel = walk.tiles_n, walk.panel
    experts = walk.starts.shape[0] - 1
    unit = walk.team.number(cta, turn)
    e = T.alloc_var("int32", init=0)
    e = 0
    for bit in T.unroll(experts.bit_length()):
        ahead = e + (1 << (experts.bit_length() - 1 - bit))
        if ahead < experts and walk.starts[T.min(ahead, experts)] * tiles_n <= unit:
            e = ahead
    own = unit - walk.starts[e] * tiles_n
    past = T.truncdiv(own, panel * tiles_n) * panel
    within = T.truncmod(own, panel * tiles_n)
    width = T.max(T.min(walk.starts[e + 1] - walk.starts[e] - past, panel), 1)
    row = (past + T.truncmod(within, width)) * PAIR + walk.team.rank(cta) * ROWS
    return e, row, T.truncdiv(within, width)


@T.macro
def produce(walk, cta, x, compact, load_weights):
    """Load the stages of all tiles of CTA `cta`, from `x` in compact order or in tile space.

    `load_weights(expert, tile of columns, k, stage)` says how those of the weights are loaded.
    """
    count = T.alloc_var("int32", init=0)
    valid = T.alloc_var("int32", init=0)
    for turn in T.serial(walk.turns(cta)):
        e, row, tile_n = tile_of_turn(walk, cta, turn)
        start = T.if_then_else(compact != 0, walk.offsets[e], walk.padded[e]) + row
        valid = walk.sizes[e] - row
        if valid + walk.team.rank(cta) * ROWS > 0:
            for k in T.serial(walk.steps):
                s = T.truncmod(count + k, walk.stages)
                at = k * BLOCK_K
                acquire(walk.empty, count + k, walk.stages)
                if valid > 0:
                    tile = walk.x_tile[s, :, :]
                    load(x[start : start + ROWS, at : at + BLOCK_K], tile, walk.full, s)
                load_weights(e, tile_n, at, s)
                T.mbarrier_arrive(walk.full[s])
            count = count + walk.steps


@T.macro
def multiply(walk, acc, count, row: int):
    """acc = rows row:row+64 of x_tile @ w_tile.T over a tile's stages, from number `count` on."""
    stages = walk.stages
    T.clear(acc)
    for k in T.serial(walk.steps):
        s = T.truncmod(count + k, stages)
        await_full(walk.full, count + k, stages)
        T.wgmma_gemm(
            walk.x_tile[s, row : row + GROUP, :], walk.w_tile[s, :, :], acc, transpose_B=True
        )
        T.wait_wgmma(0)
        release_pair(walk.empty, count + k, stages)
