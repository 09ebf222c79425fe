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

from dataclasses import dataclass
from typing import Any

import tilelang.language as T

from ..common.dialect import BY_ROLE, program
from . import _tile
from ._dense import seen

KEYS = 128  # of a step
FULL = T.GemmWarpPolicy.FullRow
MANUAL = {
    **BY_ROLE,
    "tl.disable_thread_storage_sync": True,
    "tl.disable_shared_memory_reuse": True,
    "tl.disable_safe_memory_legalize": True,
    "tl.enable_fast_math": True,
}
BOTH, TURN = 1, 3  # named barriers; TURN + i: warpgroup i's turn to issue products


@dataclass
class Ring:
    """What the producer fetches into shared memory, and who waits for it."""

    q: Any  # [rows, D], of one tile
    k: Any  # [stages, KEYS, D]
    v: Any
    q_full: Any
    k_full: Any
    v_full: Any
    q_empty: Any
    k_empty: Any
    v_empty: Any


@dataclass
class Rows:
    """What the consumers hold of a tile's rows: fragments."""

    scores: Any  # [rows, KEYS]
    p: Any  # [rows, KEYS]: the weights, rounded for the second product
    acc: Any  # [rows, D]
    row_max: Any  # [rows], of raw scores
    new_max: Any
    factor: Any
    row_sum: Any
    tile_sum: Any
    low: Any  # [rows]: keys of the step that a row sees
    high: Any


@T.macro
def release(empty, s):
    """Give a stage back; a barrier expects one thread of each warp."""
    if T.get_thread_binding() % 32 == 0:
        T.mbarrier_arrive(empty[s])


