"""The contest sample's algorithm: one CTA for 16 heads of a sequence walks its whole context.

No split of the keys: a batch of one keeps one processor busy. Tiles of 32 keys, 128 threads.
"""

import tilelang.language as T
import torch

from ..common.dialect import program
from ..common.schedule import schedule
from ._combine import LOG2E
from ._decode import PASSES
from ._shapes import dtype_name, fit_page, require_one_kv_head
from ._tile import attend, finish, load, start, working_set


@program(writes=("Out", "Lse"), pass_configs=PASSES)
def dense_walk(D, *, dim, pe_dim, dtype, block_h, block_n, threads, stages):
    """Q [B, Hq, dim], QPe [B, Hq, pe_dim], Kv [B, S, dim], KPe [B, S, pe_dim] ->
    Out [B, Hq, dim], Lse [B, Hq, 1]."""
    batch, keys, heads = T.dynamic("batch"), T.dynamic("keys"), T.dynamic("heads")
    half = D.dtype(dtype)

    @T.prim_func
    def main(
        Q: T.Tensor((batch, heads, dim), half),
        QPe: T.Tensor((batch, heads, pe_dim), half),
        Kv: T.Tensor((batch, keys, dim), half),
        KPe: T.Tensor((batch, keys, pe_dim), half),
        Out: T.Tensor((batch, heads, dim), half),
        Lse: T.Tensor((batch, heads, 1), "float32"),
        scale: T.float32,
    ):
        with D.kernel(T.ceildiv(heads, block_h), batch, threads=threads) as (x, b):
            t = working_set(D, block_h, block_n, dim, pe_dim, half, late_sum=False)
            start(t, Q, QPe, 0, b, x * block_h, heads, heads, keys, 0)
            for k in D.pipelined(T.ceildiv(keys, block_n), num_stages=stages):
                key0 = k * block_n
                load(t, Kv, KPe, 0, b, key0)
                attend(t, t.kv, t.k_pe, key0, scale * LOG2E, True)
            finish(t, b, x * block_h, heads, heads, scale, Out, Lse)

    return main


@program(writes=("Out", "Lse"), pass_configs=PASSES)
def paged_walk(D, *, dim, pe_dim, page, dtype, block_h, block_n, threads, stages):
    """Q [B, Sq * Hq, dim + pe_dim], Cache [pages, page, dim + pe_dim], BlockTable
    [B, max_pages], SeqLens [B] -> Out [B, Sq * Hq, dim], Lse [B, Hq, Sq]."""
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
            t = working_set(D, block_h, block_n, dim, pe_dim, half, late_sum=False)
            length = SeqLens[b]
            start(t, Q, Q, dim, b, x * block_h, rows, heads, length, causal * (q_len - 1))
            for k in D.pipelined(T.ceildiv(length, block_n), num_stages=stages):
                key0 = k * block_n
                number, row = BlockTable[b, key0 // page], key0 % page
                # Key by key: what lies past the length in the last page may be NaN.
                for j, d in D.parallel(block_n, dim):
                    t.kv[j, d] = T.if_then_else(key0 + j < length, Cache[number, row + j, d], 0)
                for j, d in D.parallel(block_n, pe_dim):
                    t.k_pe[j, d] = T.if_then_else(
                        key0 + j < length, Cache[number, row + j, dim + d], 0
                    )
                attend(t, t.kv, t.k_pe, key0, scale * LOG2E, True)
            finish(t, b, x * block_h, rows, heads, scale, Out, Lse)

    return main


def dense(q, q_pe, kv, k_pe, out, *, softmax_scale):
    """One query a sequence over a contiguous cache.

    Raises:
        NotImplementedError: more than one KV head.
    """
    require_one_kv_head(kv)
    tiling = schedule("mla/baseline/attend")
    lse = q.new_empty(*q.shape[:2], 1, dtype=torch.float32)  # not asked for
    launch = dense_walk.get(dim=q.shape[-1], pe_dim=q_pe.shape[-1], dtype=dtype_name(q), **tiling)
    launch(q, q_pe, kv.squeeze(2), k_pe.squeeze(2), out, lse, softmax_scale)


def paged(q, kv_cache, block_table, cache_seqlens, out, lse, *, softmax_scale, causal):
    """A few queries a sequence over a paged cache.

    Raises:
        NotImplementedError: more than one KV head, or pages that no tile divides.
    """
    require_one_kv_head(kv_cache)
    batch, q_len, heads, qk_dim = q.shape
    page, dim = kv_cache.shape[1], out.shape[-1]
    tiling = fit_page(schedule("mla/baseline/attend"), page)
    launch = paged_walk.get(dim=dim, pe_dim=qk_dim - dim, page=page, dtype=dtype_name(q), **tiling)
    launch(
        q.view(batch, q_len * heads, qk_dim),
        kv_cache.squeeze(2),
        block_table,
        cache_seqlens,
        out.view(batch, q_len * heads, dim),
        lse,
        softmax_scale,
        int(causal),
    )
