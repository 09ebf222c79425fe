"""NSA for Hopper: neighbouring queries walk the blocks they share together, by TMA and wgmma."""

import torch

from ..common.dialect import current, memo, remember
from ..common.schedule import schedule
from . import _apart, _blocks, _dense, _rank, _selected, _short, _union, _walk, portable
from ._tile import LOG2E
from ._union_steps import BLOCKS, WORK
from .portable import DTYPES

LEAST = 8192  # queries times KV heads from which on a plan repays its launches
BLOCK = 64  # keys of a selected block: two make a step

_launches = memo()  # of `selected`, by shape


def selected(q, k, v, block_indices, out, *, block_size, softmax_scale, causal):
    """Tiles of queries walk the union of their blocks; tokens that share little go alone.

    Where one small block is all that a token selects, several tokens share a CTA.
    """
    # q, out: [B, T, HQ, D]   k, v: [B, T, H, D]   block_indices: [B, T, H, S]
    key = (q.shape, k.shape, block_indices.shape, q.dtype, block_size, causal)
    launch = _launches.get(key)
    if launch is None:
        launch = remember(_launches, key, _selected_launch(q, k, block_indices, block_size, causal))
    launch(q, k, v, block_indices, out, softmax_scale * LOG2E)


def _selected_launch(q, k, blocks, block_size, causal):
    """What serves `selected` for tensors of these shapes: (q, k, v, blocks, out, scale)."""
    count, dim = blocks.shape[3], q.shape[3]
    if _few_keys(q, k, count, block_size):
        static = {"dtype": DTYPES[q.dtype], "dim": dim, "block": block_size, "count": count}
        use = schedule("nsa/hopper/short", dim=dim)
        return _short.attend.get(**static, causal=causal, **use)
    if not _walks(q, k, count, block_size):
        return portable.program(_selected.attend, q, k, blocks, block_size, causal)
    return _attention(q, k, blocks, block_size, causal, gated=False)


def _few_keys(q, k, count, block_size):
    """Whether _short.py serves: all of a token's scores fit the registers of a warp."""
    return (
        current().arch.startswith("sm_90")
        and q.shape[2] == _short.HEADS * k.shape[2]
        and q.shape[3] in (32, 64, 128)
        and block_size % _short.STEP == 0
        and count * block_size <= _short.MOST_KEYS
    )


def _walks(q, k, count, block_size):
    """Whether tiles walk unions: shapes that fill a tile, and enough of them to repay a plan."""
    B, N, HQ, D = q.shape
    group = HQ // k.shape[2]
    return (
        current().arch.startswith("sm_90")
        and group in (16, 32, 64)
        and D in (64, 128)
        and block_size == BLOCK
        and 4 <= count <= 64
        and B * N * k.shape[2] >= LEAST
    )


