"""The contest sample's NSA: one CTA per token and KV head walks its keys, 64 threads, 2 stages."""

from dataclasses import dataclass
from typing import Any

import tilelang.language as T
import torch

from ..common.dialect import program
from ..common.schedule import schedule
from . import _blocks, _dense, _tile

DTYPES = {torch.float16: "float16", torch.bfloat16: "bfloat16"}
RANGE_KEYS = 64  # keys of a tile where no block size is given
SUM_ROWS, SUM_THREADS = 16, 64  # of the gated sum


@dataclass
class Tiles:
    """On-chip buffers of one token's query heads, padded to M rows, and one tile of N keys."""

    q: Any  # [M, D], shared
    k: Any  # [N, D], shared
    v: Any  # [N, D], shared
    p: Any  # [M, N], shared: the weights, rounded for the second product
    scores: Any  # [M, N], fragment
    softmax: _tile.State


@T.macro
def allocate(D, dtype, group, dim, keys):
    half = D.dtype(dtype)
    rows = group if D.is_cpu else -(-group // 16) * 16  # tensor cores take 16 rows
    q = D.alloc_shared((rows, dim), half)
    k = D.alloc_shared((keys, dim), half)
    v = D.alloc_shared((keys, dim), half)
    p = D.alloc_shared((rows, keys), half)
    scores = D.alloc_fragment((rows, keys), "float32")
    softmax = _tile.allocate(D, rows, dim)
    return Tiles(q, k, v, p, scores, softmax)


@T.macro
def start(D, tiles, Q, b, t, h, group):
    rows, dim = tiles.q.shape
    for i, j in D.parallel(rows, dim):
        tiles.q[i, j] = T.if_then_else(i < group, Q[b, t, h * group + i, j], 0)
    _tile.clear(tiles.softmax)


@T.macro
def absorb(D, tiles, K, V, b, h, k0, low, high, scale):
    """Attend to the tile of keys that starts at k0; those in [low, high) are in sight."""
    rows, keys = tiles.scores.shape
    _tile.load(K, V, tiles.k, tiles.v, b, k0, h)
    T.clear(tiles.scores)
    D.gemm(tiles.q, tiles.k, tiles.scores, transpose_B=True, policy=T.GemmWarpPolicy.FullCol)
    for i, j in D.parallel(rows, keys):
        visible = (k0 + j >= low) & (k0 + j < high)
        tiles.scores[i, j] = T.if_then_else(
            visible, tiles.scores[i, j] * scale, -T.infinity("float32")
        )
    _tile.absorb(D, tiles.softmax, tiles.scores)
    T.copy(tiles.scores, tiles.p)
    D.gemm(tiles.p, tiles.v, tiles.softmax.acc, policy=T.GemmWarpPolicy.FullCol)


@T.macro
def store(D, tiles, Out, b, t, h, group):
    rows, dim = tiles.q.shape
    _tile.finish(D, tiles.softmax)
    for i, j in D.parallel(rows, dim):
        if i < group:
            Out[b, t, h * group + i, j] = tiles.softmax.acc[i, j]


@program(writes=("Out",), pass_configs=_tile.FAST_MATH)
def attend_blocks(D, *, dtype, group, dim, block, count, causal, threads, stages):
    """Out = attention of each token over its blocks.

    (Q [B, N, HQ, dim], K, V [B, N, H, dim], Blocks [B, N, H, count] int32, Out like Q, scale)
    """
    half = D.dtype(dtype)
    keys = block if D.is_cpu else max(block, 16)
    B, N, H, HQ = (T.dynamic(name) for name in ("batch", "seqlen", "kv_heads", "q_heads"))

    @T.prim_func
    def baseline_selected(
        Q: T.Tensor((B, N, HQ, dim), half),
        K: T.Tensor((B, N, H, dim), half),
        V: T.Tensor((B, N, H, dim), half),
        Blocks: T.Tensor((B, N, H, count), "int32"),
        Out: T.Tensor((B, N, HQ, dim), half),
        scale: T.float32,
    ):
        with D.kernel(N, B * H, threads=threads) as (t, bh):
            b = bh // H
            h = bh % H
            tiles = allocate(D, dtype, group, dim, keys)
            limit = t + 1 if causal else N
            start(D, tiles, Q, b, t, h, group)
            # Two pipelined steps would be unrolled, and TileLang 0.1.15 then puts the reductions'
            # workspace where `p` is written next, without a barrier between.
            for s in D.pipelined(count, 0 if count == 2 else stages):
                chosen = Blocks[b, t, h, s]
                named = (chosen >= 0) & (chosen < T.ceildiv(limit, block))
                k0 = T.if_then_else(named, chosen * block, N)  # no key stands at N
                absorb(D, tiles, K, V, b, h, k0, 0, T.min(limit, k0 + block), scale)
            store(D, tiles, Out, b, t, h, group)

    return baseline_selected


@program(writes=("Out", "Lse"), pass_configs=_tile.FAST_MATH)
def attend_range(D, *, dtype, group, dim, kernel, stride, window, threads, stages):
    """Out = attention of each token over the keys whose windows have ended, and its base-2
    log-sum-exp; with `window` > 0 over the last `window` of them (see _dense.py).

    (Q [B, N, HQ, dim], K, V [B, W, H, dim], Out like Q, Lse [B, HQ, N], scale)
    """
    half = D.dtype(dtype)
    B, N, H, HQ, W = (
        T.dynamic(name) for name in ("batch", "seqlen", "kv_heads", "q_heads", "windows")
    )

    @T.prim_func
    def baseline_range(
        Q: T.Tensor((B, N, HQ, dim), half),
        K: T.Tensor((B, W, H, dim), half),
        V: T.Tensor((B, W, H, dim), half),
        Out: T.Tensor((B, N, HQ, dim), half),
        Lse: T.Tensor((B, HQ, N), "float32"),
        scale: T.float32,
    ):
        with D.kernel(N, B * H, threads=threads) as (t, bh):
            b = bh // H
            h = bh % H
            tiles = allocate(D, dtype, group, dim, RANGE_KEYS)
            high = T.min(_dense.seen(t, kernel, stride), W)
            low = T.max(high - window, 0) if window > 0 else 0
            first = low // RANGE_KEYS
            start(D, tiles, Q, b, t, h, group)
            for n in D.pipelined(T.ceildiv(high, RANGE_KEYS) - first, stages):
                absorb(D, tiles, K, V, b, h, (first + n) * RANGE_KEYS, low, high, scale)
            for i in D.parallel(group):
                Lse[b, h * group + i, t] = _tile.log_sum(tiles.softmax, i)
            store(D, tiles, Out, b, t, h, group)

    return baseline_range


@program(writes=("Out",))
def gated_sum(D, *, dtype, dim):
    """Out = g_cmp * Cmp + g_slc * Out + g_swa * Swa, for R rows of (batch, token, head).

    (Cmp, Swa, Out [R, dim], GCmp, GSlc, GSwa [R])
    """
    half = D.dtype(dtype)
    R = T.dynamic("rows")

    @T.prim_func
    def baseline_gated_sum(
        Cmp: T.Tensor((R, dim), half),
        Swa: T.Tensor((R, dim), half),
        Out: T.Tensor((R, dim), half),
        GCmp: T.Tensor((R,), half),
        GSlc: T.Tensor((R,), half),
        GSwa: T.Tensor((R,), half),
    ):
        with D.kernel(T.ceildiv(R, SUM_ROWS), threads=SUM_THREADS) as n:
            for i, j in D.parallel(SUM_ROWS, dim):
                row = n * SUM_ROWS + i
                if row < R:
                    Out[row, j] = (
                        product(GCmp[row], Cmp[row, j])
                        + product(GSlc[row], Out[row, j])
                        + product(GSwa[row], Swa[row, j])
                    )

    return baseline_gated_sum


def product(a, b):
    """In fp32."""
    return T.cast(a, "float32") * T.cast(b, "float32")


def selected(q, k, v, block_indices, out, *, block_size, softmax_scale, causal):
    """Each token attends to its selected blocks, one block a step."""
    # q, out: [B, T, HQ, D]   k, v: [B, T, H, D]   block_indices: [B, T, H, S]
    D = q.shape[3]
    launch = attend_blocks.get(
        dtype=DTYPES[q.dtype],
        group=q.shape[2] // k.shape[2],
        dim=D,
        block=block_size,
        count=block_indices.shape[3],
        causal=causal,
        **schedule("nsa/baseline/attend", tile=block_size * D),
    )
    launch(q, k, v, block_indices, out, softmax_scale * _tile.LOG2E)


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
    """Each branch for itself, token by token, then the gated sum of their outputs."""
    # q, out: [B, T, HQ, D]   k, v: [B, T, H, D]   gates: [B, T, HQ]   chosen: [B, T, H, top_k]
    D = q.shape[3]
    dtype = DTYPES[q.dtype]
    heads = {"dtype": dtype, "group": q.shape[2] // k.shape[2], "dim": D}
    cmp = {"kernel": cmp_kernel, "stride": cmp_stride}
    scale = softmax_scale * _tile.LOG2E
    B, N, HQ, _ = q.shape
    lse = torch.empty((B, HQ, N), dtype=torch.float32, device=q.device)
    o_cmp, o_swa = torch.empty_like(q), torch.empty_like(q)

    use = schedule("nsa/baseline/means", dim=D)
    mean_k, mean_v = _dense.mean_windows(k, v, dtype, **cmp, use=use)
    use = schedule("nsa/baseline/attend", tile=RANGE_KEYS * D)
    attend = attend_range.get(**heads, **cmp, window=0, **use)
    attend(q, mean_k, mean_v, o_cmp, lse, scale)
    _blocks.choose(
        q,
        mean_k,
        lse,
        chosen,
        scale,
        block=block_size,
        use=schedule("nsa/baseline/importances", dim=D),
        use_best=schedule("nsa/baseline/best", top_k=top_k),
        **heads,
        **cmp,
    )
    # The window's log-sum-exp is of no use, nor is the compressed keys' any longer.
    attend = attend_range.get(**heads, kernel=1, stride=1, window=window, **use)
    attend(q, k, v, o_swa, lse, scale)
    selected(q, k, v, chosen, out, block_size=block_size, softmax_scale=softmax_scale, causal=True)
    flat = [x.view(-1, D) for x in (o_cmp, o_swa, out)]
    gates = [g.view(-1) for g in (g_cmp, g_slc, g_swa)]
    gated_sum.get(dtype=dtype, dim=D)(*flat, *gates)
