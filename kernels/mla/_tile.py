"""What one CTA of the portable programs does with a tile of keys, and before and after them.

The walk over the keys has two loops. The first covers the tiles of which every row sees every
key: no mask, so nothing but copies and matrix products to pipeline. The second covers the few
tiles at the end that the length or the causal diagonal cuts through. There loads are guarded key
by key, because a key past the length must not reach the PV product at all (its bytes may be NaN,
and 0 * NaN is NaN), and scores are masked row by row.
"""

from dataclasses import dataclass
from typing import Any

import tilelang.language as T

from ..common.dialect import Dialect
from ._combine import LOG2E, LOWEST, ROOM, share


@dataclass
class Tile:
    """The working set of one CTA. Rows are (query, head) pairs of a sequence, heads fastest."""

    D: Dialect
    block_h: int
    block_n: int
    dim: int
    pe_dim: int
    dtype: str
    q: Any  # [block_h, dim], shared
    q_pe: Any  # [block_h, pe_dim], shared
    kv: Any  # [block_n, dim], shared
    k_pe: Any  # [block_n, pe_dim], shared
    p: Any  # [block_h, block_n], shared: the weights, rounded for the second product
    scores: Any  # [block_h, block_n], fragment, as all below: raw scores, then weights
    acc: Any  # [block_h, dim]: the weighted sum of V
    late_sum: bool
    """Adding up a tile's columns crosses warps: keep them apart in `mass` until the end."""
    mass: Any  # [block_h, block_n] if late_sum
    tile_sum: Any  # [block_h]
    total: Any  # [block_h]: the sum of exp2((score - top) * scale2)
    top: Any  # [block_h]: the largest raw score so far
    top_before: Any  # [block_h]
    fade: Any  # [block_h]: what the sums of before are worth after the largest score rose
    query: Any  # [block_h], int32: which query of the sequence a row belongs to
    seen: Any  # [block_h], int32: how many keys, from the first on, a row sees


@T.macro
def working_set(D, block_h, block_n, dim, pe_dim, dtype, late_sum):
    """Allocate a Tile. Each buffer has a name of its own here, which TileLang 0.1.9 insists on."""
    q = D.alloc_shared((block_h, dim), dtype)
    q_pe = D.alloc_shared((block_h, pe_dim), dtype)
    kv = D.alloc_shared((block_n, dim), dtype)
    k_pe = D.alloc_shared((block_n, pe_dim), dtype)
    p = D.alloc_shared((block_h, block_n), dtype)
    scores = D.alloc_fragment((block_h, block_n), "float32")
    acc = D.alloc_fragment((block_h, dim), "float32")
    mass = D.alloc_fragment((block_h, block_n), "float32")
    tile_sum = D.alloc_fragment((block_h,), "float32")
    total = D.alloc_fragment((block_h,), "float32")
    top = D.alloc_fragment((block_h,), "float32")
    top_before = D.alloc_fragment((block_h,), "float32")
    fade = D.alloc_fragment((block_h,), "float32")
    query = D.alloc_fragment((block_h,), "int32")
    seen = D.alloc_fragment((block_h,), "int32")
    return Tile(
        D, block_h, block_n, dim, pe_dim, dtype, q, q_pe, kv, k_pe, p, scores, acc, late_sum, mass,
        tile_sum, total, top, top_before, fade, query, seen,
    )  # fmt: skip


@T.macro
def start(t, Q, QPe, pe_column, b, row0, rows, heads, length, hidden):
    """Clear the sums and load the rows' queries; rows past the last one become zeros.

    Row i of query i // heads sees the first `length - hidden + i // heads` keys, at most all.
    """
    D = t.D
    for i in D.parallel(t.block_h):
        t.top[i] = LOWEST
        t.total[i] = 0
        t.query[i] = T.truncdiv(row0 + i, heads)
    for i in D.parallel(t.block_h):
        t.seen[i] = T.min(length, length - hidden + t.query[i])
    if t.late_sum:
        T.clear(t.mass)
    # In one loop with `acc`, so that the consumer warps do it: alone, TileLang would have every
    # warp copy, or use TMA and wait for it inside the first loop only, which may be empty.
    for i, d in D.parallel(t.block_h, t.dim):
        t.acc[i, d] = 0
        t.q[i, d] = T.if_then_else(row0 + i < rows, Q[b, row0 + i, d], 0)
        if d < t.pe_dim:
            t.q_pe[i, d] = T.if_then_else(row0 + i < rows, QPe[b, row0 + i, pe_column + d], 0)


