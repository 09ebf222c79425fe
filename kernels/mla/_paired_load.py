"""The third warpgroup of `_paired`: it loads the queries, then tile after tile, by TMA."""

import tilelang.language as T

from ._paired_state import BLOCK_H, BLOCK_N


@T.macro
def load_queries(t, job, Q, QPe, pe_column):
    """Rows past the last come as zeros."""
    b, row0 = job.b, job.x * BLOCK_H
    T.tma_copy(Q[b, row0 : row0 + BLOCK_H, 0 : t.half], t.q[0], barrier=t.queries)
    T.tma_copy(Q[b, row0 : row0 + BLOCK_H, t.half : 2 * t.half], t.q[1], barrier=t.queries)
    T.tma_copy(
        QPe[b, row0 : row0 + BLOCK_H, pe_column : pe_column + t.pe_dim], t.q_pe, barrier=t.queries
    )
    T.barrier_arrive(t.queries)


@T.macro
def load_tile(t, w, Kv, KPe, pe_column, slab, row, pair):
    """The half that the scores start with is the one that is given back first."""
    first, second = w, 1 - w
    T.barrier_wait(t.free[2 * w + first], (pair & 1) ^ 1)
    T.tma_copy(
        Kv[slab, row : row + BLOCK_N, 0, first * t.half : (first + 1) * t.half],
        t.kv[w][first],
        barrier=t.full[2 * w],
    )
    T.barrier_arrive(t.full[2 * w])
    T.barrier_wait(t.free[2 * w + second], (pair & 1) ^ 1)
    T.tma_copy(
        Kv[slab, row : row + BLOCK_N, 0, second * t.half : (second + 1) * t.half],
        t.kv[w][second],
        barrier=t.full[2 * w + 1],
    )
    T.tma_copy(
        KPe[slab, row : row + BLOCK_N, 0, pe_column : pe_column + t.pe_dim],
        t.k_pe[w],
        barrier=t.full[2 * w + 1],
    )
    T.barrier_arrive(t.full[2 * w + 1])


@T.macro
def load_dense(t, job, Q, QPe, Kv, KPe):
    """Keys past the last come as zeros."""
    load_queries(t, job, Q, QPe, 0)
    for i in T.serial(job.pairs):
        load_tile(t, 0, Kv, KPe, 0, job.b, job.first_key(2 * i), i)
        load_tile(t, 1, Kv, KPe, 0, job.b, job.first_key(2 * i + 1), i)


@T.macro
def load_paged(t, job, Q, Cache, BlockTable, page, count):
    """Page numbers of the next pair are fetched while this one loads. A pair's second tile that
    does not exist is loaded from the page of the first; its keys are seen by no row."""
    load_queries(t, job, Q, Q, 2 * t.half)
    number = T.alloc_local((4,), "int32")
    for w in T.unroll(2):
        if w < count:
            number[2 + w] = BlockTable[job.b, job.first_key(w) // page]
    for i in T.serial(job.pairs):
        number[0] = number[2]
        number[1] = T.if_then_else(2 * i + 1 < count, number[3], number[2])
        for w in T.unroll(2):
            if 2 * i + 2 + w < count:
                number[2 + w] = BlockTable[job.b, job.first_key(2 * i + 2 + w) // page]
        key0 = job.first_key(2 * i)
        load_tile(t, 0, Cache, Cache, 2 * t.half, number[0], key0 % page, i)
        load_tile(
            t, 1, Cache, Cache, 2 * t.half, number[1], (key0 + job.splits * BLOCK_N) % page, i
        )
