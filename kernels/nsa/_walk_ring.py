"""The producer of `_walk`: it fetches queries and keys by TMA into a ring of stages.

A stage is full when its bytes have come, and empty when every consumer warp has given it back.
"""

from dataclasses import dataclass
from typing import Any

import tilelang.language as T

from ._walk_steps import KEYS, start


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


@T.macro
def make_ring(w):
    q = T.alloc_shared((w.height, w.dim), w.half)
    k = T.alloc_shared((w.stages, KEYS, w.dim), w.half)
    v = T.alloc_shared((w.stages, KEYS, w.dim), w.half)
    q_full = T.alloc_barrier([128])
    k_full = T.alloc_barrier([128] * w.stages)
    v_full = T.alloc_barrier([128] * w.stages)
    q_empty = T.alloc_barrier([4 * w.consumers])
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
def fetch_rows(q, q_full, tile, h, b, Q, queries: int, group: int, threads: int | None = None):
    """A tile's rows, query by query, for the `threads` that fetch: by themselves a warpgroup."""
    for i in T.unroll(queries):
        for c in T.unroll(q.shape[1] // 64):
            T.tma_copy(
                Q[
                    b,
                    tile * queries + i,
                    h * group : h * group + group,
                    c * 64 : c * 64 + 64,
                ],
                q[i * group : i * group + group, c * 64 : c * 64 + 64],
                barrier=q_full[0],
                leader_scope_threads=threads,
            )
    T.mbarrier_arrive(q_full[0])


@T.macro
def fetch_q(w, ring, number, tile, h, b, Q):
    """The tile's rows, when those of the last one are done with; `number` counts the tiles."""
    T.mbarrier_wait_parity(ring.q_empty[0], (number & 1) ^ 1)
    fetch_rows(ring.q, ring.q_full, tile, h, b, Q, w.queries, w.group)


@T.macro
def fetch(w, name: str, X, x_s, full, b, h, s, k0, k1):
    """A step's keys or values into stage s: of two blocks, or KEYS side by side."""
    if name == "union" and w.pair == 2:
        # In pieces of 64 columns, as a tile's swizzled halves of 64 lie one after the other.
        for c in T.unroll(w.dim // 64):
            T.tma_copy(
                X[b, k0 : k0 + w.block, h, c * 64 : c * 64 + 64],
                x_s[s, 0 : w.block, c * 64 : c * 64 + 64],
                barrier=full[s],
            )
            T.tma_copy(
                X[b, k1 : k1 + w.block, h, c * 64 : c * 64 + 64],
                x_s[s, w.block : KEYS, c * 64 : c * 64 + 64],
                barrier=full[s],
            )
    else:
        T.tma_copy(X[b, k0 : k0 + KEYS, h, :], x_s[s, :, :], barrier=full[s])
    T.mbarrier_arrive(full[s])


@T.macro
def produce(w, name: str, ring, count, total, tile, h, b, K, V, Ids):
    """Fetch the `total` steps of a tile's list; `count` counts the steps before."""
    for n in T.serial(total):
        s = stage(w, count + n)
        parity = phase(w, count + n) ^ 1
        k0 = start(w, name, Ids, b, h, tile, n)
        k1 = start(w, name, Ids, b, h, tile, n, w.pair - 1)
        T.mbarrier_wait_parity(ring.k_empty[s], parity)
        fetch(w, name, K, ring.k, ring.k_full, b, h, s, k0, k1)
        T.mbarrier_wait_parity(ring.v_empty[s], parity)
        fetch(w, name, V, ring.v, ring.v_full, b, h, s, k0, k1)
