"""Split-KV attention for one MLA decoding step: the programs behind `portable.py`.

One CTA serves `block_h` query rows of one sequence and every `splits`-th tile of `block_n` keys. A
tile of the latent cache is loaded into shared memory once and used twice, as K (all its columns)
and as V (all but the rotary ones).
"""

import tilelang.language as T

from ..common.dialect import BY_ALL, program
from ._combine import ROOM, merge
from ._tile import finish, finish_part, start, walk, working_set

# TileLang 0.1.9 does not see that rows map one to one to elements of `Lse`, and warns of a race.
PASSES = {**BY_ALL, "tl.disable_data_race_check": True}


@program(writes=("Out",), pass_configs=PASSES)
def dense_whole(D, *, dim, pe_dim, dtype, block_h, block_n, threads, stages):
    """Without splits. Q [B, Hq, dim], QPe [B, Hq, pe_dim], Kv [B, S, dim], KPe [B, S, pe_dim] ->
    Out [B, Hq, dim]."""
    batch, keys, heads = T.dynamic("batch"), T.dynamic("keys"), T.dynamic("heads")
    half = D.dtype(dtype)

    @T.prim_func
    def main(
        Q: T.Tensor((batch, heads, dim), half),
        QPe: T.Tensor((batch, heads, pe_dim), half),
        Kv: T.Tensor((batch, keys, dim), half),
        KPe: T.Tensor((batch, keys, pe_dim), half),
        Out: T.Tensor((batch, heads, dim), half),
        scale: T.float32,
    ):
        with D.kernel(T.ceildiv(heads, block_h), batch, threads=threads) as (x, b):
            t = working_set(D, block_h, block_n, dim, pe_dim, half, late_sum=True)
            start(t, Q, QPe, 0, b, x * block_h, heads, heads, keys, 0)
            walk(t, Kv, KPe, 0, lambda key: (b, key), keys, 0, 0, 1, scale, stages)
            finish(t, b, x * block_h, heads, heads, scale, Out, None)

    return main


@program(writes=("Part", "Out"), pass_configs=PASSES)
def dense_parts(
    D, *, dim, pe_dim, dtype, block_h, block_n, threads, stages, block_d, combine_threads, groups,
    unroll,
):  # fmt: skip
    """As dense_whole, in splits. Part [B, splits, row blocks, block_h * (dim + ROOM)]: scratch."""
    batch, keys, heads = T.dynamic("batch"), T.dynamic("keys"), T.dynamic("heads")
    splits, blocks = T.dynamic("splits"), T.dynamic("blocks")
    half = D.dtype(dtype)

    @T.prim_func
    def main(
        Q: T.Tensor((batch, heads, dim), half),
        QPe: T.Tensor((batch, heads, pe_dim), half),
        Kv: T.Tensor((batch, keys, dim), half),
        KPe: T.Tensor((batch, keys, pe_dim), half),
        Part: T.Tensor((batch, splits, blocks, block_h * (dim + ROOM)), "float32"),
        Out: T.Tensor((batch, heads, dim), half),
        scale: T.float32,
    ):
        with D.kernel(T.ceildiv(heads, block_h), splits, batch, threads=threads) as (x, split, b):
            t = working_set(D, block_h, block_n, dim, pe_dim, half, late_sum=True)
            start(t, Q, QPe, 0, b, x * block_h, heads, heads, keys, 0)
            walk(t, Kv, KPe, 0, lambda key: (b, key), keys, 0, split, splits, scale, stages)
            finish_part(t, b, split, x, scale, Part)
        merge(
            D, Part, batch, heads, splits, block_h, dim, block_d, combine_threads, groups, unroll,
            Out, None, heads, early=False,
        )  # fmt: skip

    return main


