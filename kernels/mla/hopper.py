"""Hopper's own schedules; where they do not fit, `portable.py` serves the call. See DESIGN.md.

Up to 32 rows a sequence, decoding waits for memory, or at small batch for latency: `_turned.py`,
`_clustered.py` where two launches take the host longer than they take the device, and `_even.py`
where lengths may differ by a lot of work.
More rows keep the tensor cores busy: `_paired.py`.
"""

import math

import torch

from ..common import dialect, schedule
from . import _clustered, _even, _paired, _turned, portable
from ._combine import ROOM, choose_splits
from ._plan import Plan, finder
from ._shapes import dtype_name, require_one_kv_head

TURNED_ROWS = 32  # the most rows of a sequence that `_turned` takes
DIM, PE_DIM = 512, 64  # two tiles and the queries of these sizes fill the shared memory


_plans = dialect.memo()
_loaded = set()  # (program that only captures launch, device that it has run on)


def dense(q, q_pe, kv, k_pe, out, *, softmax_scale):
    """One query a sequence over a contiguous cache.

    Raises:
        NotImplementedError: more than one KV head.
    """
    key = (q.shape, kv.shape, q.dtype, q.device)
    plan = _plans.get(key)
    if plan is None:
        require_one_kv_head(kv)
        if not _fits(q.shape[-1], q_pe.shape[-1]):
            portable.dense(q, q_pe, kv, k_pe, out, softmax_scale=softmax_scale)
            return
        sizes = {"dim": DIM, "pe_dim": PE_DIM, "dtype": dtype_name(q)}
        plan = _plan("dense", sizes, q.shape[0], q.shape[1], kv.shape[1]).on(q.device)
        loaded = (plan.launch, q.device)
        if plan.alone is not None and loaded not in _loaded and not _capturing(q):
            # A capture may come later, and must not be what loads this program.
            plan.launch(q, q_pe, kv, k_pe, *plan.scratch(), out, softmax_scale)
            _loaded.add(loaded)
        dialect.remember(_plans, key, plan)
    schedule.note(plan.used)
    # Two launches take the host longer than the device, unless a graph replays them.
    if plan.alone is None or _capturing(q):
        plan.launch(q, q_pe, kv, k_pe, *plan.scratch(), out, softmax_scale)
    else:
        plan.alone(q, q_pe, kv, k_pe, out, softmax_scale)


def _capturing(q):
    return q.is_cuda and torch.cuda.is_current_stream_capturing()


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
        if not _fits(dim, qk_dim - dim) or page % _turned.BLOCK_N:
            portable.paged(
                q, kv_cache, block_table, cache_seqlens, out, lse,
                softmax_scale=softmax_scale, causal=causal,
            )  # fmt: skip
            return
        sizes = {"dim": DIM, "pe_dim": PE_DIM, "page": page, "dtype": dtype_name(q)}
        # The lengths stay on the device; the width of the block table bounds them.
        plan = _plan("paged", sizes, batch, rows, block_table.shape[1] * page).on(q.device)
        dialect.remember(_plans, key, plan)
    schedule.note(plan.used)
    plan.launch(
        q.view(batch, rows, qk_dim),
        kv_cache,
        block_table,
        cache_seqlens,
        *plan.scratch(),
        out.view(batch, rows, dim),
        lse,
        softmax_scale,
        int(causal),
    )


def _fits(dim, pe_dim):
    """Whether this module has programs for the current target and these sizes."""
    return dialect.current().arch.startswith("sm_90") and (dim, pe_dim) == (DIM, PE_DIM)


def _plan(contract, sizes, batch, rows, keys):
    used, find = finder("hopper")
    if contract == "paged" and rows <= TURNED_ROWS:
        # Tiles for each multiprocessor, if all sequences are as long as may be.
        share = batch * math.ceil(keys / _even.BLOCK_N) // dialect.current().sms
        even = find("even", rows=rows, batch=batch, share=share)
        if even:
            return _even_plan(used, find, {**sizes, **even}, batch)
    rule = dict(find("splits", rows=rows, paged=int(contract == "paged")))
    most_keys = rule.pop("most_keys", math.inf)
    if rows <= TURNED_ROWS:
        tiling = find("turned", rows=rows)
        block_h, block_n = tiling["block_h"], _turned.BLOCK_N
    else:
        tiling = {}
        block_h, block_n = _paired.BLOCK_H, 2 * _paired.BLOCK_N
    blocks = math.ceil(rows / block_h)
    tiles = math.ceil(keys / block_n)
    splits = choose_splits(batch * blocks, tiles, dialect.current().sms, **rule)
    # Shorter sequences leave processors early. With more CTAs than those, others take over.
    while keys > splits * most_keys and 2 * splits <= rule["max_splits"]:
        splits *= 2
    module = _turned if rows <= TURNED_ROWS else _paired
    if splits == 1 and module is _paired:
        return Plan(used, getattr(module, f"{contract}_whole").get(**sizes), None)
    combine = find("combine", splits=splits)
    launch = getattr(module, f"{contract}_parts").get(**sizes, **tiling, **combine)
    alone = None
    if contract == "dense" and rows <= _clustered.BLOCK_H:
        clustered = find("clustered", batch=batch, tiles=tiles)
        if clustered:
            alone = _clustered.dense.get(**sizes, **clustered)
    return Plan(used, launch, (batch, splits, blocks, block_h * (DIM + ROOM)), alone)


def _even_plan(used, find, sizes, batch):
    """Of `_even`. How many parts a sequence has depends on the lengths; `combine` is chosen as if
    these were equal."""
    ctas = dialect.current().sms
    combine = find("combine", splits=math.ceil(ctas / batch) + 1)
    launch = _even.paged.get(**sizes, **combine)
    return Plan(used, launch, (batch + ctas, sizes["block_h"] * (DIM + ROOM)))