def _attention(q, k, blocks, block_size, causal, gated):
    """Attention over selected blocks for tensors of these shapes: (q, k, v, blocks, ..., scale).

    The arguments after `blocks` are those of the walks: out, or gate and out.
    """
    B, N, HQ, D = q.shape
    H, count = k.shape[2], blocks.shape[3]
    group = HQ // H
    use = dict(schedule("nsa/hopper/union", dim=D))
    queries = 64 * use["consumers"] // group  # of a tile
    most = int(use.pop("most") * count)
    static = {"block": block_size, "causal": causal}
    heads = {"dtype": DTYPES[q.dtype], "group": group, "dim": D, **static}
    plan = _union.plan.get(**static, count=count, queries=queries, most=most)
    program = _walk.union_gated if gated else _walk.union
    room = _union.room(queries, count)
    walk = program.get(**heads, room=room, **use)
    attend_left = _left(q, k, blocks, block_size, causal, gated, queries)
    tiles = -(-N // queries)
    shapes = [(B, H, tiles, room, 2 * BLOCKS), (B, H, tiles), (B * H * tiles, WORK)]

    def launch(q, k, v, blocks, *rest):
        like = {"dtype": torch.int32, "device": q.device}
        steps, left, works = (torch.empty(s, **like) for s in shapes)
        number = torch.zeros(2, **like)  # of tiles listed here and there
        plan(blocks, steps, left, works, number)
        walk(q, k, v, steps, works, number, *rest)
        attend_left(q, k, v, blocks, left, number, *rest)

    return launch


def _left(q, k, blocks, block_size, causal, gated, queries):
    """What serves the tiles of `queries` that a plan leaves: (q, k, v, blocks, left, number, ...).

    Larger unions, in which every warp multiplies by its own query's blocks alone.
    """
    B, N, HQ, D = q.shape
    H, count = k.shape[2], blocks.shape[3]
    use = schedule("nsa/hopper/apart", dim=D)
    group = HQ // H
    large = 64 * use["consumers"] // group
    static = {"block": block_size, "causal": causal, "small": queries}
    plan = _union.plan_left.get(**static, count=count, queries=large)
    program = _apart.walk_gated if gated else _apart.walk
    walk = program.get(
        dtype=DTYPES[q.dtype], group=group, dim=D, entries=large * count, **static, **use
    )
    listed = B * H * -(-N // large)
    shapes = [(listed, large * count)] * 2 + [(listed, 4)]

    def launch(q, k, v, blocks, left, number, *rest):
        like = {"dtype": torch.int32, "device": q.device}
        ids, masks, works = (torch.empty(s, **like) for s in shapes)
        plan(blocks, left, ids, masks, works, number)
        walk(q, k, v, ids, masks, left, works, number, *rest)

    return launch


def full(
    q,
    k,
    v,
    g_cmp,
    g_slc,
    g_swa,
    out,
    chosen,
    *,
    block_size,
    top_k,
    window,
    cmp_kernel,
    cmp_stride,
    softmax_scale,
):
    """All three branches; each adds its gated part to `out` (DESIGN.md, "full")."""
    # q, out: [B, T, HQ, D]   k, v: [B, T, H, D]   gates: [B, T, HQ]   chosen: [B, T, H, top_k]
    B, N, HQ, D = q.shape
    # Shapes whose programs for this have run on a GPU; the others' have only been compiled.
    seen_right = HQ // k.shape[2] == 16 and (cmp_kernel, cmp_stride) == (32, 16)
    if not _walks(q, k, top_k, block_size) or not seen_right:
        portable.full(
            q, k, v, g_cmp, g_slc, g_swa, out, chosen, block_size=block_size, top_k=top_k,
            window=window, cmp_kernel=cmp_kernel, cmp_stride=cmp_stride,
            softmax_scale=softmax_scale,
        )  # fmt: skip
        return
    dtype = DTYPES[q.dtype]
    heads = {"dtype": dtype, "group": HQ // k.shape[2], "dim": D}
    cmp = {"kernel": cmp_kernel, "stride": cmp_stride}
    scale = softmax_scale * LOG2E
    lse = torch.empty((B, HQ, N), dtype=torch.float32, device=q.device)

    use = schedule("nsa/portable/means", dim=D)
    mean_k, mean_v = _dense.mean_windows(k, v, dtype, **cmp, use=use)
    use = schedule("nsa/hopper/dense", dim=D)
    dense = _walk.dense.get(**heads, **cmp, window=window, **use)
    dense(q, mean_k, mean_v, k, v, g_cmp, g_swa, out, lse, scale)
    _blocks.choose(
        q,
        mean_k,
        lse,
        chosen,
        scale,
        block=block_size,
        program=_rank.importances,
        **heads,
        **cmp,
        use=schedule("nsa/hopper/importances", dim=D),
        use_best=schedule("nsa/portable/best", top_k=top_k),
    )
    attend = _attention(q, k, chosen, block_size, causal=True, gated=True)
    attend(q, k, v, chosen, g_slc, out, scale)
