"""Split-KV flash decoding: one body for cuda (sm_80 and up), maca and cpu. See DESIGN.md."""

import math

from ..common import dialect, schedule
from ._combine import ROOM, choose_splits
from ._decode import dense_parts, dense_whole, paged_parts, paged_whole
from ._plan import Plan, finder
from ._shapes import dtype_name, fit_page, require_one_kv_head

_plans = dialect.memo()


def dense(q, q_pe, kv, k_pe, out, *, softmax_scale):
    """One query a sequence over a contiguous cache.

    Raises:
        NotImplementedError: more than one KV head.
    """
    key = (q.shape, kv.shape, q.dtype, q.device)
    plan = _plans.get(key)
    if plan is None:
        require_one_kv_head(kv)
        used, find = finder("portable")
        batch, heads, dim = q.shape
        tiling = find("dense", rows=heads)
        sizes = {"dim": dim, "pe_dim": q_pe.shape[-1], "dtype": dtype_name(q), **tiling}
        programs = (dense_whole, dense_parts)
        plan = _plan(used, find, programs, sizes, batch, heads, kv.shape[1]).on(q.device)
        dialect.remember(_plans, key, plan)
    schedule.note(plan.used)
    plan.launch(q, q_pe, kv.squeeze(2), k_pe.squeeze(2), *plan.scratch(), out, softmax_scale)


def paged(q, kv_cache, block_table, cache_seqlens, out, lse, *, softmax_scale, causal):
    """A few queries a sequence over a paged cache.

    Raises:
        NotImplementedError: more than one KV head, or pages that no tile divides.
    """
    batch, q_len, heads, qk_dim = q.shape
    rows, page, dim = q_len * heads, kv_cache.shape[1], out.shape[-1]
    key = (q.shape, dim, page, block_table.shape[1], q.dtype, q.device)
    plan = _plans.get(key)
    if plan is None:
        require_one_kv_head(kv_cache)
        used, find = finder("portable")
        tiling = fit_page(find("paged", rows=rows), page)
        sizes = {"dim": dim, "pe_dim": qk_dim - dim, "page": page, "dtype": dtype_name(q), **tiling}
        # The lengths stay on the device; the width of the block table bounds them.
        keys = block_table.shape[1] * page
        plan = _plan(used, find, (paged_whole, paged_parts), sizes, batch, rows, keys).on(q.device)
        dialect.remember(_plans, key, plan)
    schedule.note(plan.used)
    plan.launch(
        q.view(batch, rows, qk_dim),
        kv_cache.squeeze(2),
        block_table,
        cache_seqlens,
        *plan.scratch(),
        out.view(batch, rows, dim),
        lse,
        softmax_scale,
        int(causal),
    )


def _plan(used, find, programs, sizes, batch, rows, keys):
    """`programs` are for one split, which writes the output, and for several.

    The number of splits comes from shapes alone, so that choosing it never waits for the device.
    """
    rule = dict(find("splits", rows=rows))
    blocks = math.ceil(rows / sizes["block_h"])
    tiles = math.ceil(keys / sizes["block_n"])
    splits = rule.pop("num_splits", None) or choose_splits(
        batch * blocks, tiles, dialect.current().sms, **rule
    )
    whole, parts = programs
    if splits == 1:
        return Plan(used, whole.get(**sizes), None)
    launch = parts.get(**sizes, **find("combine"))
    return Plan(used, launch, (batch, splits, blocks, sizes["block_h"] * (sizes["dim"] + ROOM)))
