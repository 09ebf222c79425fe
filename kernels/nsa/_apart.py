"""Hopper: attention over blocks that few neighbours share, every warp with blocks of its own.

A tile of neighbouring queries with the heads of one group is 256 rows, 16 for each of 16 consumer
warps. A persistent CTA walks the union of the tile's blocks: a warpgroup fetches each block once by
TMA, and only the warps whose query selected it multiply, 16 rows at a time, so nothing is computed
in vain. For random choices the union of 16 queries holds 0.7 of the blocks that the queries name,
and the rest of the traffic through L2 is saved.

All waiting is written out here, so TileLang must neither split warps nor add barriers.
"""

import tilelang.language as T

from ..common.dialect import program
from . import _tile
from ._walk import FULL, MANUAL, release

MMA = {**MANUAL, "tl.disable_wgmma": True}  # wgmma would take four warps at a time
PAIR = 2  # CTAs of a cluster
BOTH = 0b11  # of them, as a mask
NO_BLOCK = -1  # fills the shorter list of a pair


@program(writes=("Ids", "Masks", "Works", "Count"))
def plan(D, *, block, count, causal, queries, small):
    """What each pair of tiles of `queries` neighbours walks, for the queries that are left.

    (Blocks [B, N, H, count] int32, Size [B, H, smaller tiles, 2] int32 of `_union.plan`, for tiles
    of `small` queries, Ids, Masks [2 * pairs of all, queries * count] int32, Works [pairs of all,
    5] int32, Count [2] int32). Rows 2 * i and 2 * i + 1 of Ids hold the first key of each block for
    the two tiles of pair i; bit j of a mask says that query j of the tile selected it. Blocks that
    both tiles walk come first, at the same places; the shorter list is filled up with NO_BLOCK. A
    block that a query names again is an entry of its own. Queries of smaller tiles that are walked
    count as selecting nothing. Count[1] is raised by one for each pair with a query left, and a row
    of Works tells its number, KV head, batch, length of both lists and number of common blocks: in
    an order that depends on timing, which nothing else does.
    """
    entries = queries * count
    both = PAIR * queries
    threads = min(1024, max(32, 1 << (both * count - 1).bit_length()))
    space = -(-both * count // threads) * threads  # the entries of both, in whole passes
    shift = 10  # three sums in one integer: entries of both tiles, of the first, of the second
    low = (1 << shift) - 1
    assert entries <= low
    B, N, H, smaller, listed, rows = (
        T.dynamic(name)
        for name in ("batch", "seqlen", "kv_heads", "smaller_tiles", "listed", "lists")
    )
    pairs = T.ceildiv(N, both)

    @T.prim_func
    def apart_plan(
        Blocks: T.Tensor((B, N, H, count), "int32"),
        Size: T.Tensor((B, H, smaller, 2), "int32"),
        Ids: T.Tensor((rows, entries), "int32"),
        Masks: T.Tensor((rows, entries), "int32"),
        Works: T.Tensor((listed, 5), "int32"),
        Count: T.Tensor((2,), "int32"),
    ):
        with D.kernel(pairs, H, B, threads=threads) as (pair, h, b):
            chosen = D.alloc_shared((space,), "int32")
            sums = D.alloc_shared((space,), "int32")
            mine = D.alloc_fragment((space,), "int32")
            mask = D.alloc_fragment((space,), "int32")
            code = D.alloc_fragment((space,), "int32")
            slot = T.alloc_var("int32")
            row = ((b * H + h) * pairs + pair) * PAIR

            any_left = T.alloc_var("int32", init=0)
            for i in range(-(-both // small) + 1):
                at = pair * both // small + i
                # Not one condition: both sides would be read, and Size ends with N.
                if at * small < T.min(pair * both + both, N):  # noqa: SIM102
                    if Size[b, h, at, 1] < 0:
                        any_left = 1
            if any_left > 0:
                # Slots are outermost, so that neighbours in the list belong to different queries.
                for e in D.parallel(space):
                    t = pair * both + e % both
                    limit = t + 1 if causal else N
                    x = Blocks[b, T.min(t, N - 1), h, T.min(e // both, count - 1)]
                    left = Size[b, h, T.min(t // small, smaller - 1), 1] < 0
                    named = (
                        (e < both * count)
                        & (t < N)
                        & left
                        & (x >= 0)
                        & (x < T.ceildiv(limit, block))
                    )
                    mine[e] = T.if_then_else(named, x, -1)
                    chosen[e] = mine[e]
                    code[e] = 0
                    mask[e] = 0
                # What is compared tells a block and how often the query has named it before.
                for s in T.serial(count):
                    for e in D.parallel(space):
                        same = chosen[s * both + e % both] == mine[e]
                        code[e] += T.cast(same & (s < e // both), "int32")
                T.sync_threads()
                for e in D.parallel(space):
                    mine[e] = T.if_then_else(mine[e] >= 0, mine[e] * count + code[e], -1)
                    chosen[e] = mine[e]
                for s in T.serial(count):
                    for i in T.unroll(both):
                        for e in D.parallel(space):
                            mask[e] |= T.cast(chosen[s * both + i] == mine[e], "int32") << i
                for e in D.parallel(space):
                    # The first of the queries that name a block speaks for all.
                    first = (mine[e] >= 0) & ((mask[e] & ((1 << (e % both)) - 1)) == 0)
                    code[e] = T.if_then_else(
                        first,
                        T.if_then_else(
                            mask[e] >> queries == 0,
                            1 << shift,
                            T.if_then_else(mask[e] & ((1 << queries) - 1) == 0, 1 << 2 * shift, 1),
                        ),
                        0,
                    )
                    sums[e] = code[e]
                T.cumsum(sums)
                for e in D.parallel(space):
                    common = sums[space - 1] & low
                    at = T.if_then_else(
                        code[e] == 1,
                        sums[e] & low,
                        common
                        + T.if_then_else(
                            code[e] == 1 << shift, (sums[e] >> shift) & low, sums[e] >> 2 * shift
                        ),
                    )
                    if (code[e] == 1) | (code[e] == 1 << shift):
                        Ids[row, at - 1] = mine[e] // count * block
                        Masks[row, at - 1] = mask[e] & ((1 << queries) - 1)
                    if (code[e] == 1) | (code[e] == 1 << 2 * shift):
                        Ids[row + 1, at - 1] = mine[e] // count * block
                        Masks[row + 1, at - 1] = mask[e] >> queries
                for e in D.parallel(space):
                    common = sums[space - 1] & low
                    alone = (sums[space - 1] >> shift) & low
                    alone2 = sums[space - 1] >> 2 * shift
                    own = common + T.if_then_else(e < entries, alone, alone2)
                    if (
                        (e < 2 * entries)
                        & (e % entries >= own)
                        & (e % entries < common + T.max(alone, alone2))
                    ):
                        Ids[row + e // entries, e % entries] = NO_BLOCK
                        Masks[row + e // entries, e % entries] = 0
                # Also a pair without any block: its queries put out zeros.
                if T.get_thread_binding() == 0:
                    common = sums[space - 1] & low
                    alone = (sums[space - 1] >> shift) & low
                    alone2 = sums[space - 1] >> 2 * shift
                    slot = T.atomic_add(Count[1], 1, return_prev=True)
                    Works[slot, 0] = pair
                    Works[slot, 1] = h
                    Works[slot, 2] = b
                    Works[slot, 3] = common + T.max(alone, alone2)
                    Works[slot, 4] = common

    return apart_plan


def _build(
    D, *, adds, dtype, group, dim, block, entries, causal, small, consumers, k_stages, v_stages,
    keys,
):  # fmt: skip
    half = D.dtype(dtype)
    warps = 4 * consumers  # that multiply
    height = 16 * warps  # rows of a tile
    queries = height // group
    # A CTA has the registers that it was launched with, 128 or 96 a thread, and no others to share.
    regs = {3: 160, 4: 112}[consumers]
    clusters = D.target.sms // PAIR
    B, N, H, HQ, smaller, listed, lists = (
        T.dynamic(name)
        for name in ("batch", "seqlen", "kv_heads", "q_heads", "smaller_tiles", "listed", "lists")
    )
    pairs = T.ceildiv(N, PAIR * queries)

    @T.macro
    def fetch(stages: int, cluster, rank, X, x_s, full, empty, ready, Ids, Works, Count):
        """A warp fetches the blocks of K or of V; of common ones, the first CTA's for both."""
        s = T.alloc_var("int32", init=0)
        phase = T.alloc_var("int32", init=0)
        met = T.alloc_var("int32", init=0)  # bit i: the parity of ready[i]
        for turn in T.serial(T.truncdiv(Count[1] - cluster + clusters - 1, clusters)):
            pair = Works[turn * clusters + cluster, 0]
            h = Works[turn * clusters + cluster, 1]
            b = Works[turn * clusters + cluster, 2]
            total = Works[turn * clusters + cluster, 3]
            common = Works[turn * clusters + cluster, 4]
            row = ((b * H + h) * pairs + pair) * PAIR + rank
            for n in T.serial(total):
                k0 = Ids[row, n]
                T.mbarrier_wait_parity(empty[s], phase ^ 1)
                if n < common:
                    if rank == 0:
                        T.mbarrier_wait_parity(ready[s], (met >> s) & 1)
                        met = met ^ (1 << s)
                    T.tma_copy(
                        X[b, k0 : k0 + block, h, :],
                        x_s[s, :, :],
                        barrier=full[s],
                        cluster_mask=BOTH,
                        leader_scope_threads=32,
                    )
                    T.mbarrier_arrive(full[s])
                    if (rank == 1) & (T.get_thread_binding() % 32 == 0):
                        T.mbarrier_arrive(ready[s], 0)
                else:
                    if k0 >= 0:
                        T.tma_copy(
                            X[b, k0 : k0 + block, h, :],
                            x_s[s, :, :],
                            barrier=full[s],
                            leader_scope_threads=32,
                        )
                    T.mbarrier_arrive(full[s])
                s = s + 1
                if s == stages:
                    s = 0
                    phase = phase ^ 1

    @T.macro
    def fetch_q(cluster, rank, Q, q_s, q_full, q_empty, Works, Count):
        for turn in T.serial(T.truncdiv(Count[1] - cluster + clusters - 1, clusters)):
            tile = Works[turn * clusters + cluster, 0] * PAIR + rank
            h = Works[turn * clusters + cluster, 1]
            b = Works[turn * clusters + cluster, 2]
            T.mbarrier_wait_parity(q_empty[0], (turn & 1) ^ 1)
            for i in T.unroll(queries):
                for c in T.unroll(dim // 64):
                    T.tma_copy(
                        Q[
                            b,
                            tile * queries + i,
                            h * group : h * group + group,
                            c * 64 : c * 64 + 64,
                        ],
                        q_s[i * group : i * group + group, c * 64 : c * 64 + 64],
                        barrier=q_full[0],
                        leader_scope_threads=32,
                    )
            T.mbarrier_arrive(q_full[0])

    @T.macro
    def attend(Q, K, V, Ids, Masks, Size, Works, Count, Gate, Out, scale):
        with T.Kernel(PAIR * clusters, threads=128 + 32 * warps, cluster_dims=PAIR) as cta:
            q_s = T.alloc_shared((height, dim), half)
            k_s = T.alloc_shared((k_stages, block, dim), half)
            v_s = T.alloc_shared((v_stages, block, dim), half)
            q_full = T.alloc_barrier([32])
            q_empty = T.alloc_barrier([warps])
            k_full = T.alloc_barrier([32] * k_stages)
            v_full = T.alloc_barrier([32] * v_stages)
            k_empty = T.alloc_barrier([warps] * k_stages)
            v_empty = T.alloc_barrier([warps] * v_stages)
            # The second CTA tells the first that it has room for a common block.
            k_ready = T.alloc_cluster_barrier([1] * k_stages)
            v_ready = T.alloc_cluster_barrier([1] * v_stages)
            cluster = T.truncdiv(cta, PAIR)
            rank = T.truncmod(cta, PAIR)
            T.cluster_sync()
            with T.ws(0):
                T.dec_max_nreg(32)
                if T.get_thread_binding() < 32:
                    fetch(
                        k_stages, cluster, rank, K, k_s, k_full, k_empty, k_ready, Ids, Works, Count
                    )
                elif T.get_thread_binding() < 64:
                    fetch(
                        v_stages, cluster, rank, V, v_s, v_full, v_empty, v_ready, Ids, Works, Count
                    )
                elif T.get_thread_binding() < 96:
                    fetch_q(cluster, rank, Q, q_s, q_full, q_empty, Works, Count)
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
                ks = T.alloc_var("int32", init=0)
                k_phase = T.alloc_var("int32", init=0)
                vs = T.alloc_var("int32", init=0)
                v_phase = T.alloc_var("int32", init=0)
                bits = T.alloc_var("int32")
                more = T.alloc_var("int32")
                total = T.alloc_var("int32")
                mine = (T.get_thread_binding() // 32 - 4) * 16 // group  # the warp's query
                for turn in T.serial(T.truncdiv(Count[1] - cluster + clusters - 1, clusters)):
                    pair = Works[turn * clusters + cluster, 0]
                    h = Works[turn * clusters + cluster, 1]
                    b = Works[turn * clusters + cluster, 2]
                    total = Works[turn * clusters + cluster, 3]
                    row = ((b * H + h) * pairs + pair) * PAIR + rank
                    tile = pair * PAIR + rank
                    more = Masks[row, 0]
                    end = T.min(tile * queries + mine + 1, N) if causal else N
                    T.fill(row_max, _tile.FLOOR)
                    T.fill(row_sum, 0)
                    T.fill(acc, 0)
                    if dim > 64:
                        T.fill(acc2, 0)
                    T.mbarrier_wait_parity(q_full[0], turn & 1)
                    for n in T.serial(total):
                        bits = more
                        more = Masks[row, T.min(n + 1, total - 1)]
                        T.mbarrier_wait_parity(k_full[ks], k_phase)
                        if ((bits >> mine) & 1) > 0:
                            k0 = Ids[row, n]
                            for part in T.serial(block // keys):
                                T.gemm(
                                    q_s,
                                    k_s[ks, part * keys : part * keys + keys, :],
                                    scores,
                                    transpose_B=True,
                                    policy=FULL,
                                    clear_accum=True,
                                )
                                if part == block // keys - 1:
                                    release(k_empty, ks)
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
                                    scores[i, j] = T.exp2(scores[i, j] * scale - new_max[i] * scale)
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
                                if part == 0:
                                    T.mbarrier_wait_parity(v_full[vs], v_phase)
                                T.gemm(
                                    p,
                                    v_s[vs, part * keys : part * keys + keys, 0:64],
                                    acc,
                                    policy=FULL,
                                )
                                if dim > 64:
                                    T.gemm(
                                        p,
                                        v_s[vs, part * keys : part * keys + keys, 64:128],
                                        acc2,
                                        policy=FULL,
                                    )
                            release(v_empty, vs)
                        else:
                            release(k_empty, ks)
                            T.mbarrier_wait_parity(v_full[vs], v_phase)
                            release(v_empty, vs)
                        ks = ks + 1
                        if ks == k_stages:
                            ks = 0
                            k_phase = k_phase ^ 1
                        vs = vs + 1
                        if vs == v_stages:
                            vs = 0
                            v_phase = v_phase ^ 1
                    release(q_empty, 0)
                    for i in T.Parallel(height):
                        factor[i] = 1.0 / T.max(row_sum[i], _tile.TINY)
                    t = tile * queries + mine
                    if t < N:  # noqa: SIM102
                        if Size[b, h, t // small, 1] < 0:
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
            T.cluster_sync()  # neither leaves while the other may still write or signal to it

    if adds:

        @T.prim_func
        def apart_gated(
            Q: T.Tensor((B, N, HQ, dim), half),
            K: T.Tensor((B, N, H, dim), half),
            V: T.Tensor((B, N, H, dim), half),
            Ids: T.Tensor((lists, entries), "int32"),
            Masks: T.Tensor((lists, entries), "int32"),
            Size: T.Tensor((B, H, smaller, 2), "int32"),
            Works: T.Tensor((listed, 5), "int32"),
            Count: T.Tensor((2,), "int32"),
            Gate: T.Tensor((B, N, HQ), half),
            Out: T.Tensor((B, N, HQ, dim), half),
            scale: T.float32,
        ):
            attend(Q, K, V, Ids, Masks, Size, Works, Count, Gate, Out, scale)

        return apart_gated

    @T.prim_func
    def apart(
        Q: T.Tensor((B, N, HQ, dim), half),
        K: T.Tensor((B, N, H, dim), half),
        V: T.Tensor((B, N, H, dim), half),
        Ids: T.Tensor((lists, entries), "int32"),
        Masks: T.Tensor((lists, entries), "int32"),
        Size: T.Tensor((B, H, smaller, 2), "int32"),
        Works: T.Tensor((listed, 5), "int32"),
        Count: T.Tensor((2,), "int32"),
        Out: T.Tensor((B, N, HQ, dim), half),
        scale: T.float32,
    ):
        attend(Q, K, V, Ids, Masks, Size, Works, Count, None, Out, scale)

    return apart


@program(writes=("Out",), pass_configs=MMA)
def walk(D, **static):
    """Out = attention over the blocks of `plan`, for the queries that it holds.

    (Q [B, N, HQ, dim], K, V [B, N, H, dim], Ids, Masks [tiles of all, entries], Size of
    `_union.plan`, Works [tiles of all, 4], Count [2], Out like Q, scale)
    """
    return _build(D, adds=False, **static)


@program(writes=("Out",), pass_configs=MMA)
def walk_gated(D, **static):
    """Out += gate * that; (Q, K, V, ..., Count as above, Gate [B, N, HQ], Out, scale)."""
    return _build(D, adds=True, **static)
