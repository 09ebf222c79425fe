"""Hopper: attention of neighbouring queries that walk key blocks together.

A persistent CTA takes tile after tile: `queries` neighbours with the heads of one group are 64 rows
for each of two or three consumer warpgroups; one more fetches 128 keys a step by TMA, ahead of
them and across the borders of tiles. A tile walks up to two lists of steps:

* `union`: the blocks that its queries selected, two a step (`_union.plan`);
* `prefix`: the compressed keys up to the queries; `window`: the keys of the sliding window.

Where not every query of the tile sees all keys of a step, each row has a range that it sees.
While one warpgroup's products run, the others make weights: they take turns, and each makes a
step's weights while those of the step before multiply V.

All waiting is written out here, so TileLang must neither split warps nor add barriers.
"""

import tilelang.language as T

from ..common.dialect import BY_ROLE, program
from . import _tile
from ._union_steps import BATCH, BLOCKS, COMPLETE, HEAD, TILE, WORK, Part, part_of
from ._walk_ring import TILES, WARP, fetch_dense, fetch_queries, fetch_selected, make_ring
from ._walk_rows import OWN, allocate, finish, give_first_turn, save, stash, walk, which
from ._walk_steps import KEYS, Walk, advance, begin, read, steps, turns

MANUAL = {
    **BY_ROLE,
    "tl.disable_thread_storage_sync": True,
    "tl.disable_shared_memory_reuse": True,
    "tl.disable_safe_memory_legalize": True,
    "tl.enable_fast_math": True,
}