@program(writes=("Out", "Lse"), pass_configs=PASSES)
def paged_whole(D, *, dim, pe_dim, page, dtype, block_h, block_n, threads, stages):
    """Without splits. Q [B, Sq * Hq, dim + pe_dim], Cache [pages, page, dim + pe_dim],
    BlockTable [B, max_pages], SeqLens [B] -> Out [B, Sq * Hq, dim], Lse [B, Hq, Sq]. A tile lies
    within a page. `causal` is 1 or 0."""
    assert page % block_n == 0
    batch, pages, max_pages = T.dynamic("batch"), T.dynamic("pages"), T.dynamic("max_pages")
    rows, heads, q_len = T.dynamic("rows"), T.dynamic("heads"), T.dynamic("q_len")
    half = D.dtype(dtype)

    @T.prim_func
    def main(
        Q: T.Tensor((batch, rows, dim + pe_dim), half),
        Cache: T.Tensor((pages, page, dim + pe_dim), half),
        BlockTable: T.Tensor((batch, max_pages), "int32"),
        SeqLens: T.Tensor((batch,), "int32"),
        Out: T.Tensor((batch, rows, dim), half),
        Lse: T.Tensor((batch, heads, q_len), "float32"),
        scale: T.float32,
        causal: T.int32,
    ):
        with D.kernel(T.ceildiv(rows, block_h), batch, threads=threads) as (x, b):
            t = working_set(D, block_h, block_n, dim, pe_dim, half, late_sum=True)
            length = SeqLens[b]
            hidden = causal * (q_len - 1)
            start(t, Q, Q, dim, b, x * block_h, rows, heads, length, hidden)
            walk(
                t, Cache, Cache, dim, lambda key: (BlockTable[b, key // page], key % page),
                length, hidden, 0, 1, scale, stages,
            )  # fmt: skip
            finish(t, b, x * block_h, rows, heads, scale, Out, Lse)

    return main


@program(writes=("Part", "Out", "Lse"), pass_configs=PASSES)
def paged_parts(
    D, *, dim, pe_dim, page, dtype, block_h, block_n, threads, stages, block_d, combine_threads,
    groups, unroll,
):  # fmt: skip
    """As paged_whole, in splits. Part [B, splits, row blocks, block_h * (dim + ROOM)]: scratch."""
    assert page % block_n == 0
    batch, pages, max_pages = T.dynamic("batch"), T.dynamic("pages"), T.dynamic("max_pages")
    rows, heads, q_len = T.dynamic("rows"), T.dynamic("heads"), T.dynamic("q_len")
    splits, blocks = T.dynamic("splits"), T.dynamic("blocks")
    half = D.dtype(dtype)

    @T.prim_func
    def main(
        Q: T.Tensor((batch, rows, dim + pe_dim), half),
        Cache: T.Tensor((pages, page, dim + pe_dim), half),
        BlockTable: T.Tensor((batch, max_pages), "int32"),
        SeqLens: T.Tensor((batch,), "int32"),
        Part: T.Tensor((batch, splits, blocks, block_h * (dim + ROOM)), "float32"),
        Out: T.Tensor((batch, rows, dim), half),
        Lse: T.Tensor((batch, heads, q_len), "float32"),
        scale: T.float32,
        causal: T.int32,
    ):
        with D.kernel(T.ceildiv(rows, block_h), splits, batch, threads=threads) as (x, split, b):
            t = working_set(D, block_h, block_n, dim, pe_dim, half, late_sum=True)
            length = SeqLens[b]
            hidden = causal * (q_len - 1)
            start(t, Q, Q, dim, b, x * block_h, rows, heads, length, hidden)
            walk(
                t, Cache, Cache, dim, lambda key: (BlockTable[b, key // page], key % page),
                length, hidden, split, splits, scale, stages,
            )  # fmt: skip
            finish_part(t, b, split, x, scale, Part)
        merge(
            D, Part, batch, rows, splits, block_h, dim, block_d, combine_threads, groups, unroll,
            Out, Lse, heads, early=False,
        )  # fmt: skip

    return main