@T.macro
def attend(t, kv, k_pe, key0, scale2, masked):
    """Take the tile in `kv` and `k_pe`, whose first key is `key0`, into the online softmax."""
    D = t.D
    T.clear(t.scores)
    D.gemm(t.q, kv, t.scores, transpose_B=True, policy=T.GemmWarpPolicy.FullCol)
    D.gemm(t.q_pe, k_pe, t.scores, transpose_B=True, policy=T.GemmWarpPolicy.FullCol)
    if masked:
        for i, j in D.parallel(t.block_h, t.block_n):
            t.scores[i, j] = T.if_then_else(
                key0 + j < t.seen[i], t.scores[i, j], -T.infinity("float32")
            )
    T.copy(t.top, t.top_before)
    D.reduce_max(t.scores, t.top, clear=False)
    for i in D.parallel(t.block_h):
        t.fade[i] = T.exp2((t.top_before[i] - t.top[i]) * scale2)
    for i, j in D.parallel(t.block_h, t.block_n):
        t.scores[i, j] = T.exp2(t.scores[i, j] * scale2 - t.top[i] * scale2)
    if t.late_sum:
        for i, j in D.parallel(t.block_h, t.block_n):
            t.mass[i, j] = t.mass[i, j] * t.fade[i] + t.scores[i, j]
    else:
        D.reduce_sum(t.scores, t.tile_sum)
        for i in D.parallel(t.block_h):
            t.total[i] = t.total[i] * t.fade[i] + t.tile_sum[i]
    T.copy(t.scores, t.p)
    for i, d in D.parallel(t.block_h, t.dim):
        t.acc[i, d] = t.acc[i, d] * t.fade[i]
    D.gemm(t.p, kv, t.acc, policy=T.GemmWarpPolicy.FullCol)


@T.macro
def load(t, Kv, KPe, pe_column, slab, row):
    """The tile whose first key is row `row` of a slab of `Kv` and `KPe`; zeros past its end."""
    # The loop makes both one group of asynchronous copies. As two groups, TileLang 0.1.15 fails
    # to lower the drain of a pipeline whose length is dynamic.
    for _ in T.serial(1):
        T.copy(Kv[slab, row, 0], t.kv)
        T.copy(KPe[slab, row, pe_column], t.k_pe)


@T.macro
def walk(t, Kv, KPe, pe_column, place, length, hidden, split, splits, scale, stages):
    """Attend to the tiles split, split + splits, ... of the first `length` keys.

    `place(key)` gives the first two indices of a tile's first key in `Kv` and `KPe`. Tiles are
    dealt out like cards, which balances splits to within a tile and needs no division per tile.
    """
    D, block_n = t.D, t.block_n
    # The second loop has its own buffers, because TileLang keeps several versions of those that a
    # pipelined loop fills. They cost nothing: lifetimes do not overlap, so the places do.
    kv_tail = D.alloc_shared((block_n, t.dim), t.dtype)
    k_pe_tail = D.alloc_shared((block_n, t.pe_dim), t.dtype)
    whole = share(T.max(0, length - hidden) // block_n, split, splits)
    for k in D.pipelined(whole, num_stages=stages):
        key0 = (split + k * splits) * block_n
        slab, row = place(key0)
        load(t, Kv, KPe, pe_column, slab, row)
        attend(t, t.kv, t.k_pe, key0, scale * LOG2E, False)
    at = T.alloc_local((2,), "int32")  # registers: spelled out at every load, they would spill
    for k in T.serial(share(T.ceildiv(length, block_n), split, splits) - whole):
        at[0] = (split + (whole + k) * splits) * block_n
        slab, row = place(at[0])
        at[1] = slab
        for j, d in D.parallel(block_n, t.dim):
            kv_tail[j, d] = T.if_then_else(at[0] + j < length, Kv[at[1], row + j, d], 0)
        for j, d in D.parallel(block_n, t.pe_dim):
            k_pe_tail[j, d] = T.if_then_else(
                at[0] + j < length, KPe[at[1], row + j, pe_column + d], 0
            )
        attend(t, kv_tail, k_pe_tail, at[0], scale * LOG2E, True)


@T.macro
def finish(t, b, row0, rows, heads, scale, Out, Lse):
    """Write the rows' outputs to Out [B, rows, dim], and to Lse [B, Hq, Sq] unless None."""
    D = t.D
    if t.late_sum:
        D.reduce_sum(t.mass, t.total)
    for i, d in D.parallel(t.block_h, t.dim):
        t.acc[i, d] = T.if_then_else(t.total[i] > 0, t.acc[i, d] / t.total[i], 0)
    T.copy(t.acc, Out[b, row0, 0])
    if Lse is not None:
        for i in D.parallel(t.block_h):
            if row0 + i < rows:
                Lse[b, row0 + i - t.query[i] * heads, t.query[i]] = T.if_then_else(
                    t.total[i] > 0,
                    t.top[i] * scale + T.log(t.total[i]),
                    -T.infinity("float32"),
                )


@T.macro
def finish_part(t, b, split, x, scale, Part):
    """Write the split's sums as they are, and behind each row what they weigh."""
    D = t.D
    width = t.dim + ROOM
    if t.late_sum:
        D.reduce_sum(t.mass, t.total)
    for i, d in D.parallel(t.block_h, t.dim):
        Part[b, split, x, i * width + d] = t.acc[i, d]
    for i in D.parallel(t.block_h):
        Part[b, split, x, i * width + t.dim] = t.top[i] * (scale * LOG2E)
        Part[b, split, x, i * width + t.dim + 1] = t.total[i]
