"""Hopper: the blocks that two neighbouring tiles walk side by side, for _apart.py.

Two CTAs of a cluster take a tile each. What both need stands first in both lists, so that one of
them can fetch it for both; after that each goes on alone.
"""

import tilelang.language as T

from ..common.dialect import program

PAIR = 2  # tiles of a pair
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
