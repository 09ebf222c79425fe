"""Rows between token order and expert order: copied out before the experts, summed up after.

Both programs have two forms. In the portable one every thread moves its 16 bytes. With `bulk`, on
Hopper, a thread moves a row: one instruction each, and the whole row is asked for at once.
"""

from typing import Any

import tilelang.language as T

from ..common.dialect import Dialect, program

VECTOR = 8  # elements of 16 bytes
WARP = 32


def fitting(how: dict[str, Any], d_hidden: int, top_k: int) -> dict[str, Any]:
    """The schedule, with `bulk` only where rows can be cut into pieces of whole warps."""
    if how.get("bulk") and (d_hidden % (WARP * VECTOR) or top_k > WARP):
        return {"block_n": how["threads"] * VECTOR, "threads": how["threads"], "bulk": 0}
    return how


def _piece(d_hidden: int, most: int) -> int:
    """The longest piece of a row, at most `most`, that divides it and gives whole warps work."""
    unit = WARP * VECTOR
    return max(n for n in range(unit, most + 1, unit) if d_hidden % n == 0)


@program(writes=("rows",))
def permute(
    D: Dialect, *, d_hidden: int, top_k: int, dtype: str, block_n: int, threads: int, bulk: int = 0
):
    """rows[pair_row[t, k]] = hidden[t]: tokens are read once and written to all their rows."""
    dtype = D.dtype(dtype)
    tokens, slots = T.dynamic("tokens"), T.dynamic("slots")
    tiles = -(-d_hidden // block_n)

    @T.macro
    def by_threads(hidden, pair_row, rows):
        with D.kernel(tokens * tiles, threads=threads) as block:
            piece = D.alloc_fragment((block_n,), dtype)
            t, tile = T.min(T.truncdiv(block, tiles), tokens - 1), T.truncmod(block, tiles)
            D.follow()
            for j in D.parallel(block_n):
                if tile * block_n + j < d_hidden:
                    piece[j] = hidden[t, tile * block_n + j]
            for k in T.serial(top_k):
                row = pair_row[t, k]
                for j in D.parallel(block_n):
                    if tile * block_n + j < d_hidden:
                        rows[row, tile * block_n + j] = piece[j]

    @T.macro
    def by_rows(hidden, pair_row, rows):
        with T.Kernel(tokens, threads=WARP) as t:
            token = T.alloc_shared((d_hidden,), dtype)
            full = T.alloc_barrier([1])
            k = T.get_thread_binding()
            D.follow()
            if k == 0:
                T.mbarrier_expect_tx(full[0], d_hidden * 2)
                T.tma_load(
                    T.access_ptr(token[0], "w", d_hidden),
                    T.access_ptr(hidden[t, 0], "r", d_hidden),
                    full[0], d_hidden * 2, 0,
                )  # fmt: skip
                T.mbarrier_arrive(full[0])
            row = pair_row[t, T.min(k, top_k - 1)]
            T.mbarrier_wait_parity(full[0], 0)
            if k < top_k:
                # TileLang has no word for a thread's own bulk store.
                # lint: allow call-extern because `bulk` is for Hopper alone, where no contest is
                T.call_extern(
                    "handle", "tl::tma_store", T.access_ptr(rows[row, 0], "w", d_hidden),
                    T.access_ptr(token[0], "r", d_hidden), d_hidden * 2,
                )  # fmt: skip
                T.tma_store_arrive()
                T.tma_store_wait(0)

    @T.prim_func
    def moe_permute(
        hidden: T.Tensor((tokens, d_hidden), dtype),
        pair_row: T.Tensor((tokens, top_k), "int32"),
        rows: T.Tensor((slots, d_hidden), dtype),
    ):
        if bulk:
            by_rows(hidden, pair_row, rows)
        else:
            by_threads(hidden, pair_row, rows)

    return moe_permute


@program(writes=("out",))
def combine(
    D: Dialect, *, d_hidden: int, top_k: int, dtype: str, block_n: int, threads: int, bulk: int = 0
):
    """out[t] = sum over k of weights[t, k] * rows[pair_row[t, k]], added in fp32 in order of k."""
    dtype = D.dtype(dtype)
    tokens, slots = T.dynamic("tokens"), T.dynamic("slots")
    if bulk:
        block_n = _piece(d_hidden, block_n)
        threads = block_n // VECTOR
    tiles = -(-d_hidden // block_n)

    @T.macro
    def by_threads(rows, pair_row, weights, out):
        with D.kernel(tokens * tiles, threads=threads) as block:
            acc = D.alloc_fragment((block_n,), "float32")
            t, tile = T.min(T.truncdiv(block, tiles), tokens - 1), T.truncmod(block, tiles)
            D.follow()
            T.clear(acc)
            for k in T.unroll(top_k):
                row = pair_row[t, k]
                weight = weights[t, k]
                for j in D.parallel(block_n):
                    if tile * block_n + j < d_hidden:
                        acc[j] += weight * T.cast(rows[row, tile * block_n + j], "float32")
            for j in D.parallel(block_n):
                if tile * block_n + j < d_hidden:
                    out[t, tile * block_n + j] = T.cast(acc[j], dtype)

    @T.macro
    def by_rows(rows, pair_row, weights, out):
        with T.Kernel(tokens * tiles, threads=threads) as block:
            pieces = T.alloc_shared((top_k, block_n), dtype)
            full = T.alloc_barrier([top_k])
            acc = T.alloc_fragment((block_n,), "float32")
            weight = T.alloc_local((top_k,), "float32")
            t, tile = T.min(T.truncdiv(block, tiles), tokens - 1), T.truncmod(block, tiles)
            own = T.get_thread_binding()
            D.follow()
            if own < top_k:
                # Within bounds whatever the table says: a load left out would be awaited for ever.
                row = T.max(0, T.min(pair_row[t, own], slots - 1))
                T.mbarrier_expect_tx(full[0], block_n * 2)
                T.tma_load(
                    T.access_ptr(pieces[own, 0], "w", block_n),
                    T.access_ptr(rows[row, tile * block_n], "r", block_n),
                    full[0], block_n * 2, 0,
                )  # fmt: skip
                T.mbarrier_arrive(full[0])
            T.clear(acc)
            for k in T.unroll(top_k):
                weight[k] = weights[t, k]
            T.mbarrier_wait_parity(full[0], 0)
            for k in T.unroll(top_k):
                for j in T.Parallel(block_n):
                    acc[j] += weight[k] * T.cast(pieces[k, j], "float32")
            for j in T.Parallel(block_n):
                out[t, tile * block_n + j] = T.cast(acc[j], dtype)

    @T.prim_func
    def moe_combine(
        rows: T.Tensor((slots, d_hidden), dtype),
        pair_row: T.Tensor((tokens, top_k), "int32"),
        weights: T.Tensor((tokens, top_k), "float32"),
        out: T.Tensor((tokens, d_hidden), dtype),
    ):
        if bulk:
            by_rows(rows, pair_row, weights, out)
        else:
            by_threads(rows, pair_row, weights, out)

    return moe_combine
