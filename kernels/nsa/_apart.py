"""Hopper: attention over blocks that few neighbours share, every warp with blocks of its own.

A tile of neighbouring queries with the heads of one group is 192 rows, 16 for each of 12 consumer
warps. A persistent CTA walks the union of the tile's blocks: a warp fetches each block once by
TMA, and only the warps whose query selected it multiply, 16 rows at a time, so nothing is computed
in vain. For random choices the union of 12 queries holds 0.77 of the blocks that the queries name,
and the rest of the traffic through L2 is saved.

The two CTAs of a cluster walk neighbouring tiles. Blocks of both unions (a third, for random
choices) come first in both lists and are sent to both CTAs by one read of L2: 0.64 of what the
queries name. The rest each CTA fetches for itself, without asking the other one.

All waiting is written out here, so TileLang must neither split warps nor add barriers.
"""

import tilelang.language as T

from ..common.dialect import program
from . import _tile
from ._pairs import PAIR
from ._walk import FULL, MANUAL, release

MMA = {**MANUAL, "tl.disable_wgmma": True}  # wgmma would take four warps at a time
BOTH = 0b11  # the CTAs of a cluster, as a mask


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
    """Out = attention over the blocks of `_pairs.plan`, for the queries that it holds.

    (Q [B, N, HQ, dim], K, V [B, N, H, dim], Ids, Masks [2 * pairs, entries], Size of
    `_union.plan`, Works [pairs, 5], Count [2], Out like Q, scale)
    """
    return _build(D, adds=False, **static)


@program(writes=("Out",), pass_configs=MMA)
def walk_gated(D, **static):
    """Out += gate * that; (Q, K, V, ..., Count as above, Gate [B, N, HQ], Out, scale)."""
    return _build(D, adds=True, **static)
