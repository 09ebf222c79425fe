"""Which blocks a tile of neighbouring queries walks: the union of those that they selected.

Neighbours mostly select the same blocks, so a tile that walks each block of the union once reads
K and V once for all its queries, and fills the rows of a wide matrix product (_walk.py). A tile
whose queries share too little is left to _apart.py: `plan` says which, and `plan_left` forms the
larger unions that are walked there.
"""

import tilelang.language as T

from ..common.dialect import program
from . import _tile

COMPLETE, TOTAL = 0, 1  # columns of Size
LEFT = -8  # TOTAL of a tile that is left to _apart.py


@program(writes=("Ids", "Masks", "Size", "Works", "Count"))
def plan(D, *, block, count, causal, queries, most):
    """The union of the blocks that each tile of `queries` neighbours selects.

    (Blocks [B, N, H, count] int32, Ids, Masks [B, H, tiles, queries * count] int32, Size
    [B, H, tiles, 2] int32, Works [tiles of all, 4] int32, Count [2] int32). Ids holds the first
    key of each block; bit i of a mask says that query i of the tile selected it. Blocks that every
    query selected and sees to the end come first; Size holds their number and that of all. The
    latter is LEFT for tiles left to _apart.py: those with more than `most` blocks, or with a query
    that names a block twice. An odd number of blocks is followed by one past every key, which
    completes a pair. Count[0] is raised by one for each tile that is not left, and a row of Works
    tells its tile, KV head, batch and number of blocks: in an order that depends on timing, which
    nothing else does.
    """
    entries = queries * count
    shift = 10  # three sums in one integer: complete, other, and repeated entries
    low = (1 << shift) - 1
    assert entries <= low
    threads = max(32, 1 << (entries - 1).bit_length())
    B, N, H, tiles, works = (
        T.dynamic(name) for name in ("batch", "seqlen", "kv_heads", "tiles", "works")
    )

    @T.prim_func
    def union_plan(
        Blocks: T.Tensor((B, N, H, count), "int32"),
        Ids: T.Tensor((B, H, tiles, entries), "int32"),
        Masks: T.Tensor((B, H, tiles, entries), "int32"),
        Size: T.Tensor((B, H, tiles, 2), "int32"),
        Works: T.Tensor((works, 4), "int32"),
        Count: T.Tensor((2,), "int32"),
    ):
        with D.kernel(tiles, H, B, threads=threads) as (tile, h, b):
            chosen = D.alloc_shared((entries,), "int32")
            sums = D.alloc_shared((entries,), "int32")
            mine = D.alloc_fragment((entries,), "int32")
            mask = D.alloc_fragment((entries,), "int32")
            times = D.alloc_fragment((entries,), "int32")
            code = D.alloc_fragment((entries,), "int32")
            slot = T.alloc_var("int32")

            t0 = tile * queries
            for e in D.parallel(entries):
                t = t0 + e // count
                limit = t + 1 if causal else N
                x = Blocks[b, T.min(t, N - 1), h, e % count]
                named = _tile.names_block(x, limit, block, t < N)
                mine[e] = T.if_then_else(named, x, -1)
                chosen[e] = mine[e]
                mask[e] = 0
                code[e] = 0
            for i in range(queries):
                T.fill(times, 0)
                for s in T.unroll(count):
                    for e in D.parallel(entries):
                        times[e] += T.cast(chosen[i * count + s] == mine[e], "int32")
                for e in D.parallel(entries):
                    mask[e] += T.if_then_else(times[e] > 0, 1 << i, 0)
                    code[e] = T.max(code[e], times[e])
            for e in D.parallel(entries):
                # Seen to the end by the first query, and so by all.
                whole = (mine[e] + 1) * block <= (t0 + 1 if causal else N)
                complete = whole & (mask[e] == (1 << queries) - 1)
                first = (mine[e] >= 0) & ((mask[e] & ((1 << (e // count)) - 1)) == 0)
                code[e] = T.if_then_else(
                    first,
                    T.if_then_else(code[e] > 1, 1 << 2 * shift, 0)
                    + T.if_then_else(complete, 1, 1 << shift),
                    0,
                )
                sums[e] = code[e]
            T.cumsum(sums)
            for e in D.parallel(entries):
                all_complete = sums[entries - 1] & low
                before = T.if_then_else(
                    (code[e] & low) > 0,
                    sums[e] & low,
                    all_complete + ((sums[e] >> shift) & low),
                )
                if code[e] > 0:
                    Ids[b, h, tile, before - 1] = mine[e] * block
                    Masks[b, h, tile, before - 1] = mask[e]
            for e in D.parallel(1):
                total = (sums[entries - 1] & low) + ((sums[entries - 1] >> shift) & low)
                if total < entries:
                    Ids[b, h, tile, total + e] = N  # a pair's missing half: no key stands there
                    Masks[b, h, tile, total + e] = 0
            for e in D.parallel(2):
                end = sums[entries - 1]
                complete = end & low
                total = complete + ((end >> shift) & low)
                good = (end < (1 << 2 * shift)) & (total <= most)
                Size[b, h, tile, e] = T.if_then_else(
                    e == 0, complete, T.if_then_else(good, total, LEFT)
                )
            if T.get_thread_binding() == 0:
                end = sums[entries - 1]
                total = (end & low) + ((end >> shift) & low)
                if (end < (1 << 2 * shift)) & (total <= most):
                    slot = T.atomic_add(Count[0], 1, return_prev=True)
                    Works[slot, 0] = tile
                    Works[slot, 1] = h
                    Works[slot, 2] = b
                    Works[slot, 3] = total

    return union_plan


@program(writes=("Ids", "Masks", "Works", "Count"))
def plan_left(D, *, block, count, causal, queries, small):
    """The union of the blocks that each tile of `queries` neighbours selects, for those left.

    (Blocks [B, N, H, count] int32, Size [B, H, smaller tiles, 2] int32 of `plan`, for tiles of
    `small` queries, Ids, Masks [tiles of all, queries * count] int32, Works [tiles of all, 4]
    int32, Count [2] int32). Ids holds the first key of each block; bit i of a mask says that query
    i selected it. A block that a query names again is an entry of its own. Queries of smaller
    tiles that are walked count as selecting nothing. Count[1] is raised by one for each tile with
    a query left, and a row of Works tells its tile, KV head, batch and number of blocks: in an
    order that depends on timing, which nothing else does.
    """
    entries = queries * count
    threads = min(1024, max(32, 1 << (entries - 1).bit_length()))
    B, N, H, smaller, listed = (
        T.dynamic(name) for name in ("batch", "seqlen", "kv_heads", "smaller_tiles", "listed")
    )
    tiles = T.ceildiv(N, queries)

    @T.prim_func
    def apart_plan(
        Blocks: T.Tensor((B, N, H, count), "int32"),
        Size: T.Tensor((B, H, smaller, 2), "int32"),
        Ids: T.Tensor((listed, entries), "int32"),
        Masks: T.Tensor((listed, entries), "int32"),
        Works: T.Tensor((listed, 4), "int32"),
        Count: T.Tensor((2,), "int32"),
    ):
        with D.kernel(tiles, H, B, threads=threads) as (tile, h, b):
            chosen = D.alloc_shared((entries,), "int32")
            sums = D.alloc_shared((entries,), "int32")
            mine = D.alloc_fragment((entries,), "int32")
            mask = D.alloc_fragment((entries,), "int32")
            earlier = D.alloc_fragment((entries,), "int32")
            slot = T.alloc_var("int32")
            row = (b * H + h) * tiles + tile

            any_left = T.alloc_var("int32", init=0)
            for i in range(-(-queries // small) + 1):
                at = tile * queries // small + i
                # Not one condition: both sides would be read, and Size ends with N.
                if at * small < T.min(tile * queries + queries, N):  # noqa: SIM102
                    if Size[b, h, at, 1] < 0:
                        any_left = 1
            if any_left > 0:
                # Slots are outermost, so that neighbours in the list belong to different queries.
                for e in D.parallel(entries):
                    t = tile * queries + e % queries
                    limit = t + 1 if causal else N
                    x = Blocks[b, T.min(t, N - 1), h, e // queries]
                    left = Size[b, h, T.min(t // small, smaller - 1), 1] < 0
                    named = _tile.names_block(x, limit, block, (t < N) & left)
                    mine[e] = T.if_then_else(named, x, -1)
                    chosen[e] = mine[e]
                    earlier[e] = 0
                    mask[e] = 0
                # What is compared tells a block and how often the query has named it before.
                for s in T.serial(count):
                    for e in D.parallel(entries):
                        same = chosen[s * queries + e % queries] == mine[e]
                        earlier[e] += T.cast(same & (s < e // queries), "int32")
                T.sync_threads()
                for e in D.parallel(entries):
                    mine[e] = T.if_then_else(mine[e] >= 0, mine[e] * count + earlier[e], -1)
                    chosen[e] = mine[e]
                    earlier[e] = 0
                for s in T.serial(count):
                    for i in T.unroll(queries):
                        for e in D.parallel(entries):
                            same = T.cast(chosen[s * queries + i] == mine[e], "int32")
                            mask[e] |= same << i
                            earlier[e] |= T.if_then_else(s * queries + i < e, same, 0)
                for e in D.parallel(entries):
                    sums[e] = T.cast((mine[e] >= 0) & (earlier[e] == 0), "int32")
                    earlier[e] = sums[e]
                T.cumsum(sums)
                for e in D.parallel(entries):
                    if earlier[e] > 0:
                        Ids[row, sums[e] - 1] = mine[e] // count * block
                        Masks[row, sums[e] - 1] = mask[e]
                # Also a tile without any block: its queries put out zeros.
                if T.get_thread_binding() == 0:
                    slot = T.atomic_add(Count[1], 1, return_prev=True)
                    Works[slot, 0] = tile
                    Works[slot, 1] = h
                    Works[slot, 2] = b
                    Works[slot, 3] = sums[entries - 1]

    return apart_plan
