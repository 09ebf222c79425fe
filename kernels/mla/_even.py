"""Split-KV attention over ragged lengths on Hopper: every CTA takes an even share of all tiles.

There is one CTA per multiprocessor. The tiles of all sequences, one sequence behind the other, are
cut into as many contiguous shares, which the device finds from the lengths. A CTA walks through the
sequences that its share touches, attends to each as in `_turned`, and leaves a part of each. Its
loading warp runs ahead into the next sequence. See DESIGN.md.
"""

import math
from dataclasses import dataclass
from typing import Any

import tilelang.language as T

from ..common.dialect import program
from . import _turned
from ._combine import LOG2E, ROOM, column_blocks, merge_parts
from ._turned import BLOCK_N, CONSUMERS, THREADS, attend, load_paged, working_set

# Every access is within its tensor, but TileLang cannot see that: checks would be 10 of 25 KB of
# the combination's code.
PASSES = {**_turned.PASSES, "tl.disable_safe_memory_legalize": True}
LANES = 32
ROLLED = {"pragma_unroll_factor": 1}  # of a loop that rarely goes round twice: less code


# ---- which tiles are whose: of Python's integers as of a program's ----


def tiles_of(length):
    """How many tiles hold the keys of a sequence."""
    return T.truncdiv(T.max(length, 0) + BLOCK_N - 1, BLOCK_N)


def first_tile(total, ctas, cta):
    """Where the share of CTA `cta` begins among `total` tiles; it ends where the next one's begins.

    Shares differ by a tile at most, and the larger ones come first: of fewer tiles than CTAs, the
    first CTAs have one each.
    """
    return T.truncdiv(total, ctas) * cta + T.min(T.truncmod(total, ctas), cta)


def owner(total, ctas, tile):
    """The CTA whose share holds `tile`; at most `ctas` for the tile past the last.

    The first quotient is right among the larger shares, the second among the others, and neither is
    ever too large.
    """
    small, larger = T.truncdiv(total, ctas), T.truncmod(total, ctas)
    return T.max(T.truncdiv(tile, small + 1), T.truncdiv(tile - larger, T.max(small, 1)))


def parts_of(total, ctas, before, own):
    """(first CTA, how many) of those that attend to a sequence of `own` tiles behind `before`.

    Its part of sequence b is what CTA c leaves in slot b + c. From one part to the next it is on to
    another CTA, another sequence or both, and never back: no two parts share a slot, and those of a
    sequence lie side by side.
    """
    first = owner(total, ctas, before)
    last = owner(total, ctas, before + T.max(own, 1) - 1)
    return first, T.if_then_else(own > 0, last - first + 1, 0)


# ---- the same for a whole batch, by every warp for itself ----


@T.macro
def count_tiles(SeqLens, batch, b, all_tiles, before):
    """all_tiles[0] = those of all sequences, before[0] = of the sequences before b."""
    own = T.alloc_local((1,), "int32")
    all_tiles[0] = 0
    before[0] = 0
    for i in T.unroll(T.ceildiv(batch, LANES), annotations=ROLLED):
        j = i * LANES + T.get_thread_binding() % LANES
        own[0] = T.if_then_else(j < batch, tiles_of(SeqLens[j]), 0)
        all_tiles[0] += own[0]
        before[0] += T.if_then_else(j < b, own[0], 0)
    all_tiles[0] = T.warp_reduce_sum(all_tiles[0])
    before[0] = T.warp_reduce_sum(before[0])


@dataclass
class Walk:
    """Where a warp is in its CTA's share. Every one is an int32 in a register, [1]."""

    b: Any  # the sequence
    length: Any  # of the sequence
    tile: Any  # the first tile of it that is the CTA's
    count: Any  # how many tiles of it are
    done: Any  # tiles of the sequences before
    left: Any  # tiles of this sequence and those behind
    sequences: Any  # how many sequences the share touches


@T.macro
def walk():
    """Registers for a `Walk`."""
    b = T.alloc_local((1,), "int32")
    length = T.alloc_local((1,), "int32")
    tile = T.alloc_local((1,), "int32")
    count = T.alloc_local((1,), "int32")
    done = T.alloc_local((1,), "int32")
    left = T.alloc_local((1,), "int32")
    sequences = T.alloc_local((1,), "int32")
    return Walk(b, length, tile, count, done, left, sequences)


@T.macro
def begin(w, SeqLens, batch, ctas, cta):
    """Find the CTA's share: its first sequence with tiles, and how many it touches."""
    total = T.alloc_local((1,), "int32")
    own = T.alloc_local((1,), "int32")  # tiles of the lane's sequence
    upto = T.alloc_local((1,), "int32")  # and of all before it, too
    other = T.alloc_local((1,), "int32")
    count_tiles(SeqLens, batch, 0, total, other)
    first = first_tile(total[0], ctas, cta)
    end = first_tile(total[0], ctas, cta + 1)
    w.b[0] = 0
    w.tile[0] = 0
    w.done[0] = 0
    w.left[0] = end - first
    w.sequences[0] = 0
    upto[0] = 0
    for i in T.unroll(T.ceildiv(batch, LANES), annotations=ROLLED):
        lane = T.get_thread_binding() % LANES
        j = i * LANES + lane
        own[0] = T.if_then_else(j < batch, tiles_of(SeqLens[j]), 0)
        # On from the last lane's sum of the round before, by doubling distances.
        other[0] = T.shfl_sync(upto[0], LANES - 1)
        upto[0] = own[0] + T.if_then_else(lane == 0, other[0], 0)
        for k in T.unroll(5):
            other[0] = T.shfl_up(upto[0], 1 << k)
            upto[0] += T.if_then_else(lane >= 1 << k, other[0], 0)
        if upto[0] <= first:
            w.b[0] += 1
            w.tile[0] -= own[0]
        elif (own[0] > 0) & (upto[0] - own[0] < end):
            w.sequences[0] += 1
    w.b[0] = T.warp_reduce_sum(w.b[0])
    w.tile[0] = first + T.warp_reduce_sum(w.tile[0])
    w.sequences[0] = T.warp_reduce_sum(w.sequences[0])


