"""Split-KV attention for 16 or 32 rows on Hopper, with the keys on the M side of both products.

`wgmma` multiplies 64 rows at a time. With 16 query rows three quarters of them would be padding;
with the keys as rows none is: S^T = K Q^T is [64 keys, 16] and O^T = V^T P^T is [512, 16]. One
warpgroup computes both, a fifth warp loads tiles by TMA. Barriers are written out. See DESIGN.md.
"""

from dataclasses import dataclass
from typing import Any

import tilelang.language as T

from ..common.dialect import BY_ROLE, program
from ._combine import LOG2E, LOWEST, ROOM, merge, share

PASSES = {
    **BY_ROLE,
    "tl.disable_data_race_check": True,
    "tl.enable_fast_math": True,  # less code: a single tile's time is fetching instructions
    "tl.enable_aggressive_shared_memory_merge": True,  # `sent` takes the tiles' place
}
BLOCK_N = 64
PIECES = 4  # of a tile's columns
CONSUMERS, LOADERS = 128, 32
THREADS = CONSUMERS + LOADERS
BARRIER = 7  # named barrier of the consumers
ONCE = "evict_first"  # keys are read once: their place in L2 is worth more to the splits' parts


@dataclass
class Tile:
    """The shared memory of one CTA."""

    block_h: int
    stages: int
    dim: int
    pe_dim: int
    q: Any  # [block_h, dim]
    q_pe: Any  # [block_h, pe_dim]
    kv: Any  # [stages, BLOCK_N, dim]
    k_pe: Any  # [stages, BLOCK_N, pe_dim]
    p: Any  # [BLOCK_N, block_h]: the weights, rounded for the second product
    warp_top: Any  # [4, block_h], fp32: the largest scores among each warp's keys
    full: Any  # [stages * PIECES] barriers: columns of a tile have come
    free: Any  # [stages] barriers: a tile is done with


