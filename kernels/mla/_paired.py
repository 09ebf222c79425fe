"""Split-KV attention for blocks of 64 rows on Hopper, two tiles of keys at a time.

The sums of 64 rows, 64 x 512 in fp32, are half of a processor's registers: each of two warpgroups
holds 256 of the columns. Scores are not split that way, each warpgroup takes those of one tile:
its rows' maxima then need no other warps, and the queries are read once a tile, not twice. Weights
go to the other warpgroup through the rotary part of the tile, which is done with by then. A third
warpgroup loads. See DESIGN.md.
"""

from dataclasses import dataclass
from typing import Any

import tilelang.language as T

from ..common.dialect import BY_ROLE, program
from ._combine import LOG2E, LOWEST, ROOM, column_blocks, merge_parts
from ._decode import share

PASSES = {
    **BY_ROLE,
    "tl.disable_data_race_check": True,
    "tl.enable_fast_math": True,
    "tl.enable_aggressive_shared_memory_merge": True,  # the outputs take the tiles' place
}
BLOCK_H = 64
BLOCK_N = 64
GROUP = 128  # threads of a warpgroup
BARRIER = 8  # named barrier of both consumer warpgroups


@dataclass
class Tile:
    """What the warpgroups of a CTA share."""

    half: int  # columns of one warpgroup
    pe_dim: int
    q: Any  # two of [BLOCK_H, half]
    q_pe: Any  # [BLOCK_H, pe_dim]
    kv: Any  # of each tile two of [BLOCK_N, half]
    k_pe: Any  # of each tile [BLOCK_N, pe_dim]: rotary keys, then weights [BLOCK_H, BLOCK_N]
    row_top: Any  # of each warpgroup [BLOCK_H], fp32
    queries: Any  # barrier: the queries have come
    full: Any  # [2] barriers: a tile has come
    free: Any  # [2] barriers: a tile is done with


@dataclass
class Sums:
    """The registers of one consumer warpgroup."""

    scores: Any  # [BLOCK_H, BLOCK_N]: raw scores, then weights
    acc: Any  # [BLOCK_H, half]
    tile_sum: Any  # [BLOCK_H], as all below
    total: Any
    top: Any
    before: Any
    fade: Any
    seen: Any  # int32: how many keys, from the first on, a row sees