@T.macro
def enter(w, SeqLens):
    """Find the sequence's length and how many of its tiles are the CTA's, past those without."""
    while tiles_of(SeqLens[w.b[0]]) == 0:
        w.b[0] += 1
    w.length[0] = SeqLens[w.b[0]]
    w.count[0] = T.min(tiles_of(w.length[0]) - w.tile[0], w.left[0])


@T.macro
def move_on(w):
    """To the first tile of the next sequence."""
    w.b[0] += 1
    w.tile[0] = 0
    w.done[0] += w.count[0]
    w.left[0] -= w.count[0]


def in_slots(Part, first, at):
    """The row that begins at `at` of the parts from slot `first` on, for `merge_parts`. Of no part
    it may ask for number -1, which weighs nothing."""
    return lambda s, d: Part[first + T.max(s, 0), at + d]


@program(writes=("Part", "Out", "Lse"), pass_configs=PASSES)
def paged(D, *, dim, pe_dim, page, dtype, block_h, stages, block_d, threads, groups, unroll):
    """As `_turned.paged_parts`, with all rows of a sequence in one block, a CTA for each
    multiprocessor, and Part [B + CTAs, block_h * (dim + ROOM)]."""
    assert page % BLOCK_N == 0
    batch, pages, max_pages = T.dynamic("batch"), T.dynamic("pages"), T.dynamic("max_pages")
    rows, heads, q_len = T.dynamic("rows"), T.dynamic("heads"), T.dynamic("q_len")
    slots = T.dynamic("slots")
    ctas, width = D.target.sms, dim + ROOM

    @T.prim_func
    def main(
        Q: T.Tensor((batch, rows, dim + pe_dim), dtype),
        Cache: T.Tensor((pages, page, 1, dim + pe_dim), dtype),
        BlockTable: T.Tensor((batch, max_pages), "int32"),
        SeqLens: T.Tensor((batch,), "int32"),
        Part: T.Tensor((slots, block_h * width), "float32"),
        Out: T.Tensor((batch, rows, dim), dtype),
        Lse: T.Tensor((batch, heads, q_len), "float32"),
        scale: T.float32,
        causal: T.int32,
    ):
        with T.Kernel(ctas, threads=THREADS) as cta:
            t = working_set(block_h, dim, pe_dim, dtype, stages)
            # Static, so that it is not overlaid: the next sequence's tiles load meanwhile.
            sent = T.alloc_shared((block_h * width,), "float32", "shared")
            w = walk()
            D.follow()
            begin(w, SeqLens, batch, ctas, cta)
            if T.get_thread_binding() >= CONSUMERS:
                for _ in T.serial(w.sequences[0]):
                    enter(w, SeqLens)
                    load_paged(
                        t, Cache, BlockTable, page, w.b[0], w.tile[0], 1, w.count[0], w.done[0]
                    )
                    move_on(w)
            else:
                for _ in T.serial(w.sequences[0]):
                    enter(w, SeqLens)
                    attend(
                        t, Q, Q, dim, w.b[0], 0, rows, heads, w.length[0], causal * (q_len - 1),
                        w.tile[0], 1, w.count[0], w.done[0], scale * LOG2E, sent, True,
                    )  # fmt: skip
                    slot = w.b[0] + cta
                    # Proof that the bulk copy is within bounds, as in `_turned.send`.
                    T.assume(slot >= 0)
                    T.assume(slot < slots)
                    T.tma_copy(sent, Part[slot, 0 : block_h * width])
                    T.tma_store_wait(0)  # `sent` has been read; `attend` synchronises before it
                    move_on(w)
        with T.Kernel(column_blocks(dim, block_d), rows, batch, threads=threads) as (x, row, b):
            total = T.alloc_local((1,), "int32")
            before = T.alloc_local((1,), "int32")
            first = T.alloc_local((1,), "int32")
            count = T.alloc_local((1,), "int32")
            D.follow()
            count_tiles(SeqLens, batch, b, total, before)
            # In registers: spelled out at every use, TileLang would take minutes over them.
            first[0], count[0] = parts_of(total[0], ctas, before[0], tiles_of(SeqLens[b]))
            merge_parts(
                D, in_slots(Part, b + first[0], row * width), b, row, count[0],
                math.ceil(ctas / threads) * threads, x * block_d, dim, block_d, groups, unroll,
                Out, Lse, heads,
            )  # fmt: skip

    return main
