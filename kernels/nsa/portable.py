"""Query-centred NSA for cuda (sm_80 and up), maca and cpu: tiles of selected blocks, cp.async."""

import torch

from ..common.dialect import memo, remember
from ..common.schedule import schedule
from . import _blocks, _dense, _selected
from ._tile import LOG2E

DTYPES = {torch.float16: "float16", torch.bfloat16: "bfloat16"}

_launches = memo()  # of `selected`, by shape


def selected(q, k, v, block_indices, out, *, block_size, softmax_scale, causal):
    """Each token attends to its selected blocks: one launch (DESIGN.md, "selected")."""
    # q, out: [B, T, HQ, D]   k, v: [B, T, H, D]   block_indices: [B, T, H, S]
    key = (q.shape, k.shape, block_indices.shape, q.dtype, block_size, causal)
    launch = _launches.get(key)
    if launch is None:
        launch = program(_selected.attend, q, k, block_indices, block_size, causal)
        remember(_launches, key, launch)
    launch(q, k, v, block_indices, out, softmax_scale * LOG2E)


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
    dtype = DTYPES[q.dtype]
    heads = {"dtype": dtype, "group": HQ // k.shape[2], "dim": D}
    cmp = {"kernel": cmp_kernel, "stride": cmp_stride}
    scale = softmax_scale * LOG2E
    lse = torch.empty((B, HQ, N), dtype=torch.float32, device=q.device)

    use = schedule("nsa/portable/means", dim=D)
    mean_k, mean_v = _dense.mean_windows(k, v, dtype, **cmp, use=use)
    use = schedule("nsa/portable/dense", dim=D)
    attend = _dense.compressed.get(**heads, **cmp, **use)
    attend(q, mean_k, mean_v, g_cmp, out, lse, scale)
    attend = _dense.sliding.get(**heads, window=window, **use)
    attend(q, k, v, g_swa, out, scale)
    _blocks.choose(
        q,
        mean_k,
        lse,
        chosen,
        scale,
        block=block_size,
        **heads,
        **cmp,
        use=schedule("nsa/portable/importances", dim=D),
        use_best=schedule("nsa/portable/best", top_k=top_k),
    )
    attend = program(_selected.attend_gated, q, k, chosen, block_size, causal=True)
    attend(q, k, v, chosen, g_slc, out, scale)


def program(attend, q, k, blocks, block_size, causal, **more):
    """The compiled form of `attend`, a program of _selected.py, for tensors of these shapes."""
    D, count = q.shape[3], blocks.shape[3]
    group = q.shape[2] // k.shape[2]
    keys = count * block_size
    use = schedule("nsa/portable/selected", group=group, dim=D, keys=keys, block_size=block_size)
    return attend.get(
        **more,
        dtype=DTYPES[q.dtype],
        group=group,
        dim=D,
        block=block_size,
        count=count,
        causal=causal,
        **use,
    )