@T.macro
def working_set(dim, pe_dim, dtype):
    q_l = T.alloc_shared((BLOCK_H, dim // 2), dtype)
    q_r = T.alloc_shared((BLOCK_H, dim // 2), dtype)
    q_pe = T.alloc_shared((BLOCK_H, pe_dim), dtype)
    kv0_l = T.alloc_shared((BLOCK_N, dim // 2), dtype)
    kv0_r = T.alloc_shared((BLOCK_N, dim // 2), dtype)
    kv1_l = T.alloc_shared((BLOCK_N, dim // 2), dtype)
    kv1_r = T.alloc_shared((BLOCK_N, dim // 2), dtype)
    k_pe0 = T.alloc_shared((BLOCK_N, pe_dim), dtype)
    k_pe1 = T.alloc_shared((BLOCK_N, pe_dim), dtype)
    row_top0 = T.alloc_shared((BLOCK_H,), "float32", "shared")  # static: not to be overlaid
    row_top1 = T.alloc_shared((BLOCK_H,), "float32", "shared")
    queries = T.alloc_barrier(GROUP)
    full = T.alloc_barrier([GROUP, GROUP])
    free = T.alloc_barrier([2 * GROUP // 32, 2 * GROUP // 32])  # one lane of each warp
    return Tile(
        dim // 2, pe_dim, (q_l, q_r), q_pe, ((kv0_l, kv0_r), (kv1_l, kv1_r)), (k_pe0, k_pe1),
        (row_top0, row_top1), queries, full, free,
    )  # fmt: skip


@T.macro
def sums(half):
    scores = T.alloc_fragment((BLOCK_H, BLOCK_N), "float32")
    acc = T.alloc_fragment((BLOCK_H, half), "float32")
    tile_sum = T.alloc_fragment((BLOCK_H,), "float32")
    total = T.alloc_fragment((BLOCK_H,), "float32")
    top = T.alloc_fragment((BLOCK_H,), "float32")
    before = T.alloc_fragment((BLOCK_H,), "float32")
    fade = T.alloc_fragment((BLOCK_H,), "float32")
    seen = T.alloc_fragment((BLOCK_H,), "int32")
    return Sums(scores, acc, tile_sum, total, top, before, fade, seen)


def first_key(split, splits, tile):
    """Of the split's tile number `tile`."""
    return (split + tile * splits) * BLOCK_N


@T.macro
def load_queries(t, Q, QPe, pe_column, b, row0):
    """Rows past the last come as zeros."""
    T.tma_copy(Q[b, row0 : row0 + BLOCK_H, 0 : t.half], t.q[0], barrier=t.queries)
    T.tma_copy(Q[b, row0 : row0 + BLOCK_H, t.half : 2 * t.half], t.q[1], barrier=t.queries)
    T.tma_copy(
        QPe[b, row0 : row0 + BLOCK_H, pe_column : pe_column + t.pe_dim], t.q_pe, barrier=t.queries
    )
    T.barrier_arrive(t.queries)


@T.macro
def load_tile(t, w, Kv, KPe, pe_column, slab, row, pair):
    T.barrier_wait(t.free[w], (pair & 1) ^ 1)
    T.tma_copy(Kv[slab, row : row + BLOCK_N, 0, 0 : t.half], t.kv[w][0], barrier=t.full[w])
    T.tma_copy(Kv[slab, row : row + BLOCK_N, 0, t.half : 2 * t.half], t.kv[w][1], barrier=t.full[w])
    T.tma_copy(
        KPe[slab, row : row + BLOCK_N, 0, pe_column : pe_column + t.pe_dim],
        t.k_pe[w],
        barrier=t.full[w],
    )
    T.barrier_arrive(t.full[w])


@T.macro
def load_dense(t, Kv, KPe, b, split, splits, pairs):
    """Keys past the last come as zeros."""
    for i in T.serial(pairs):
        load_tile(t, 0, Kv, KPe, 0, b, first_key(split, splits, 2 * i), i)
        load_tile(t, 1, Kv, KPe, 0, b, first_key(split, splits, 2 * i + 1), i)


@T.macro
def load_paged(t, Cache, BlockTable, page, b, split, splits, count, pairs):
    """Page numbers of the next pair are fetched while this one loads. A pair's second tile that
    does not exist is loaded from the page of the first; its keys are seen by no row."""
    number = T.alloc_local((4,), "int32")
    for w in T.unroll(2):
        if w < count:
            number[2 + w] = BlockTable[b, first_key(split, splits, w) // page]
    for i in T.serial(pairs):
        number[0] = number[2]
        number[1] = T.if_then_else(2 * i + 1 < count, number[3], number[2])
        for w in T.unroll(2):
            if 2 * i + 2 + w < count:
                number[2 + w] = BlockTable[b, first_key(split, splits, 2 * i + 2 + w) // page]
        key0 = first_key(split, splits, 2 * i)
        load_tile(t, 0, Cache, Cache, 2 * t.half, number[0], key0 % page, i)
        load_tile(t, 1, Cache, Cache, 2 * t.half, number[1], (key0 + splits * BLOCK_N) % page, i)


@T.macro
def attend(t, s, w, row0, heads, length, hidden, split, splits, pairs, scale2, poisoned):
    """Consumer warpgroup `w`: scores of every pair's tile `w`, sums of columns `w` of both."""
    T.fill(s.top, LOWEST)
    T.clear(s.total)
    T.clear(s.acc)
    for r in T.Parallel(BLOCK_H):
        s.seen[r] = T.min(length, length - hidden + T.truncdiv(row0 + r, heads))
    T.barrier_wait(t.queries, 0)
    for i in T.serial(pairs):
        key0 = first_key(split, splits, 2 * i + w)
        T.barrier_wait(t.full[w], i & 1)
        T.wgmma_gemm(t.q[0], t.kv[w][0], s.scores, transpose_B=True, clear_accum=True)
        T.wgmma_gemm(t.q[1], t.kv[w][1], s.scores, transpose_B=True)
        T.wgmma_gemm(t.q_pe, t.k_pe[w], s.scores, transpose_B=True)
        T.wait_wgmma(0)
        if key0 + BLOCK_N > length - hidden:
            for r, j in T.Parallel(BLOCK_H, BLOCK_N):
                s.scores[r, j] = T.if_then_else(
                    key0 + j < s.seen[r], s.scores[r, j], -T.infinity("float32")
                )
        if poisoned:  # noqa: SIM102  (known while tracing; the next is not)
            if key0 + BLOCK_N > length:
                for j, d in T.Parallel(BLOCK_N, t.half):
                    if key0 + j >= length:
                        t.kv[w][0][j, d] = 0
                        t.kv[w][1][j, d] = 0
        T.copy(s.top, s.before)
        T.reduce_max(s.scores, s.top, dim=1, clear=False)
        T.copy(s.top, t.row_top[w])
        T.sync_threads(BARRIER, 2 * GROUP)
        for r in T.Parallel(BLOCK_H):
            s.top[r] = T.max(s.top[r], t.row_top[1 - w][r])
        for r in T.Parallel(BLOCK_H):
            s.fade[r] = T.exp2((s.before[r] - s.top[r]) * scale2)
        for r, j in T.Parallel(BLOCK_H, BLOCK_N):
            s.scores[r, j] = T.exp2(s.scores[r, j] * scale2 - s.top[r] * scale2)
        T.copy(s.scores, t.k_pe[w])
        T.fence_proxy_async()
        T.reduce_sum(s.scores, s.tile_sum, dim=1)
        for r in T.Parallel(BLOCK_H):
            s.total[r] = s.total[r] * s.fade[r] + s.tile_sum[r]
        for r, d in T.Parallel(BLOCK_H, t.half):
            s.acc[r, d] = s.acc[r, d] * s.fade[r]
        T.sync_threads(BARRIER, 2 * GROUP)
        T.wgmma_gemm(t.k_pe[0], t.kv[0][w], s.acc)
        T.wgmma_gemm(t.k_pe[1], t.kv[1][w], s.acc)
        T.wait_wgmma(1)
        if T.get_thread_binding() % 32 == 0:
            T.barrier_arrive(t.free[0])
        T.wait_wgmma(0)
        if T.get_thread_binding() % 32 == 0:
            T.barrier_arrive(t.free[1])
    # The sum of weights is over both warpgroups' tiles.
    T.copy(s.total, t.row_top[w])
    T.sync_threads(BARRIER, 2 * GROUP)
    for r in T.Parallel(BLOCK_H):
        s.total[r] = s.total[r] + t.row_top[1 - w][r]


@T.macro
def finish(t, s, w, b, row0, rows, heads, scale2, sent, Out, Lse):
    """Write columns `w` of the output, through the tiles' place, and of one warpgroup the Lse."""
    for r, d in T.Parallel(BLOCK_H, t.half):
        sent[r, d] = T.if_then_else(s.total[r] > 0, s.acc[r, d] / s.total[r], 0)
    T.fence_proxy_async()
    T.sync_threads(BARRIER + 1 + w, GROUP)
    T.tma_copy(sent, Out[b, row0 : row0 + BLOCK_H, w * t.half : (w + 1) * t.half])
    T.tma_store_wait(0)
    if w == 0 and Lse is not None:
        for r in T.Parallel(BLOCK_H):
            if row0 + r < rows:
                Lse[b, T.truncmod(row0 + r, heads), T.truncdiv(row0 + r, heads)] = T.if_then_else(
                    s.total[r] > 0,
                    (s.top[r] * scale2 + T.log2(s.total[r])) / LOG2E,
                    -T.infinity("float32"),
                )


@T.macro
def finish_part(t, s, w, b, x, split, scale2, Part):
    """Write columns `w` of the sums, and of one warpgroup what the rows weigh."""
    width = 2 * t.half + ROOM
    for r, d in T.Parallel(BLOCK_H, t.half):
        Part[b, split, x, r * width + w * t.half + d] = s.acc[r, d]
    if w == 0:
        for r in T.Parallel(BLOCK_H):
            Part[b, split, x, r * width + 2 * t.half] = s.top[r] * scale2
            Part[b, split, x, r * width + 2 * t.half + 1] = s.total[r]


@program(writes=("Out",), pass_configs=PASSES)
def dense_whole(D, *, dim, pe_dim, dtype):
    """Without splits. Q [B, Hq, dim], QPe [B, Hq, pe_dim], Kv [B, S, 1, dim], KPe
    [B, S, 1, pe_dim] -> Out [B, Hq, dim]."""
    batch, keys, heads = T.dynamic("batch"), T.dynamic("keys"), T.dynamic("heads")

    @T.prim_func
    def main(
        Q: T.Tensor((batch, heads, dim), dtype),
        QPe: T.Tensor((batch, heads, pe_dim), dtype),
        Kv: T.Tensor((batch, keys, 1, dim), dtype),
        KPe: T.Tensor((batch, keys, 1, pe_dim), dtype),
        Out: T.Tensor((batch, heads, dim), dtype),
        scale: T.float32,
    ):
        with T.Kernel(T.ceildiv(heads, BLOCK_H), batch, threads=3 * GROUP) as (x, b):
            t = working_set(dim, pe_dim, dtype)
            s0 = sums(dim // 2)
            s1 = sums(dim // 2)
            sent0 = T.alloc_shared((BLOCK_H, dim // 2), dtype)
            sent1 = T.alloc_shared((BLOCK_H, dim // 2), dtype)
            pairs = T.ceildiv(keys, 2 * BLOCK_N)
            T.pdl_sync()
            if T.get_thread_binding() >= 2 * GROUP:
                T.set_max_nreg(24, 0)
                load_queries(t, Q, QPe, 0, b, x * BLOCK_H)
                load_dense(t, Kv, KPe, b, 0, 1, pairs)
            elif T.get_thread_binding() < GROUP:
                T.set_max_nreg(240, 1)
                attend(t, s0, 0, x * BLOCK_H, heads, keys, 0, 0, 1, pairs, scale * LOG2E, False)
                finish(t, s0, 0, b, x * BLOCK_H, heads, heads, scale * LOG2E, sent0, Out, None)
            else:
                T.set_max_nreg(240, 1)
                attend(t, s1, 1, x * BLOCK_H, heads, keys, 0, 0, 1, pairs, scale * LOG2E, False)
                finish(t, s1, 1, b, x * BLOCK_H, heads, heads, scale * LOG2E, sent1, Out, None)

    return main


@program(writes=("Part", "Out"), pass_configs=PASSES)
def dense_parts(D, *, dim, pe_dim, dtype, block_d, threads, groups, unroll):
    """As dense_whole, in splits. Part [B, splits, row blocks, BLOCK_H * (dim + ROOM)]: scratch."""
    batch, keys, heads = T.dynamic("batch"), T.dynamic("keys"), T.dynamic("heads")
    splits, blocks = T.dynamic("splits"), T.dynamic("blocks")
    per_row = column_blocks(dim, block_d)

    @T.prim_func
    def main(
        Q: T.Tensor((batch, heads, dim), dtype),
        QPe: T.Tensor((batch, heads, pe_dim), dtype),
        Kv: T.Tensor((batch, keys, 1, dim), dtype),
        KPe: T.Tensor((batch, keys, 1, pe_dim), dtype),
        Part: T.Tensor((batch, splits, blocks, BLOCK_H * (dim + ROOM)), "float32"),
        Out: T.Tensor((batch, heads, dim), dtype),
        scale: T.float32,
    ):
        with T.Kernel(T.ceildiv(heads, BLOCK_H), splits, batch, threads=3 * GROUP) as (x, split, b):
            t = working_set(dim, pe_dim, dtype)
            s0 = sums(dim // 2)
            s1 = sums(dim // 2)
            pairs = (share(T.ceildiv(keys, BLOCK_N), split, splits) + 1) // 2
            T.pdl_sync()
            T.pdl_trigger()
            if T.get_thread_binding() >= 2 * GROUP:
                T.set_max_nreg(24, 0)
                load_queries(t, Q, QPe, 0, b, x * BLOCK_H)
                load_dense(t, Kv, KPe, b, split, splits, pairs)
            elif T.get_thread_binding() < GROUP:
                T.set_max_nreg(240, 1)
                attend(
                    t, s0, 0, x * BLOCK_H, heads, keys, 0, split, splits, pairs, scale * LOG2E,
                    False,
                )  # fmt: skip
                finish_part(t, s0, 0, b, x, split, scale * LOG2E, Part)
            else:
                T.set_max_nreg(240, 1)
                attend(
                    t, s1, 1, x * BLOCK_H, heads, keys, 0, split, splits, pairs, scale * LOG2E,
                    False,
                )  # fmt: skip
                finish_part(t, s1, 1, b, x, split, scale * LOG2E, Part)
        with T.Kernel(per_row, heads, batch, threads=threads) as (column, row, b):
            T.pdl_sync()
            T.pdl_trigger()
            merge_parts(
                D, Part, b, row, splits, BLOCK_H, column * block_d, dim, block_d, groups, unroll,
                Out, None, heads,
            )  # fmt: skip

    return main


@program(writes=("Out", "Lse"), pass_configs=PASSES)
def paged_whole(D, *, dim, pe_dim, page, dtype):
    """Without splits. Q [B, Sq * Hq, dim + pe_dim], Cache [pages, page, 1, dim + pe_dim],
    BlockTable [B, max_pages], SeqLens [B] -> Out [B, Sq * Hq, dim], Lse [B, Hq, Sq]. `causal` is 1
    or 0."""
    assert page % BLOCK_N == 0
    batch, pages, max_pages = T.dynamic("batch"), T.dynamic("pages"), T.dynamic("max_pages")
    rows, heads, q_len = T.dynamic("rows"), T.dynamic("heads"), T.dynamic("q_len")

    @T.prim_func
    def main(
        Q: T.Tensor((batch, rows, dim + pe_dim), dtype),
        Cache: T.Tensor((pages, page, 1, dim + pe_dim), dtype),
        BlockTable: T.Tensor((batch, max_pages), "int32"),
        SeqLens: T.Tensor((batch,), "int32"),
        Out: T.Tensor((batch, rows, dim), dtype),
        Lse: T.Tensor((batch, heads, q_len), "float32"),
        scale: T.float32,
        causal: T.int32,
    ):
        with T.Kernel(T.ceildiv(rows, BLOCK_H), batch, threads=3 * GROUP) as (x, b):
            t = working_set(dim, pe_dim, dtype)
            s0 = sums(dim // 2)
            s1 = sums(dim // 2)
            sent0 = T.alloc_shared((BLOCK_H, dim // 2), dtype)
            sent1 = T.alloc_shared((BLOCK_H, dim // 2), dtype)
            T.pdl_sync()
            length = SeqLens[b]
            hidden = causal * (q_len - 1)
            count = T.ceildiv(length, BLOCK_N)
            pairs = (count + 1) // 2
            if T.get_thread_binding() >= 2 * GROUP:
                T.set_max_nreg(24, 0)
                load_queries(t, Q, Q, dim, b, x * BLOCK_H)
                load_paged(t, Cache, BlockTable, page, b, 0, 1, count, pairs)
            elif T.get_thread_binding() < GROUP:
                T.set_max_nreg(240, 1)
                attend(
                    t, s0, 0, x * BLOCK_H, heads, length, hidden, 0, 1, pairs, scale * LOG2E, True
                )
                finish(t, s0, 0, b, x * BLOCK_H, rows, heads, scale * LOG2E, sent0, Out, Lse)
            else:
                T.set_max_nreg(240, 1)
                attend(
                    t, s1, 1, x * BLOCK_H, heads, length, hidden, 0, 1, pairs, scale * LOG2E, True
                )
                finish(t, s1, 1, b, x * BLOCK_H, rows, heads, scale * LOG2E, sent1, Out, Lse)

    return main


@program(writes=("Part", "Out", "Lse"), pass_configs=PASSES)
def paged_parts(D, *, dim, pe_dim, page, dtype, block_d, threads, groups, unroll):
    """As paged_whole, in splits. Part [B, splits, row blocks, BLOCK_H * (dim + ROOM)]: scratch."""
    assert page % BLOCK_N == 0
    batch, pages, max_pages = T.dynamic("batch"), T.dynamic("pages"), T.dynamic("max_pages")
    rows, heads, q_len = T.dynamic("rows"), T.dynamic("heads"), T.dynamic("q_len")
    splits, blocks = T.dynamic("splits"), T.dynamic("blocks")
    per_row = column_blocks(dim, block_d)

    @T.prim_func
    def main(
        Q: T.Tensor((batch, rows, dim + pe_dim), dtype),
        Cache: T.Tensor((pages, page, 1, dim + pe_dim), dtype),
        BlockTable: T.Tensor((batch, max_pages), "int32"),
        SeqLens: T.Tensor((batch,), "int32"),
        Part: T.Tensor((batch, splits, blocks, BLOCK_H * (dim + ROOM)), "float32"),
        Out: T.Tensor((batch, rows, dim), dtype),
        Lse: T.Tensor((batch, heads, q_len), "float32"),
        scale: T.float32,
        causal: T.int32,
    ):
        with T.Kernel(T.ceildiv(rows, BLOCK_H), splits, batch, threads=3 * GROUP) as (x, split, b):
            t = working_set(dim, pe_dim, dtype)
            s0 = sums(dim // 2)
            s1 = sums(dim // 2)
            T.pdl_sync()
            T.pdl_trigger()
            length = SeqLens[b]
            hidden = causal * (q_len - 1)
            count = share(T.ceildiv(length, BLOCK_N), split, splits)
            pairs = (count + 1) // 2
            if T.get_thread_binding() >= 2 * GROUP:
                T.set_max_nreg(24, 0)
                load_queries(t, Q, Q, dim, b, x * BLOCK_H)
                load_paged(t, Cache, BlockTable, page, b, split, splits, count, pairs)
            elif T.get_thread_binding() < GROUP:
                T.set_max_nreg(240, 1)
                attend(
                    t, s0, 0, x * BLOCK_H, heads, length, hidden, split, splits, pairs,
                    scale * LOG2E, True,
                )  # fmt: skip
                finish_part(t, s0, 0, b, x, split, scale * LOG2E, Part)
            else:
                T.set_max_nreg(240, 1)
                attend(
                    t, s1, 1, x * BLOCK_H, heads, length, hidden, split, splits, pairs,
                    scale * LOG2E, True,
                )  # fmt: skip
                finish_part(t, s1, 1, b, x, split, scale * LOG2E, Part)
        with T.Kernel(per_row, rows, batch, threads=threads) as (column, row, b):
            T.pdl_sync()
            T.pdl_trigger()
            merge_parts(
                D, Part, b, row, splits, BLOCK_H, column * block_d, dim, block_d, groups, unroll,
                Out, Lse, heads,
            )  # fmt: skip

    return main
