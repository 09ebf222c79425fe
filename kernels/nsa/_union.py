"""Which blocks a tile of neighbouring queries walks: the union of those that they selected.

Neighbours mostly select the same blocks, so a tile that walks each block of the union once reads
K and V once for all its queries, and fills the rows of a wide matrix product (_walk.py). A tile
whose queries share too little is left to _apart.py: `plan` says which, and `plan_left` forms the
larger unions that are walked there.
"""

import tilelang.language as T

from ..common.dialect import program
from . import _tile
from ._union_steps import (
    BATCH,
    BLOCKS,
    COMPLETE,
    FIRST,
    HEAD,
    KEY,
    MASK,
    SECOND,
    SHARED,
    TILE,
    WORK,
    Deal,
    lend,
    steps_of,
)


def room(queries, count):
    """Steps for a tile's blocks, of which all may differ: three steps may lack one."""
    return steps_of(queries * count + 3)


@program(writes=("Steps", "Left", "Works", "Count"))
def plan(D, *, block, count, causal, queries, most):
    """The union of the blocks that each tile of `queries` neighbours selects.

    (Blocks [B, N, H, count] int32, Steps [B, H, tiles, room(queries, count), 4] int32, Left
    [B, H, tiles] int32, Works [tiles of all, WORK] int32, Count [2] int32). A row of Steps has the
    first keys of a step's two blocks and a mask of each, of which bit i says that query i of the
    tile selected it; in the order that _union_steps.py tells. Where a step lacks its second block,
    one past every key stands.

    Left is 1 for tiles left to _apart.py, those with more than `most` blocks, or with a query that
    names a block twice; else 0. Count[0] is raised by one for each tile that is not left, and a row
    of Works tells its tile, KV head, batch and how many steps there are of each kind
    (_union_steps.WORK): in an order that depends on timing, which nothing else does.
    """
    entries = queries * count
    half = queries // 2
    shift = 10  # several sums in one integer: complete, shared and repeated entries; either half's
    low = (1 << shift) - 1
    assert entries <= low and queries % 2 == 0
    threads = max(32, 1 << (entries - 1).bit_length())
    B, N, H, tiles, works = (
        T.dynamic(name) for name in ("batch", "seqlen", "kv_heads", "tiles", "works")
    )

    def field(value, number):
        return (value >> number * shift) & low

    @T.macro
    def end_step(Steps, b, h, tile, step):
        Steps[b, h, tile, step, KEY + 1] = N  # no key stands there
        Steps[b, h, tile, step, MASK + 1] = 0

    @T.prim_func
    def union_plan(
        Blocks: T.Tensor((B, N, H, count), "int32"),
        Steps: T.Tensor((B, H, tiles, room(queries, count), 2 * BLOCKS), "int32"),
        Left: T.Tensor((B, H, tiles), "int32"),
        Works: T.Tensor((works, WORK), "int32"),
        Count: T.Tensor((2,), "int32"),
    ):
        with D.kernel(tiles, H, B, threads=threads) as (tile, h, b):
            chosen = D.alloc_shared((entries,), "int32")
            both_sums = D.alloc_shared((entries,), "int32")
            half_sums = D.alloc_shared((entries,), "int32")
            mine = D.alloc_fragment((entries,), "int32")
            mask = D.alloc_fragment((entries,), "int32")
            times = D.alloc_fragment((entries,), "int32")
            of_both = D.alloc_fragment((entries,), "int32")
            of_half = D.alloc_fragment((entries,), "int32")
            complete, shared = T.alloc_var("int32"), T.alloc_var("int32")
            first, second = T.alloc_var("int32"), T.alloc_var("int32")
            first_in, second_in = T.alloc_var("int32"), T.alloc_var("int32")
            deal = Deal(shared, first, second, first_in, second_in)
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
                of_both[e] = 0
            for i in range(queries):
                T.fill(times, 0)
                for s in T.unroll(count):
                    for e in D.parallel(entries):
                        times[e] += T.cast(chosen[i * count + s] == mine[e], "int32")
                for e in D.parallel(entries):
                    mask[e] += T.if_then_else(times[e] > 0, 1 << i, 0)
                    of_both[e] = T.max(of_both[e], times[e])
            for e in D.parallel(entries):
                # Seen to the end by the first query, and so by all.
                whole = (mine[e] + 1) * block <= (t0 + 1 if causal else N)
                every = whole & (mask[e] == (1 << queries) - 1)
                one = (mine[e] >= 0) & ((mask[e] & ((1 << (e // count)) - 1)) == 0)
                halves = T.cast((mask[e] & ((1 << half) - 1)) > 0, "int32") + T.if_then_else(
                    mask[e] >> half > 0, 2, 0
                )
                repeated = T.if_then_else(of_both[e] > 1, 1 << 2 * shift, 0)
                place = T.if_then_else(every, 1, T.if_then_else(halves == 3, 1 << shift, 0))
                of_both[e] = T.if_then_else(one, repeated + place, 0)
                place = T.if_then_else(halves == 1, 1, T.if_then_else(halves == 2, 1 << shift, 0))
                of_half[e] = T.if_then_else(one, place, 0)
                both_sums[e] = of_both[e]
                half_sums[e] = of_half[e]
            T.cumsum(both_sums)
            T.cumsum(half_sums)
            complete = field(both_sums[entries - 1], 0)
            shared = complete + field(both_sums[entries - 1], 1)
            first = field(half_sums[entries - 1], 0)
            second = field(half_sums[entries - 1], 1)
            lent = lend(shared, first, second)
            first_in = lent[0]
            second_in = lent[1]
            for e in D.parallel(entries):
                whole = field(of_both[e], 0) > 0
                is_first = field(of_half[e], 0) > 0
                rank = T.if_then_else(is_first, field(half_sums[e], 0), field(half_sums[e], 1)) - 1
                place = T.if_then_else(
                    of_both[e] > 0,
                    T.if_then_else(whole, field(both_sums[e], 0), complete + field(both_sums[e], 1))
                    - 1,
                    deal.place(is_first, rank),
                )
                if of_both[e] + of_half[e] > 0:
                    Steps[b, h, tile, place // BLOCKS, KEY + place % BLOCKS] = mine[e] * block
                    Steps[b, h, tile, place // BLOCKS, MASK + place % BLOCKS] = mask[e]
            if T.get_thread_binding() == 0:
                if (deal.in_shared & 1) > 0:
                    end_step(Steps, b, h, tile, steps_of(deal.in_shared) - 1)
                if ((first - first_in) & 1) > 0:
                    end_step(Steps, b, h, tile, deal.step(True, deal.first_steps - 1))
                if ((second - second_in) & 1) > 0:
                    end_step(Steps, b, h, tile, deal.step(False, deal.second_steps - 1))
                Left[b, h, tile] = 1
                if (both_sums[entries - 1] < (1 << 2 * shift)) & (shared + first + second <= most):
                    Left[b, h, tile] = 0
                    slot = T.atomic_add(Count[0], 1, return_prev=True)
                    Works[slot, TILE] = tile
                    Works[slot, HEAD] = h
                    Works[slot, BATCH] = b
                    Works[slot, COMPLETE] = complete
                    Works[slot, SHARED] = steps_of(deal.in_shared)
                    Works[slot, FIRST] = deal.first_steps
                    Works[slot, SECOND] = deal.second_steps

    return union_plan


@program(writes=("Ids", "Masks", "Works", "Count"))
def plan_left(D, *, block, count, causal, queries, small):
    """The union of the blocks that each tile of `queries` neighbours selects, for those left.

    (Blocks [B, N, H, count] int32, Left [B, H, smaller tiles] int32 of `plan`, for tiles of `small`
    queries, Ids, Masks [tiles of all, queries * count] int32, Works [tiles of all, 4]
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
        Left: T.Tensor((B, H, smaller), "int32"),
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
                # Not one condition: both sides would be read, and Left ends with N.
                if at * small < T.min(tile * queries + queries, N):  # noqa: SIM102
                    if Left[b, h, at] > 0:
                        any_left = 1
            if any_left > 0:
                # Slots are outermost, so that neighbours in the list belong to different queries.
                for e in D.parallel(entries):
                    t = tile * queries + e % queries
                    limit = t + 1 if causal else N
                    x = Blocks[b, T.min(t, N - 1), h, e // queries]
                    left = Left[b, h, T.min(t // small, smaller - 1)] > 0
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
