"""The producer of `_walk`: it fetches queries and keys by TMA into a ring of stages.

Keys, values and queries are fetched by a warp each, so that none waits for another's place. A stage
is full when its bytes have come, and empty when the consumer warps have given it back.
"""

from dataclasses import dataclass
from typing import Any

import tilelang.language as T

from ._union_steps import BATCH, BLOCKS, HEAD, KEY, TILE, WORK, part_of
from ._walk_steps import KEYS, advance, begin, first, read, steps, turns

WARP = 32
ROLLED = {"pragma_unroll_factor": 1}  # of a loop that seldom runs: less code
TILES = 2  # of queries: one that is worked on, and the next


@dataclass
class Ring:
    """What the producer fetches into shared memory, and who waits for it."""

    q: Any  # [TILES, rows, D]
    k: Any  # [stages, KEYS, D]
    v: Any
    q_full: Any
    k_full: Any
    v_full: Any
    q_empty: Any
    k_empty: Any
    v_empty: Any


@T.macro
def make_ring(w):
    q = T.alloc_shared((TILES, w.height, w.dim), w.half)
    k = T.alloc_shared((w.stages, KEYS, w.dim), w.half)
    v = T.alloc_shared((w.stages, KEYS, w.dim), w.half)
    q_full = T.alloc_barrier([WARP] * TILES)
    k_full = T.alloc_barrier([WARP] * w.stages)
    v_full = T.alloc_barrier([WARP] * w.stages)
    q_empty = T.alloc_barrier([4 * w.consumers] * TILES)
    k_empty = T.alloc_barrier([4 * w.consumers] * w.stages)
    v_empty = T.alloc_barrier([4 * w.consumers] * w.stages)
    return Ring(q, k, v, q_full, k_full, v_full, q_empty, k_empty, v_empty)


def stage(w, n):
    """Of the step that n steps of a CTA precede: its place in the ring."""
    return n & (w.stages - 1)


def phase(w, n):
    """Of the same step: the parity of the barriers of its stage."""
    return (n >> (w.stages - 1).bit_length()) & 1


@T.macro
def release(empty, s):
    """Give a stage back; a barrier expects one thread of each warp."""
    if T.get_thread_binding() % 32 == 0:
        T.mbarrier_arrive(empty[s])


@T.macro
def pass_by(w, full, empty, count, start, end):
    """Give back the stages of steps from `start` to `end` - 1 of a list, which are another's."""
    for n in T.unroll(start, end, annotations=ROLLED):
        T.mbarrier_wait_parity(full[stage(w, count + n)], phase(w, count + n))
        release(empty, stage(w, count + n))


@T.macro
def fetch_rows(q, full, s, tile, h, b, Q, queries: int, group: int):
    """A warp fetches the rows of a tile's queries into q[s], query by query."""
    for i in T.unroll(queries):
        for c in T.unroll(q.shape[2] // 64):
            T.tma_copy(
                Q[b, tile * queries + i, h * group : h * group + group, c * 64 : c * 64 + 64],
                q[s, i * group : i * group + group, c * 64 : c * 64 + 64],
                barrier=full[s],
                leader_scope_threads=WARP,
            )
    T.mbarrier_arrive(full[s])


@T.macro
def fetch_queries(w, ring, turn, tile, h, b, Q):
    """The rows of the CTA's tile of this turn, when those of two tiles before are done with."""
    s = turn % TILES
    T.mbarrier_wait_parity(ring.q_empty[s], (turn // TILES & 1) ^ 1)
    fetch_rows(ring.q, ring.q_full, s, tile, h, b, Q, w.queries, w.group)


@T.macro
def fetch_pair(w, X, x_s, full, number, h, b, k0, k1):
    """A step's keys or values into its stage: of two blocks.

    In pieces of 64 columns, as a tile's swizzled halves of 64 lie one after the other.
    """
    for c in T.unroll(w.dim // 64):
        for part, key in ((0, k0), (1, k1)):
            T.tma_copy(
                X[b, key : key + w.block, h, c * 64 : c * 64 + 64],
                x_s[
                    stage(w, number),
                    part * w.block : part * w.block + w.block,
                    c * 64 : c * 64 + 64,
                ],
                barrier=full[stage(w, number)],
                leader_scope_threads=WARP,
            )


@T.macro
def fetch_selected(w, X, x_s, full, empty, Steps, Works, number, cta):
    """The keys or values of all the tiles that the plan lists for a CTA."""
    work = T.alloc_local((WORK,), "int32")
    following = T.alloc_local((BLOCKS,), "int32")
    k0, k1 = T.alloc_var("int32"), T.alloc_var("int32")
    count = T.alloc_var("int32", init=0)
    for turn in T.serial(turns(w, number, cta)):
        read(w, Works, turn, cta, work)
        total = part_of(work).total
        for i in T.vectorized(BLOCKS):
            following[i] = Steps[work[BATCH], work[HEAD], work[TILE], 0, KEY + i]
        for n in T.serial(total):
            k0 = following[0]
            k1 = following[1]
            for i in T.vectorized(BLOCKS):
                following[i] = Steps[
                    work[BATCH], work[HEAD], work[TILE], T.min(n + 1, total - 1), KEY + i
                ]
            s = stage(w, count + n)
            T.mbarrier_wait_parity(empty[s], phase(w, count + n) ^ 1)
            fetch_pair(w, X, x_s, full, count + n, work[HEAD], work[BATCH], k0, k1)
            T.mbarrier_arrive(full[s])
        count = count + total


@T.macro
def fetch_list(w, name: str, X, x_s, full, empty, count, tile, h, b):
    """The keys or values of a tile's dense list; `count` steps come before."""
    for n in T.serial(steps(w, name, tile)):
        s = stage(w, count + n)
        k0 = first(w, name, tile) + n * KEYS
        T.mbarrier_wait_parity(empty[s], phase(w, count + n) ^ 1)
        T.tma_copy(
            X[b, k0 : k0 + KEYS, h, :], x_s[s, :, :], barrier=full[s], leader_scope_threads=WARP
        )
        T.mbarrier_arrive(full[s])


@T.macro
def fetch_dense(w, Mean, X, x_s, full, empty, works, cta):
    """Compressed keys, or values, and those of the window, for all tiles of a CTA."""
    at = T.alloc_local((3,), "int32")
    count = T.alloc_var("int32", init=0)
    begin(w, at, cta)
    for _ in T.serial(turns(w, works, cta)):
        tile = w.tiles - 1 - at[0]
        fetch_list(w, "prefix", Mean, x_s, full, empty, count, tile, at[1], at[2])
        count = count + steps(w, "prefix", tile)
        fetch_list(w, "window", X, x_s, full, empty, count, tile, at[1], at[2])
        count = count + steps(w, "window", tile)
        advance(w, at)