@T.macro
def working_set(block_h, dim, pe_dim, dtype, stages):
    q = T.alloc_shared((block_h, dim), dtype)
    q_pe = T.alloc_shared((block_h, pe_dim), dtype)
    kv = T.alloc_shared((stages, BLOCK_N, dim), dtype)
    k_pe = T.alloc_shared((stages, BLOCK_N, pe_dim), dtype)
    p = T.alloc_shared((BLOCK_N, block_h), dtype)
    warp_top = T.alloc_shared((4, block_h), "float32")
    full = T.alloc_barrier([LOADERS] * (stages * PIECES))
    free = T.alloc_barrier([CONSUMERS // 32] * stages)  # one lane of each warp
    return Tile(block_h, stages, dim, pe_dim, q, q_pe, kv, k_pe, p, warp_top, full, free)


def in_pieces(macro, *arguments):
    """Call a macro for every piece of a tile. (A loop within it would be one of the program.)"""
    for piece in range(PIECES):
        macro(*arguments, piece)


def columns(t, piece):
    return piece * t.dim // PIECES, (piece + 1) * t.dim // PIECES


@T.macro
def load_tile(t, Kv, KPe, pe_column, slab, row, i):
    """Load a tile in pieces of its columns, so that the scores start with the first to come."""
    s = i % t.stages
    T.barrier_wait(t.free[s], ((i // t.stages) & 1) ^ 1)
    in_pieces(load_piece, t, Kv, KPe, pe_column, slab, row, s)


@T.macro
def load_piece(t, Kv, KPe, pe_column, slab, row, s, piece):
    c0, c1 = columns(t, piece)
    T.tma_copy(
        Kv[slab, row : row + BLOCK_N, 0, c0:c1],
        t.kv[s, :, c0:c1],
        barrier=t.full[s * PIECES + piece],
        eviction_policy=ONCE,
    )
    if piece == PIECES - 1:
        T.tma_copy(
            KPe[slab, row : row + BLOCK_N, 0, pe_column : pe_column + t.pe_dim],
            t.k_pe[s, :, :],
            barrier=t.full[s * PIECES + piece],
            eviction_policy=ONCE,
        )
    T.barrier_arrive(t.full[s * PIECES + piece])


@T.macro
def load_dense(t, Kv, KPe, b, split, splits, count):
    """Load the tiles split, split + splits, ...; keys past the last come as zeros."""
    for i in T.serial(count):
        load_tile(t, Kv, KPe, 0, b, (split + i * splits) * BLOCK_N, i)


@T.macro
def load_paged(t, Cache, BlockTable, page, b, split, splits, count, done):
    """As load_dense, after `done` other tiles. The number of the next tile's page is fetched while
    this one loads."""
    number = T.alloc_local((2,), "int32")
    if count > 0:
        number[1] = BlockTable[b, split * BLOCK_N // page]
    for i in T.serial(count):
        key0 = (split + i * splits) * BLOCK_N
        number[0] = number[1]
        if i + 1 < count:
            number[1] = BlockTable[b, (key0 + splits * BLOCK_N) // page]
        load_tile(t, Cache, Cache, t.dim, number[0], key0 % page, done + i)


@T.macro
def score_piece(t, scores, s, phase, piece):
    c0, c1 = columns(t, piece)
    T.barrier_wait(t.full[s * PIECES + piece], phase)
    T.wgmma_gemm(t.kv[s, :, c0:c1], t.q[:, c0:c1], scores, transpose_B=True, clear_accum=piece == 0)


@T.macro
def attend(
    t, Q, QPe, pe_column, b, row0, rows, heads, length, hidden, split, splits, count, done, scale2,
    sent, poisoned,
):  # fmt: skip
    """Attend to the tiles split, split + splits, ..., `count` of them, and leave the sums of
    weighted V in `sent`. The CTA has attended to `done` tiles before.

    Row i of query i // heads sees the first `length - hidden + i // heads` keys. Sums are not
    normalised; column `dim` is the largest score times scale2, the next the sum of weights.
    `poisoned`: bytes past `length` may be NaN.
    """
    scores = T.alloc_fragment((BLOCK_N, t.block_h), "float32")
    acc = T.alloc_fragment((t.dim, t.block_h), "float32")
    mass = T.alloc_fragment((BLOCK_N, t.block_h), "float32")
    high = T.alloc_fragment((4, t.block_h), "float32")
    top = T.alloc_fragment((t.block_h,), "float32")
    before = T.alloc_fragment((t.block_h,), "float32")
    fade = T.alloc_fragment((t.block_h,), "float32")
    seen = T.alloc_fragment((t.block_h,), "int32")
    # Touched before the loop, so that they get places of their own: at the first use inside it,
    # TileLang would give them that of a tile that it thinks is done with, while it is loading.
    T.clear(t.p)
    T.clear(t.warp_top)
    T.fill(top, LOWEST)
    T.clear(mass)
    T.clear(acc)
    for h in T.Parallel(t.block_h):
        seen[h] = T.min(length, length - hidden + T.truncdiv(row0 + h, heads))
    for h, d in T.Parallel(t.block_h, t.dim):
        t.q[h, d] = T.if_then_else(row0 + h < rows, Q[b, row0 + h, d], 0)
    for h, d in T.Parallel(t.block_h, t.pe_dim):
        t.q_pe[h, d] = T.if_then_else(row0 + h < rows, QPe[b, row0 + h, pe_column + d], 0)
    T.fence_proxy_async()
    T.sync_threads(BARRIER, CONSUMERS)
    for i in T.serial(count):
        s = (done + i) % t.stages
        key0 = (split + i * splits) * BLOCK_N
        in_pieces(score_piece, t, scores, s, ((done + i) // t.stages) & 1)
        T.wgmma_gemm(t.k_pe[s, :, :], t.q_pe, scores, transpose_B=True)
        T.wait_wgmma(0)
        if key0 + BLOCK_N > length - hidden:
            for j, h in T.Parallel(BLOCK_N, t.block_h):
                scores[j, h] = T.if_then_else(
                    key0 + j < seen[h], scores[j, h], -T.infinity("float32")
                )
        if poisoned:  # noqa: SIM102  (known while tracing; the next is not)
            if key0 + BLOCK_N > length:
                for j, d in T.Parallel(BLOCK_N, t.dim):
                    if key0 + j >= length:
                        t.kv[s, j, d] = 0
        T.copy(top, before)
        # By shuffles over a warp's keys, then once over the warps.
        T.reduce_max(T.reshape(scores, (4, BLOCK_N // 4, t.block_h)), high, dim=1)
        T.copy(high, t.warp_top)
        T.sync_threads(BARRIER, CONSUMERS)
        for h in T.Parallel(t.block_h):
            top[h] = T.max(
                T.max(top[h], T.max(t.warp_top[0, h], t.warp_top[1, h])),
                T.max(t.warp_top[2, h], t.warp_top[3, h]),
            )
        for h in T.Parallel(t.block_h):
            fade[h] = T.exp2((before[h] - top[h]) * scale2)
        for j, h in T.Parallel(BLOCK_N, t.block_h):
            scores[j, h] = T.exp2(scores[j, h] * scale2 - top[h] * scale2)
        T.copy(scores, t.p)
        T.fence_proxy_async()
        for j, h in T.Parallel(BLOCK_N, t.block_h):
            mass[j, h] = mass[j, h] * fade[h] + scores[j, h]
        for d, h in T.Parallel(t.dim, t.block_h):
            acc[d, h] = acc[d, h] * fade[h]
        T.sync_threads(BARRIER, CONSUMERS)
        T.wgmma_gemm(t.kv[s, :, :], t.p, acc, transpose_A=True)
        T.wait_wgmma(0)
        if T.get_thread_binding() % 32 == 0:
            T.barrier_arrive(t.free[s])
    T.reduce_sum(T.reshape(mass, (4, BLOCK_N // 4, t.block_h)), high, dim=1)
    T.copy(high, t.warp_top)
    T.sync_threads(BARRIER, CONSUMERS)  # `sent` lies where the tiles were
    for d, h in T.Parallel(t.dim, t.block_h):
        sent[h * (t.dim + ROOM) + d] = acc[d, h]
    for h in T.Parallel(t.block_h):
        sent[h * (t.dim + ROOM) + t.dim] = top[h] * scale2
        sent[h * (t.dim + ROOM) + t.dim + 1] = (t.warp_top[0, h] + t.warp_top[1, h]) + (
            t.warp_top[2, h] + t.warp_top[3, h]
        )
    T.fence_proxy_async()
    T.sync_threads(BARRIER, CONSUMERS)


@T.macro
def send(t, sent, Part, b, split, x):
    """Write `sent` to its place in Part [B, splits, row blocks, block_h * (dim + ROOM)]."""
    T.tma_copy(sent, Part[b, split, x, 0 : t.block_h * (t.dim + ROOM)])
    T.tma_store_wait(0)


@program(writes=("Part", "Out"), pass_configs=PASSES)
def dense_parts(D, *, dim, pe_dim, dtype, block_h, stages, block_d, threads, groups, unroll):
    """Q [B, Hq, dim], QPe [B, Hq, pe_dim], Kv [B, S, 1, dim], KPe [B, S, 1, pe_dim] ->
    Part (scratch), Out [B, Hq, dim]. The combining kernel starts under the attending one."""
    batch, keys, heads = T.dynamic("batch"), T.dynamic("keys"), T.dynamic("heads")
    splits, blocks = T.dynamic("splits"), T.dynamic("blocks")

    @T.prim_func
    def main(
        Q: T.Tensor((batch, heads, dim), dtype),
        QPe: T.Tensor((batch, heads, pe_dim), dtype),
        Kv: T.Tensor((batch, keys, 1, dim), dtype),
        KPe: T.Tensor((batch, keys, 1, pe_dim), dtype),
        Part: T.Tensor((batch, splits, blocks, block_h * (dim + ROOM)), "float32"),
        Out: T.Tensor((batch, heads, dim), dtype),
        scale: T.float32,
    ):
        with T.Kernel(blocks, splits, batch, threads=THREADS) as (x, split, b):
            t = working_set(block_h, dim, pe_dim, dtype, stages)
            sent = T.alloc_shared((block_h * (dim + ROOM),), "float32")
            count = share(T.ceildiv(keys, BLOCK_N), split, splits)
            D.follow()
            if T.get_thread_binding() >= CONSUMERS:
                load_dense(t, Kv, KPe, b, split, splits, count)
            else:
                attend(
                    t, Q, QPe, 0, b, x * block_h, heads, heads, keys, 0, split, splits, count,
                    0, scale * LOG2E, sent, False,
                )  # fmt: skip
                send(t, sent, Part, b, split, x)
        merge(
            D, Part, batch, heads, splits, block_h, dim, block_d, threads, groups, unroll,
            Out, None, heads, early=True,
        )  # fmt: skip

    return main


@program(writes=("Part", "Out", "Lse"), pass_configs=PASSES)
def paged_parts(D, *, dim, pe_dim, page, dtype, block_h, stages, block_d, threads, groups, unroll):
    """Q [B, Sq * Hq, dim + pe_dim], Cache [pages, page, 1, dim + pe_dim], BlockTable
    [B, max_pages], SeqLens [B] -> Part (scratch), Out [B, Sq * Hq, dim], Lse [B, Hq, Sq]. A tile
    lies within a page. `causal` is 1 or 0."""
    assert page % BLOCK_N == 0
    batch, pages, max_pages = T.dynamic("batch"), T.dynamic("pages"), T.dynamic("max_pages")
    rows, heads, q_len = T.dynamic("rows"), T.dynamic("heads"), T.dynamic("q_len")
    splits, blocks = T.dynamic("splits"), T.dynamic("blocks")

    @T.prim_func
    def main(
        Q: T.Tensor((batch, rows, dim + pe_dim), dtype),
        Cache: T.Tensor((pages, page, 1, dim + pe_dim), dtype),
        BlockTable: T.Tensor((batch, max_pages), "int32"),
        SeqLens: T.Tensor((batch,), "int32"),
        Part: T.Tensor((batch, splits, blocks, block_h * (dim + ROOM)), "float32"),
        Out: T.Tensor((batch, rows, dim), dtype),
        Lse: T.Tensor((batch, heads, q_len), "float32"),
        scale: T.float32,
        causal: T.int32,
    ):
        with T.Kernel(blocks, splits, batch, threads=THREADS) as (x, split, b):
            t = working_set(block_h, dim, pe_dim, dtype, stages)
            sent = T.alloc_shared((block_h * (dim + ROOM),), "float32")
            D.follow()
            length = SeqLens[b]
            count = share(T.ceildiv(length, BLOCK_N), split, splits)
            if T.get_thread_binding() >= CONSUMERS:
                load_paged(t, Cache, BlockTable, page, b, split, splits, count, 0)
            else:
                attend(
                    t, Q, Q, dim, b, x * block_h, rows, heads, length, causal * (q_len - 1), split,
                    splits, count, 0, scale * LOG2E, sent, True,
                )  # fmt: skip
                send(t, sent, Part, b, split, x)
        merge(
            D, Part, batch, rows, splits, block_h, dim, block_d, threads, groups, unroll,
            Out, Lse, heads, early=True,
        )  # fmt: skip

    return main
