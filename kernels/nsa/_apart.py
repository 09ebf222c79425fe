"""Hopper: attention over blocks that few neighbours share, every warp with blocks of its own.

A tile of neighbouring queries with the heads of one group is 192 rows, 16 for each of 12 consumer
warps. A persistent CTA walks the union of the tile's blocks: each block is fetched once by TMA, and
only the warps whose query selected it multiply, 16 rows at a time, so nothing is computed in vain.
For random choices the union of 12 queries holds 0.77 of the blocks that the queries name, and the
rest of the traffic through L2 is saved.

Most of a walk is fetching and passing by, so both are kept short: keys, values and queries are
fetched by a warp each, that reads ahead which block comes next, and a warp that passes a block by
waits and gives back once.

All waiting is written out here, so TileLang must neither split warps nor add barriers.
"""

import tilelang.language as T

from ..common.dialect import program
from . import _tile
from ._walk import MANUAL
from ._walk_ring import WARP, fetch_rows, release
from ._walk_rows import FULL

MMA = {**MANUAL, "tl.disable_wgmma": True}  # wgmma would take four warps at a time


def _bounded(s, stages: int):
    """Stage s, said so that TileLang knows its range, and a stage's place takes no divisions."""
    return T.max(T.min(s, stages - 1), 0)


@T.macro
def _fetch_blocks(X, x_s, full, empty, Ids, Works, number, cta, tiles, sms: int):
    """One warp fetches the blocks of X that the CTA's tiles walk, ahead of the consumers.

    x_s: [stages, block, dim].
    """
    stages, block, _ = x_s.shape
    H = X.shape[2]
    s = T.alloc_var("int32", init=0)
    parity = T.alloc_var("int32", init=1)
    k0 = T.alloc_var("int32")
    following = T.alloc_var("int32")
    for turn in T.serial(T.truncdiv(number - cta + sms - 1, sms)):
        tile = Works[turn * sms + cta, 0]
        h = Works[turn * sms + cta, 1]
        b = Works[turn * sms + cta, 2]
        total = Works[turn * sms + cta, 3]
        row = (b * H + h) * tiles + tile
        following = Ids[row, 0]
        for n in T.serial(total):
            k0 = following
            following = Ids[row, T.min(n + 1, total - 1)]
            T.mbarrier_wait_parity(empty[s], parity)
            T.tma_copy(
                X[b, k0 : k0 + block, h, :],
                x_s[_bounded(s, stages), :, :],
                barrier=full[s],
                leader_scope_threads=WARP,
            )
            T.mbarrier_arrive(full[s])
            s = s + 1
            if s == stages:
                s = 0
                parity = parity ^ 1


@T.macro
def _fetch_queries(
    Q, q_s, full, empty, Works, number, cta, sms: int, queries: int, group: int
):  # fmt: skip
    """One warp fetches the rows of the CTA's tiles."""
    for turn in T.serial(T.truncdiv(number - cta + sms - 1, sms)):
        tile = Works[turn * sms + cta, 0]
        h = Works[turn * sms + cta, 1]
        b = Works[turn * sms + cta, 2]
        T.mbarrier_wait_parity(empty[0], (turn & 1) ^ 1)
        fetch_rows(q_s, full, 0, tile, h, b, Q, queries, group)