def _build(
    D, *, lists, adds, dtype, group, dim, stages, consumers, block=KEYS, entries=1, causal=True,
    window=0, kernel=1, stride=1,
):  # fmt: skip
    half = D.dtype(dtype)
    height = 64 * consumers  # rows of a tile
    queries = height // group
    everyone = 128 * consumers
    producer_regs, consumer_regs = (40, 232) if consumers == 2 else (24, 160)
    pair = KEYS // block  # blocks of a step
    sms = D.target.sms
    last = stages - 1  # stages is a power of two
    shift = last.bit_length()
    gated = lists == ("prefix", "window") or adds
    B, N, H, HQ, W, planned, listed = (
        T.dynamic(name)
        for name in ("batch", "seqlen", "kv_heads", "q_heads", "windows", "tiles", "works")
    )
    planned_walk = lists == ("union",)
    tiles = planned if planned_walk else T.ceildiv(N, queries)
    works = listed if planned_walk else tiles * H * B

    @T.macro
    def advance(at):
        """From a CTA's tile to its next: at = [tile from the end, KV head, batch]."""
        at[0] += sms
        if at[0] >= tiles:  # divisions take as long as a step: only where a head is done
            at[1] += T.truncdiv(at[0], tiles)
            at[0] = T.truncmod(at[0], tiles)
            if at[1] >= H:
                at[2] += T.truncdiv(at[1], H)
                at[1] = T.truncmod(at[1], H)

    @T.macro
    def begin(at, cta):
        at[0] = cta - sms
        at[1] = 0
        at[2] = 0
        advance(at)

    def reach(name, t):
        """Keys before this one are in sight of query t."""
        if name == "prefix":
            return T.min(seen(t, kernel, stride), W)
        return T.min(t + 1, N) if causal else N

    def first(name, tile):
        """The first key of a dense list."""
        return T.max(tile * queries + 1 - window, 0) // KEYS * KEYS if name == "window" else 0

    def steps(name, Size, b, h, tile):
        """Length of the tile's list; negative: the tile is not for this program."""
        if name == "union":
            return (Size[b, h, tile, 1] + pair - 1) >> (pair.bit_length() - 1)
        keys = reach(name, tile * queries + queries - 1) - first(name, tile)
        return (keys + KEYS - 1) // KEYS

    def start(name, Ids, b, h, tile, n, part=0):
        """First key of step n, or of its second block."""
        return Ids[b, h, tile, pair * n + part] if name == "union" else first(name, tile) + n * KEYS

    def partly(name, Size, b, h, tile, n, k0):
        """Whether some query of the tile does not see all keys of step n."""
        if name == "union":
            return pair * n + pair > Size[b, h, tile, 0]
        unseen = k0 + KEYS > reach(name, tile * queries)
        return unseen | (k0 < (tile + 1) * queries - window) if name == "window" else unseen

    @T.macro
    def fetch(name: str, X, x_s, full, b, h, s, k0, k1):
        if name == "union" and pair == 2:
            # In pieces of 64 columns, as a tile's swizzled halves of 64 lie one after the other.
            for c in T.unroll(dim // 64):
                T.tma_copy(
                    X[b, k0 : k0 + block, h, c * 64 : c * 64 + 64],
                    x_s[s, 0:block, c * 64 : c * 64 + 64],
                    barrier=full[s],
                )
                T.tma_copy(
                    X[b, k1 : k1 + block, h, c * 64 : c * 64 + 64],
                    x_s[s, block:KEYS, c * 64 : c * 64 + 64],
                    barrier=full[s],
                )
        else:
            T.tma_copy(X[b, k0 : k0 + KEYS, h, :], x_s[s, :, :], barrier=full[s])
        T.mbarrier_arrive(full[s])

    @T.macro
    def fetch_q(ring, number, tile, h, b, Q):
        """The tile's rows, query by query; `number` counts the tiles before."""
        T.mbarrier_wait_parity(ring.q_empty[0], (number & 1) ^ 1)
        for i in T.unroll(queries):
            for c in T.unroll(dim // 64):
                T.tma_copy(
                    Q[
                        b,
                        tile * queries + i,
                        h * group : h * group + group,
                        c * 64 : c * 64 + 64,
                    ],
                    ring.q[i * group : i * group + group, c * 64 : c * 64 + 64],
                    barrier=ring.q_full[0],
                )
        T.mbarrier_arrive(ring.q_full[0])

    @T.macro
    def produce(name: str, ring, count, total, tile, h, b, K, V, Ids):
        for n in T.serial(total):
            s = (count + n) & last
            parity = (((count + n) >> shift) & 1) ^ 1
            k0 = start(name, Ids, b, h, tile, n)
            k1 = start(name, Ids, b, h, tile, n, pair - 1)
            T.mbarrier_wait_parity(ring.k_empty[s], parity)
            fetch(name, K, ring.k, ring.k_full, b, h, s, k0, k1)
            T.mbarrier_wait_parity(ring.v_empty[s], parity)
            fetch(name, V, ring.v, ring.v_full, b, h, s, k0, k1)

    @T.macro
    def hide(rows, j0: int, count):
        """Of a block's scores, from column j0 on, only the first `count` stay."""
        if count < block:
            for i, j in T.Parallel(height, block):
                rows.scores[i, j0 + j] = T.if_then_else(
                    j < count, rows.scores[i, j0 + j], -T.infinity("float32")
                )

    @T.macro
    def mask(name: str, rows, tile, k0, k1, bits0, bits1):
        """Scores of keys that a row does not see become -inf."""
        if name == "union":
            # A warp's 16 rows belong to one query: mostly it sees all keys of a block or none.
            mine = (T.get_thread_binding() // 32 - 4) * 16 // group
            end = reach(name, tile * queries + mine)
            hide(rows, 0, T.if_then_else(((bits0 >> mine) & 1) > 0, end - k0, 0))
            if pair == 2:
                hide(rows, block, T.if_then_else(((bits1 >> mine) & 1) > 0, end - k1, 0))
        else:
            for i in T.Parallel(height):
                rows.low[i] = tile * queries + i // group + 1 - window - k0
                rows.high[i] = reach(name, tile * queries + i // group) - k0
            for i, j in T.Parallel(height, KEYS):
                visible = j < rows.high[i]
                if name == "window":
                    visible = visible & (j >= rows.low[i])
                rows.scores[i, j] = T.if_then_else(
                    visible, rows.scores[i, j], -T.infinity("float32")
                )

    @T.macro
    def weigh(rows, scale):
        """Scores become weights; `factor` is for the sums of the steps before."""
        T.copy(rows.row_max, rows.new_max)
        T.reduce_max(rows.scores, rows.new_max, dim=1, clear=False)
        for i in T.Parallel(height):
            rows.factor[i] = T.exp2((rows.row_max[i] - rows.new_max[i]) * scale)
        for i, j in T.Parallel(height, KEYS):
            rows.scores[i, j] = T.exp2(rows.scores[i, j] * scale - rows.new_max[i] * scale)
        T.reduce_sum(rows.scores, rows.tile_sum, dim=1)
        for i in T.Parallel(height):
            rows.row_sum[i] = rows.row_sum[i] * rows.factor[i] + rows.tile_sum[i]
        T.copy(rows.new_max, rows.row_max)

    @T.macro
    def look(name: str, rows, where, tile, n, h, b, Ids, Masks):
        """Which keys step n stands for; early, so that nobody waits for it later."""
        where[0] = start(name, Ids, b, h, tile, n)
        if name == "union":
            where[1] = Ids[b, h, tile, pair * n + pair - 1]
            where[2] = Masks[b, h, tile, pair * n]
            where[3] = Masks[b, h, tile, pair * n + pair - 1]

    @T.macro
    def weights(name: str, rows, where, tile, n, h, b, Size, scale):
        if partly(name, Size, b, h, tile, n, where[0]):
            mask(name, rows, tile, where[0], where[1], where[2], where[3])
        weigh(rows, scale)

    @T.macro
    def walk(name: str, ring, rows, where, count, total, tile, h, b, Ids, Masks, Size, scale):
        """The tile's attention over a list, not yet divided by row_sum, into acc."""
        which = T.get_thread_binding() // 128 - 1
        T.fill(rows.row_max, _tile.FLOOR)
        T.fill(rows.row_sum, 0)
        T.fill(rows.acc, 0)
        if total > 0:
            s0 = count & last
            look(name, rows, where, tile, 0, h, b, Ids, Masks)
            T.mbarrier_wait_parity(ring.k_full[s0], (count >> shift) & 1)
            T.wgmma_gemm(
                ring.q, ring.k[s0, :, :], rows.scores, transpose_B=True, policy=FULL,
                clear_accum=True,
            )  # fmt: skip
            T.wait_wgmma(0)
            release(ring.k_empty, s0)
            weights(name, rows, where, tile, 0, h, b, Size, scale)
            T.copy(rows.scores, rows.p)
            for n in T.serial(1, total):
                s = (count + n) & last
                s1 = (count + n - 1) & last  # of the step before
                look(name, rows, where, tile, n, h, b, Ids, Masks)
                T.mbarrier_wait_parity(ring.k_full[s], ((count + n) >> shift) & 1)
                T.sync_threads(TURN + which, 256)
                T.wgmma_gemm(
                    ring.q, ring.k[s, :, :], rows.scores, transpose_B=True, policy=FULL,
                    clear_accum=True,
                )  # fmt: skip
                T.mbarrier_wait_parity(ring.v_full[s1], ((count + n - 1) >> shift) & 1)
                T.wgmma_gemm(rows.p, ring.v[s1, :, :], rows.acc, policy=FULL)
                T.named_barrier_arrive(TURN + T.truncmod(which + 1, consumers), 256)
                T.wait_wgmma(1)
                release(ring.k_empty, s)
                weights(name, rows, where, tile, n, h, b, Size, scale)
                T.wait_wgmma(0)
                release(ring.v_empty, s1)
                for i, j in T.Parallel(height, dim):
                    rows.acc[i, j] *= rows.factor[i]
                T.copy(rows.scores, rows.p)
            if name != "prefix":
                release(ring.q_empty, 0)
            s2 = (count + total - 1) & last
            T.mbarrier_wait_parity(ring.v_full[s2], ((count + total - 1) >> shift) & 1)
            T.wgmma_gemm(rows.p, ring.v[s2, :, :], rows.acc, policy=FULL)
            T.wait_wgmma(0)
            release(ring.v_empty, s2)
        elif name == "union":
            release(ring.q_empty, 0)

    @T.macro
    def finish(rows, tile, h, b, Gate):
        """acc becomes the attention output, times the gate if there is one."""
        for i in T.Parallel(height):
            rows.factor[i] = 1.0 / T.max(rows.row_sum[i], _tile.TINY)
        if gated:
            for i in T.Parallel(height):
                t = T.min(tile * queries + i // group, N - 1)
                rows.factor[i] *= T.cast(Gate[b, t, h * group + i % group], "float32")
        for i, j in T.Parallel(height, dim):
            rows.acc[i, j] *= rows.factor[i]

    @T.macro
    def save(rows, out_s, tile, h, b, Out):
        T.sync_threads(BOTH, everyone)  # nobody reads out_s any longer
        T.copy(rows.acc, out_s)
        T.sync_threads(BOTH, everyone)
        for i, j in T.Parallel(height, dim):
            if tile * queries + i // group < N:
                Out[b, tile * queries + i // group, h * group + i % group, j] = out_s[i, j]

    @T.macro
    def allocate():
        scores = T.alloc_fragment((height, KEYS), "float32")
        p = T.alloc_fragment((height, KEYS), half)
        acc = T.alloc_fragment((height, dim), "float32")
        row_max = T.alloc_fragment((height,), "float32")
        new_max = T.alloc_fragment((height,), "float32")
        factor = T.alloc_fragment((height,), "float32")
        row_sum = T.alloc_fragment((height,), "float32")
        tile_sum = T.alloc_fragment((height,), "float32")
        low = T.alloc_fragment((height,), "int32")
        high = T.alloc_fragment((height,), "int32")
        return Rows(scores, p, acc, row_max, new_max, factor, row_sum, tile_sum, low, high)

    @T.macro
    def make_ring():
        q = T.alloc_shared((height, dim), half)
        k = T.alloc_shared((stages, KEYS, dim), half)
        v = T.alloc_shared((stages, KEYS, dim), half)
        q_full = T.alloc_barrier([128])
        k_full = T.alloc_barrier([128] * stages)
        v_full = T.alloc_barrier([128] * stages)
        q_empty = T.alloc_barrier([4 * consumers])
        k_empty = T.alloc_barrier([4 * consumers] * stages)
        v_empty = T.alloc_barrier([4 * consumers] * stages)
        return Ring(q, k, v, q_full, k_full, v_full, q_empty, k_empty, v_empty)

    @T.macro
    def unions(Q, K, V, Ids, Masks, Size, Works, Count, Gate, Out, scale):
        with T.Kernel(sms, threads=128 + everyone) as cta:
            ring = make_ring()
            out_s = T.alloc_shared((height, dim), half)
            with T.ws(0):
                T.dec_max_nreg(producer_regs)
                count = T.alloc_var("int32", init=0)
                tile = T.alloc_var("int32")
                h = T.alloc_var("int32")
                b = T.alloc_var("int32")
                total = T.alloc_var("int32")
                for turn in T.serial(T.truncdiv(Count[0] - cta + sms - 1, sms)):
                    tile = Works[turn * sms + cta, 0]
                    h = Works[turn * sms + cta, 1]
                    b = Works[turn * sms + cta, 2]
                    total = (Works[turn * sms + cta, 3] + pair - 1) >> (pair.bit_length() - 1)
                    fetch_q(ring, turn, tile, h, b, Q)
                    produce("union", ring, count, total, tile, h, b, K, V, Ids)
                    count = count + total
            with T.ws(*range(1, 1 + consumers)):
                T.inc_max_nreg(consumer_regs)
                rows = allocate()
                where = T.alloc_local((4,), "int32")
                count = T.alloc_var("int32", init=0)
                tile = T.alloc_var("int32")
                h = T.alloc_var("int32")
                b = T.alloc_var("int32")
                total = T.alloc_var("int32")
                if T.get_thread_binding() >= everyone:
                    T.named_barrier_arrive(TURN, 256)
                for turn in T.serial(T.truncdiv(Count[0] - cta + sms - 1, sms)):
                    tile = Works[turn * sms + cta, 0]
                    h = Works[turn * sms + cta, 1]
                    b = Works[turn * sms + cta, 2]
                    total = (Works[turn * sms + cta, 3] + pair - 1) >> (pair.bit_length() - 1)
                    T.mbarrier_wait_parity(ring.q_full[0], turn & 1)
                    walk(
                        "union", ring, rows, where, count, total, tile, h, b, Ids, Masks, Size,
                        scale,
                    )  # fmt: skip
                    count = count + total
                    finish(rows, tile, h, b, Gate)
                    if adds:
                        for i, j in T.Parallel(height, dim):
                            t = T.min(tile * queries + i // group, N - 1)
                            rows.acc[i, j] += Out[b, t, h * group + i % group, j]
                    save(rows, out_s, tile, h, b, Out)

    @T.macro
    def branches(Q, MeanK, MeanV, K, V, GCmp, GSwa, Out, Lse, scale):
        with T.Kernel(sms, threads=128 + everyone) as cta:
            ring = make_ring()
            out_s = T.alloc_shared((height, dim), half)
            with T.ws(0):
                T.dec_max_nreg(producer_regs)
                count = T.alloc_var("int32", init=0)
                tile = T.alloc_var("int32")
                h = T.alloc_var("int32")
                b = T.alloc_var("int32")
                at = T.alloc_local((3,), "int32")
                begin(at, cta)
                for turn in T.serial(T.truncdiv(works - cta + sms - 1, sms)):
                    tile = tiles - 1 - at[0]
                    h = at[1]
                    b = at[2]
                    advance(at)
                    total = steps("prefix", None, b, h, tile)
                    fetch_q(ring, turn, tile, h, b, Q)
                    produce("prefix", ring, count, total, tile, h, b, MeanK, MeanV, None)
                    count = count + total
                    total2 = steps("window", None, b, h, tile)
                    produce("window", ring, count, total2, tile, h, b, K, V, None)
                    count = count + total2
            with T.ws(*range(1, 1 + consumers)):
                T.inc_max_nreg(consumer_regs)
                rows = allocate()
                where = T.alloc_local((4,), "int32")
                count = T.alloc_var("int32", init=0)
                tile = T.alloc_var("int32")
                h = T.alloc_var("int32")
                b = T.alloc_var("int32")
                at = T.alloc_local((3,), "int32")
                begin(at, cta)
                if T.get_thread_binding() >= everyone:
                    T.named_barrier_arrive(TURN, 256)
                for turn in T.serial(T.truncdiv(works - cta + sms - 1, sms)):
                    tile = tiles - 1 - at[0]
                    h = at[1]
                    b = at[2]
                    advance(at)
                    total = steps("prefix", None, b, h, tile)
                    T.mbarrier_wait_parity(ring.q_full[0], turn & 1)
                    walk(
                        "prefix", ring, rows, where, count, total, tile, h, b, None, None, None,
                        scale,
                    )  # fmt: skip
                    count = count + total
                    for i in T.Parallel(height):
                        t = tile * queries + i // group
                        if t < N:
                            Lse[b, h * group + i % group, t] = rows.row_max[i] * scale + T.log2(
                                T.max(rows.row_sum[i], _tile.TINY)
                            )
                    finish(rows, tile, h, b, GCmp)
                    T.sync_threads(BOTH, everyone)  # nobody reads out_s any longer
                    T.copy(rows.acc, out_s)
                    total2 = steps("window", None, b, h, tile)
                    walk(
                        "window", ring, rows, where, count, total2, tile, h, b, None, None, None,
                        scale,
                    )  # fmt: skip
                    count = count + total2
                    finish(rows, tile, h, b, GSwa)
                    T.sync_threads(BOTH, everyone)
                    for i, j in T.Parallel(height, dim):
                        rows.acc[i, j] += out_s[i, j]
                    save(rows, out_s, tile, h, b, Out)

    if lists == ("prefix", "window"):

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
            branches(Q, MeanK, MeanV, K, V, GCmp, GSwa, Out, Lse, scale)

        return dense_walk

    if adds:

        @T.prim_func
        def union_walk_gated(
            Q: T.Tensor((B, N, HQ, dim), half),
            K: T.Tensor((B, N, H, dim), half),
            V: T.Tensor((B, N, H, dim), half),
            Ids: T.Tensor((B, H, tiles, entries), "int32"),
            Masks: T.Tensor((B, H, tiles, entries), "int32"),
            Size: T.Tensor((B, H, tiles, 2), "int32"),
            Works: T.Tensor((works, 4), "int32"),
            Count: T.Tensor((2,), "int32"),
            Gate: T.Tensor((B, N, HQ), half),
            Out: T.Tensor((B, N, HQ, dim), half),
            scale: T.float32,
        ):
            unions(Q, K, V, Ids, Masks, Size, Works, Count, Gate, Out, scale)

        return union_walk_gated

    @T.prim_func
    def union_walk(
        Q: T.Tensor((B, N, HQ, dim), half),
        K: T.Tensor((B, N, H, dim), half),
        V: T.Tensor((B, N, H, dim), half),
        Ids: T.Tensor((B, H, tiles, entries), "int32"),
        Masks: T.Tensor((B, H, tiles, entries), "int32"),
        Size: T.Tensor((B, H, tiles, 2), "int32"),
        Works: T.Tensor((works, 4), "int32"),
        Count: T.Tensor((2,), "int32"),
        Out: T.Tensor((B, N, HQ, dim), half),
        scale: T.float32,
    ):
        unions(Q, K, V, Ids, Masks, Size, Works, Count, None, Out, scale)

    return union_walk


@program(writes=("Out",), pass_configs=MANUAL)
def union(D, **static):
    """Out = attention over the blocks of the plan (of _union.py), for the tiles that it holds.

    (Q [B, N, HQ, dim], K, V [B, N, H, dim], Ids, Masks [B, H, tiles, entries], Size
    [B, H, tiles, 2], Works [tiles of all, 4], Count [2], Out like Q, scale)
    """
    return _build(D, lists=("union",), adds=False, **static)


@program(writes=("Out",), pass_configs=MANUAL)
def union_gated(D, **static):
    """Out += gate * that; (Q, K, V, ..., Count as above, Gate [B, N, HQ], Out, scale)."""
    return _build(D, lists=("union",), adds=True, **static)


@program(writes=("Out", "Lse"), pass_configs=MANUAL)
def dense(D, **static):
    """`_dense.compressed` and `_dense.sliding` in one.

    (Q [B, N, HQ, dim], MeanK, MeanV [B, W, H, dim], K, V [B, N, H, dim], GCmp, GSwa [B, N, HQ],
    Out like Q, Lse [B, HQ, N], scale)
    """
    return _build(D, lists=("prefix", "window"), adds=False, **static)