@T.macro
def _take_unions(w, ring, out_s, cta, Steps, Works, number, Gate, Out, scale):
    """What the consumers do with the CTA's tiles."""
    rows = allocate(w)
    work = T.alloc_local((WORK,), "int32")
    following = T.alloc_local((WORK,), "int32")
    count = T.alloc_var("int32", init=0)
    give_first_turn(w)
    tiles = turns(w, number, cta)
    read(w, Works, 0, cta, following)
    for turn in T.serial(tiles):
        for column in T.unroll(WORK):
            work[column] = following[column]
        tile, h, b = work[TILE], work[HEAD], work[BATCH]
        part = part_of(work, which())
        T.mbarrier_wait_parity(ring.q_full[turn % TILES], turn // TILES & 1)
        walk(w, "union", ring, rows, turn, count, part, tile, h, b, Steps, work[COMPLETE], scale)
        count = count + part.total
        # While this one is finished, so that nobody waits for it.
        read(w, Works, T.min(turn + 1, tiles - 1), cta, following)
        finish(w, rows, tile, h, b, Gate)
        if Gate is not None:
            for i, j in T.Parallel(w.height, w.dim):
                t = T.min(tile * w.queries + i // w.group, w.N - 1)
                rows.acc[i, j] += Out[b, t, h * w.group + i % w.group, j]
        save(w, rows, out_s, tile, h, b, Out)
    T.tma_store_wait(0)


@T.macro
def _unions(w, Q, K, V, Steps, Works, Count, Gate, Out, scale):
    with T.Kernel(w.sms, threads=128 + w.everyone) as cta:
        ring = make_ring(w)
        out_s = T.alloc_shared((w.height, w.dim), w.half)
        number = Count[0]
        with T.ws(0):
            T.dec_max_nreg(w.registers[0])
            if T.get_thread_binding() < WARP:
                fetch_selected(w, K, ring.k, ring.k_full, ring.k_empty, Steps, Works, number, cta)
            elif T.get_thread_binding() < 2 * WARP:
                fetch_selected(w, V, ring.v, ring.v_full, ring.v_empty, Steps, Works, number, cta)
            elif T.get_thread_binding() < 3 * WARP:
                work = T.alloc_local((WORK,), "int32")
                for turn in T.serial(turns(w, number, cta)):
                    read(w, Works, turn, cta, work)
                    fetch_queries(w, ring, turn, work[TILE], work[HEAD], work[BATCH], Q)
        with T.ws(*range(1, 1 + w.consumers)):
            T.inc_max_nreg(w.registers[1])
            _take_unions(w, ring, out_s, cta, Steps, Works, number, Gate, Out, scale)


@T.macro
def _take_branches(w, ring, out_s, cta, works, GCmp, GSwa, Out, Lse, scale):
    """What the consumers do with the CTA's tiles."""
    rows = allocate(w)
    at = T.alloc_local((3,), "int32")
    count = T.alloc_var("int32", init=0)
    # In variables, as TileLang's prover works on what these are made of wherever they stand.
    tile, total = T.alloc_var("int32"), T.alloc_var("int32")
    begin(w, at, cta)
    give_first_turn(w)
    for turn in T.serial(turns(w, works, cta)):
        h, b = at[1], at[2]
        tile = w.tiles - 1 - at[0]
        total = steps(w, "prefix", tile)
        T.mbarrier_wait_parity(ring.q_full[turn % TILES], turn // TILES & 1)
        walk(w, "prefix", ring, rows, turn, count, Part(total), tile, h, b, None, None, scale)
        count = count + total
        for i in T.Parallel(w.height):
            t = tile * w.queries + i // w.group
            if t < w.N:
                Lse[b, h * w.group + i % w.group, t] = rows.row_max[i] * scale + T.log2(
                    T.max(rows.row_sum[i], _tile.TINY)
                )
        finish(w, rows, tile, h, b, GCmp)
        stash(rows, out_s)
        total = steps(w, "window", tile)
        walk(w, "window", ring, rows, turn, count, Part(total), tile, h, b, None, None, scale)
        count = count + total
        finish(w, rows, tile, h, b, GSwa)
        T.sync_threads(OWN + which(), 128)
        for i, j in T.Parallel(w.height, w.dim):
            rows.acc[i, j] += out_s[i, j]
        save(w, rows, out_s, tile, h, b, Out)
        advance(w, at)
    T.tma_store_wait(0)


@T.macro
def _branches(w, works, Q, MeanK, MeanV, K, V, GCmp, GSwa, Out, Lse, scale):
    with T.Kernel(w.sms, threads=128 + w.everyone) as cta:
        ring = make_ring(w)
        out_s = T.alloc_shared((w.height, w.dim), w.half)
        with T.ws(0):
            T.dec_max_nreg(w.registers[0])
            if T.get_thread_binding() < WARP:
                fetch_dense(w, MeanK, K, ring.k, ring.k_full, ring.k_empty, works, cta)
            elif T.get_thread_binding() < 2 * WARP:
                fetch_dense(w, MeanV, V, ring.v, ring.v_full, ring.v_empty, works, cta)
            elif T.get_thread_binding() < 3 * WARP:
                at = T.alloc_local((3,), "int32")
                begin(w, at, cta)
                for turn in T.serial(turns(w, works, cta)):
                    fetch_queries(w, ring, turn, w.tiles - 1 - at[0], at[1], at[2], Q)
                    advance(w, at)
        with T.ws(*range(1, 1 + w.consumers)):
            T.inc_max_nreg(w.registers[1])
            _take_branches(w, ring, out_s, cta, works, GCmp, GSwa, Out, Lse, scale)


def _build_union(D, *, adds, dtype, group, dim, stages, consumers, block, room, causal=True):
    B, N, H, HQ, tiles, works = (
        T.dynamic(name) for name in ("batch", "seqlen", "kv_heads", "q_heads", "tiles", "works")
    )
    half = D.dtype(dtype)
    assert consumers == 2 and block * BLOCKS == KEYS  # as the plan has it
    w = Walk(
        half, group, dim, stages, consumers, D.target.sms, N, H, None, tiles, block=block,
        causal=causal,
    )  # fmt: skip

    # Two lists of parameters, as TileLang takes no optional ones.
    if adds:

        @T.prim_func
        def union_walk_gated(
            Q: T.Tensor((B, N, HQ, dim), half),
            K: T.Tensor((B, N, H, dim), half),
            V: T.Tensor((B, N, H, dim), half),
            Steps: T.Tensor((B, H, tiles, room, 2 * BLOCKS), "int32"),
            Works: T.Tensor((works, WORK), "int32"),
            Count: T.Tensor((2,), "int32"),
            Gate: T.Tensor((B, N, HQ), half),
            Out: T.Tensor((B, N, HQ, dim), half),
            scale: T.float32,
        ):
            _unions(w, Q, K, V, Steps, Works, Count, Gate, Out, scale)

        return union_walk_gated

    @T.prim_func
    def union_walk(
        Q: T.Tensor((B, N, HQ, dim), half),
        K: T.Tensor((B, N, H, dim), half),
        V: T.Tensor((B, N, H, dim), half),
        Steps: T.Tensor((B, H, tiles, room, 2 * BLOCKS), "int32"),
        Works: T.Tensor((works, WORK), "int32"),
        Count: T.Tensor((2,), "int32"),
        Out: T.Tensor((B, N, HQ, dim), half),
        scale: T.float32,
    ):
        _unions(w, Q, K, V, Steps, Works, Count, None, Out, scale)

    return union_walk


@program(writes=("Out",), pass_configs=MANUAL)
def union(D, **static):
    """Out = attention over the blocks of the plan (of _union.py), for the tiles that it holds.

    (Q [B, N, HQ, dim], K, V [B, N, H, dim], Steps [B, H, tiles, room, 4], Works
    [tiles of all, WORK], Count [2], Out like Q, scale)
    """
    return _build_union(D, adds=False, **static)


@program(writes=("Out",), pass_configs=MANUAL)
def union_gated(D, **static):
    """Out += gate * that; (Q, K, V, ..., Count as above, Gate [B, N, HQ], Out, scale)."""
    return _build_union(D, adds=True, **static)


@program(writes=("Out", "Lse"), pass_configs=MANUAL)
def dense(D, *, dtype, group, dim, stages, consumers, kernel, stride, window):
    """`_dense.compressed` and `_dense.sliding` in one.

    (Q [B, N, HQ, dim], MeanK, MeanV [B, W, H, dim], K, V [B, N, H, dim], GCmp, GSwa [B, N, HQ],
    Out like Q, Lse [B, HQ, N], scale)
    """
    B, N, H, HQ, W = (
        T.dynamic(name) for name in ("batch", "seqlen", "kv_heads", "q_heads", "windows")
    )
    half = D.dtype(dtype)
    tiles = T.ceildiv(N, 64 * consumers // group)
    w = Walk(
        half, group, dim, stages, consumers, D.target.sms, N, H, W, tiles, window=window,
        kernel=kernel, stride=stride,
    )  # fmt: skip

    @T.prim_func
    def dense_walk(
        Q: T.Tensor((B, N, HQ, dim), half),
        MeanK: T.Tensor((B, W, H, dim), half),
        MeanV: T.Tensor((B, W, H, dim), half),
        K: T.Tensor((B, N, H, dim), half),
        V: T.Tensor((B, N, H, dim), half),
        GCmp: T.Tensor((B, N, HQ), half),
        GSwa: T.Tensor((B, N, HQ), half),
        Out: T.Tensor((B, N, HQ, dim), half),
        Lse: T.Tensor((B, HQ, N), "float32"),
        scale: T.float32,
    ):
        _branches(w, tiles * H * B, Q, MeanK, MeanV, K, V, GCmp, GSwa, Out, Lse, scale)

    return dense_walk