def _build(
    D, *, adds, dtype, group, dim, block, entries, causal, small, consumers, stages, keys,
):  # fmt: skip
    half = D.dtype(dtype)
    warps = 4 * consumers  # that multiply
    height = 16 * warps  # rows of a tile
    queries = height // group
    # A CTA has the registers that it was launched with, 128 or 96 a thread, and no others to share.
    regs = {3: 160, 4: 112}[consumers]
    sms = D.target.sms
    B, N, H, HQ, smaller, listed = (
        T.dynamic(name)
        for name in ("batch", "seqlen", "kv_heads", "q_heads", "smaller_tiles", "listed")
    )
    tiles = T.ceildiv(N, queries)

    @T.macro
    def attend(Q, K, V, Ids, Masks, Left, Works, Count, Gate, Out, scale):
        with T.Kernel(sms, threads=128 + WARP * warps) as cta:
            q_s = T.alloc_shared((1, height, dim), half)
            k_s = T.alloc_shared((stages, block, dim), half)
            v_s = T.alloc_shared((stages, block, dim), half)
            q_full = T.alloc_barrier([WARP])
            q_empty = T.alloc_barrier([warps])
            full = T.alloc_barrier([2 * WARP] * stages)  # K's and V's bytes
            empty = T.alloc_barrier([warps] * stages)
            with T.ws(0):
                T.dec_max_nreg(32)
                if T.get_thread_binding() < WARP:
                    _fetch_blocks(K, k_s, full, empty, Ids, Works, Count[1], cta, tiles, sms)
                elif T.get_thread_binding() < 2 * WARP:
                    _fetch_blocks(V, v_s, full, empty, Ids, Works, Count[1], cta, tiles, sms)
                elif T.get_thread_binding() < 3 * WARP:
                    _fetch_queries(
                        Q, q_s, q_full, q_empty, Works, Count[1], cta, sms, queries, group
                    )
            with T.ws(*range(1, 1 + consumers)):
                T.inc_max_nreg(regs)
                scores = T.alloc_fragment((height, keys), "float32")
                p = T.alloc_fragment((height, keys), half)
                acc = T.alloc_fragment((height, 64), "float32")
                acc2 = T.alloc_fragment((height, 64), "float32") if dim > 64 else acc
                row_max = T.alloc_fragment((height,), "float32")
                new_max = T.alloc_fragment((height,), "float32")
                factor = T.alloc_fragment((height,), "float32")
                row_sum = T.alloc_fragment((height,), "float32")
                tile_sum = T.alloc_fragment((height,), "float32")
                s = T.alloc_var("int32", init=0)
                parity = T.alloc_var("int32", init=0)
                named = T.alloc_var("uint32")
                total = T.alloc_var("int32")
                mine = (T.get_thread_binding() // 32 - 4) * 16 // group  # the warp's query
                for turn in T.serial(T.truncdiv(Count[1] - cta + sms - 1, sms)):
                    tile = Works[turn * sms + cta, 0]
                    h = Works[turn * sms + cta, 1]
                    b = Works[turn * sms + cta, 2]
                    total = Works[turn * sms + cta, 3]
                    row = (b * H + h) * tiles + tile
                    end = T.min(tile * queries + mine + 1, N) if causal else N
                    T.fill(row_max, _tile.FLOOR)
                    T.fill(row_sum, 0)
                    T.fill(acc, 0)
                    if dim > 64:
                        T.fill(acc2, 0)
                    T.mbarrier_wait_parity(q_full[0], turn & 1)
                    for m in T.serial(T.ceildiv(total, WARP)):
                        n0 = m * WARP
                        # A lane looks up one of the next 32 blocks: bit n says that n0 + n is ours.
                        at = n0 + T.get_thread_binding() % WARP
                        bits = Masks[row, T.min(at, total - 1)]
                        named = T.cast(
                            T.ballot((at < total) & (((bits >> mine) & 1) > 0)), "uint32"
                        )
                        for n in T.serial(T.min(total - n0, WARP)):
                            T.mbarrier_wait_parity(full[s], parity)
                            if ((named >> n) & 1) > 0:
                                k0 = Ids[row, n0 + n]
                                here = _bounded(s, stages)
                                for part in T.serial(block // keys):
                                    T.gemm(
                                        q_s[0, :, :],
                                        k_s[here, part * keys : part * keys + keys, :],
                                        scores,
                                        transpose_B=True,
                                        policy=FULL,
                                        clear_accum=True,
                                    )
                                    if k0 + block > end:
                                        for i, j in T.Parallel(height, keys):
                                            scores[i, j] = T.if_then_else(
                                                k0 + part * keys + j < end,
                                                scores[i, j],
                                                -T.infinity("float32"),
                                            )
                                    T.copy(row_max, new_max)
                                    T.reduce_max(scores, new_max, dim=1, clear=False)
                                    for i in T.Parallel(height):
                                        factor[i] = T.exp2((row_max[i] - new_max[i]) * scale)
                                    for i, j in T.Parallel(height, keys):
                                        scores[i, j] = T.exp2(
                                            scores[i, j] * scale - new_max[i] * scale
                                        )
                                    T.reduce_sum(scores, tile_sum, dim=1)
                                    for i in T.Parallel(height):
                                        row_sum[i] = row_sum[i] * factor[i] + tile_sum[i]
                                    T.copy(new_max, row_max)
                                    for i, j in T.Parallel(height, 64):
                                        acc[i, j] *= factor[i]
                                    if dim > 64:
                                        for i, j in T.Parallel(height, 64):
                                            acc2[i, j] *= factor[i]
                                    T.copy(scores, p)
                                    T.gemm(
                                        p,
                                        v_s[here, part * keys : part * keys + keys, 0:64],
                                        acc,
                                        policy=FULL,
                                    )
                                    if dim > 64:
                                        T.gemm(
                                            p,
                                            v_s[here, part * keys : part * keys + keys, 64:128],
                                            acc2,
                                            policy=FULL,
                                        )
                            release(empty, s)
                            s = s + 1
                            if s == stages:
                                s = 0
                                parity = parity ^ 1
                    release(q_empty, 0)
                    for i in T.Parallel(height):
                        factor[i] = 1.0 / T.max(row_sum[i], _tile.TINY)
                    t = tile * queries + mine
                    if t < N:  # noqa: SIM102
                        if Left[b, h, t // small] > 0:
                            if adds:
                                for i in T.Parallel(height):
                                    factor[i] *= T.cast(
                                        Gate[b, t, h * group + i % group], "float32"
                                    )
                            for c, part in enumerate((acc, acc2)[: dim // 64]):
                                for i, j in T.Parallel(height, 64):
                                    part[i, j] *= factor[i]
                                if adds:
                                    for i, j in T.Parallel(height, 64):
                                        part[i, j] += Out[b, t, h * group + i % group, c * 64 + j]
                                for i, j in T.Parallel(height, 64):
                                    Out[b, t, h * group + i % group, c * 64 + j] = part[i, j]

    if adds:

        @T.prim_func
        def apart_gated(
            Q: T.Tensor((B, N, HQ, dim), half),
            K: T.Tensor((B, N, H, dim), half),
            V: T.Tensor((B, N, H, dim), half),
            Ids: T.Tensor((listed, entries), "int32"),
            Masks: T.Tensor((listed, entries), "int32"),
            Left: T.Tensor((B, H, smaller), "int32"),
            Works: T.Tensor((listed, 4), "int32"),
            Count: T.Tensor((2,), "int32"),
            Gate: T.Tensor((B, N, HQ), half),
            Out: T.Tensor((B, N, HQ, dim), half),
            scale: T.float32,
        ):
            attend(Q, K, V, Ids, Masks, Left, Works, Count, Gate, Out, scale)

        return apart_gated

    @T.prim_func
    def apart(
        Q: T.Tensor((B, N, HQ, dim), half),
        K: T.Tensor((B, N, H, dim), half),
        V: T.Tensor((B, N, H, dim), half),
        Ids: T.Tensor((listed, entries), "int32"),
        Masks: T.Tensor((listed, entries), "int32"),
        Left: T.Tensor((B, H, smaller), "int32"),
        Works: T.Tensor((listed, 4), "int32"),
        Count: T.Tensor((2,), "int32"),
        Out: T.Tensor((B, N, HQ, dim), half),
        scale: T.float32,
    ):
        attend(Q, K, V, Ids, Masks, Left, Works, Count, None, Out, scale)

    return apart


@program(writes=("Out",), pass_configs=MMA)
def walk(D, **static):
    """Out = attention over the blocks of `_union.plan_left`, for the queries that it holds.

    (Q [B, N, HQ, dim], K, V [B, N, H, dim], Ids, Masks [tiles of all, entries], Left of
    `_union.plan`, Works [tiles of all, 4], Count [2], Out like Q, scale)
    """
    return _build(D, adds=False, **static)


@program(writes=("Out",), pass_configs=MMA)
def walk_gated(D, **static):
    """Out += gate * that; (Q, K, V, ..., Count as above, Gate [B, N, HQ], Out, scale)."""
    return _build(D, adds=True, **static)
