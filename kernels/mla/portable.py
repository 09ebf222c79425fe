"""Split-KV flash decoding: one body for cuda (sm_80 and up), maca and cpu. See DESIGN.md."""

import math

import torch

from ..common.dialect import current
from ..common.schedule import schedule
from ._combine import choose_splits, combine
from ._decode import dense_splits, paged_splits
from ._shapes import dtype_name, fit_page, require_one_kv_head


def dense(q, q_pe, kv, k_pe, out, *, softmax_scale):
    """One query a sequence over a contiguous cache.

    Raises:
        NotImplementedError: more than one KV head.
    """
    batch, heads, dim = q.shape
    keys = kv.shape[1]
    require_one_kv_head(kv)
    tiling = schedule("mla/portable/dense", rows=heads)
    lse = q.new_empty(batch, heads, 1, dtype=torch.float32)
    part, part_lse = _split_outputs(out, lse, batch, heads, keys, tiling)
    attend = dense_splits.get(
        dim=dim, pe_dim=q_pe.shape[-1], dtype=dtype_name(q), out_dtype=dtype_name(part), **tiling
    )
    attend(q, q_pe, kv.squeeze(2), k_pe.squeeze(2), part, part_lse, softmax_scale)
    _merge(part, part_lse, out, lse)


def paged(q, kv_cache, block_table, cache_seqlens, out, lse, *, softmax_scale, causal):
    """A few queries a sequence over a paged cache.

    Raises:
        NotImplementedError: more than one KV head, or pages that no tile divides.
    """
    batch, q_len, heads, qk_dim = q.shape
    page, dim = kv_cache.shape[1], out.shape[-1]
    require_one_kv_head(kv_cache)
    rows = q_len * heads
    tiling = fit_page(schedule("mla/portable/paged", rows=rows), page)
    # The lengths stay on the device; the width of the block table bounds them.
    longest = block_table.shape[1] * page
    flat_out = out.view(batch, rows, dim)
    part, part_lse = _split_outputs(flat_out, lse, batch, rows, longest, tiling)
    attend = paged_splits.get(
        dim=dim,
        pe_dim=qk_dim - dim,
        page=page,
        dtype=dtype_name(q),
        out_dtype=dtype_name(part),
        **tiling,
    )
    attend(
        q.view(batch, rows, qk_dim),
        kv_cache.squeeze(2),
        block_table,
        cache_seqlens,
        part,
        part_lse,
        softmax_scale,
        int(causal),
    )
    _merge(part, part_lse, flat_out, lse)


def _split_outputs(out, lse, batch, rows, keys, tiling):
    """Where the splits write: [B, splits, rows, dim] and [B, splits, Hq, Sq].

    fp32 scratch, or the very `out` [B, rows, dim] and `lse` [B, Hq, Sq] if there is one split.
    The number of splits comes from shapes alone, so that choosing it never waits for the device.
    """
    plan = dict(schedule("mla/portable/splits", rows=rows))
    blocks = batch * math.ceil(rows / tiling["block_h"])
    tiles = math.ceil(keys / tiling["block_n"])
    splits = plan.pop("num_splits", None) or choose_splits(blocks, tiles, current().sms, **plan)
    if splits == 1:
        return out[:, None], lse[:, None]
    part = out.new_empty(batch, splits, rows, out.shape[-1], dtype=torch.float32)
    return part, lse.new_empty(batch, splits, *lse.shape[1:])


def _merge(part, part_lse, out, lse):
    """Combine the splits' outputs into `out` [B, rows, dim] and `lse`, unless they are it."""
    if part.shape[1] == 1:
        return
    launch = combine.get(
        dim=out.shape[-1], dtype=dtype_name(out), **schedule("mla/portable/combine")
    )
    launch(part, part_lse, out, lse)
