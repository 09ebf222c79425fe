"""Rows between token order and expert order: copied out before the experts, summed up after."""

import tilelang.language as T

from ..common.dialect import Dialect, program
from ._hopper import follow


@program(writes=("rows",))
def permute(D: Dialect, *, d_hidden: int, top_k: int, dtype: str, block_n: int, threads: int):
    """rows[pair_row[t, k]] = hidden[t]: tokens are read once and written to all their rows."""
    dtype = D.dtype(dtype)
    tokens, slots = T.dynamic("tokens"), T.dynamic("slots")

    @T.prim_func
    def moe_permute(
        hidden: T.Tensor((tokens, d_hidden), dtype),
        pair_row: T.Tensor((tokens, top_k), "int32"),
        rows: T.Tensor((slots, d_hidden), dtype),
    ):
        with D.kernel(tokens, T.ceildiv(d_hidden, block_n), threads=threads) as (t, tile):
            piece = D.alloc_fragment((block_n,), dtype)
            follow(D)
            for j in D.parallel(block_n):
                if tile * block_n + j < d_hidden:
                    piece[j] = hidden[t, tile * block_n + j]
            for k in T.serial(top_k):
                row = pair_row[t, k]
                for j in D.parallel(block_n):
                    if tile * block_n + j < d_hidden:
                        rows[row, tile * block_n + j] = piece[j]

    return moe_permute


@program(writes=("out",))
def combine(D: Dialect, *, d_hidden: int, top_k: int, dtype: str, block_n: int, threads: int):
    """out[t] = sum over k of weights[t, k] * rows[pair_row[t, k]], added in fp32 in order of k."""
    dtype = D.dtype(dtype)
    tokens, slots = T.dynamic("tokens"), T.dynamic("slots")

    @T.prim_func
    def moe_combine(
        rows: T.Tensor((slots, d_hidden), dtype),
        pair_row: T.Tensor((tokens, top_k), "int32"),
        weights: T.Tensor((tokens, top_k), "float32"),
        out: T.Tensor((tokens, d_hidden), dtype),
    ):
        with D.kernel(tokens, T.ceildiv(d_hidden, block_n), threads=threads) as (t, tile):
            acc = D.alloc_fragment((block_n,), "float32")
            follow(D)
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

    return moe_combine
