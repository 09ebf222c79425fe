"""Branches of `full` beside the selected one: compressed keys and the sliding window."""

import tilelang.language as T
import torch

from ..common.dialect import program
from . import _tile


@program(writes=("MeanK", "MeanV"))
def means(D, *, dtype, dim, kernel, stride, block_n, threads):
    """Compressed K and V: window i is the mean of tokens [i * stride, i * stride + kernel).

    (K, V [B, N, H, dim], MeanK, MeanV [B, W, H, dim]); sums in fp32.
    """
    half = D.dtype(dtype)
    B, N, H, W = (T.dynamic(name) for name in ("batch", "seqlen", "kv_heads", "windows"))

    @T.prim_func
    def window_means(
        K: T.Tensor((B, N, H, dim), half),
        V: T.Tensor((B, N, H, dim), half),
        MeanK: T.Tensor((B, W, H, dim), half),
        MeanV: T.Tensor((B, W, H, dim), half),
    ):
        with D.kernel(T.ceildiv(W, block_n), H, B, threads=threads) as (n, h, b):
            sum_k = D.alloc_fragment((block_n, dim), "float32")
            sum_v = D.alloc_fragment((block_n, dim), "float32")
            T.fill(sum_k, 0)
            T.fill(sum_v, 0)
            for x in T.serial(kernel):
                for i, j in D.parallel(block_n, dim):
                    token = T.min((n * block_n + i) * stride + x, N - 1)  # only the tail is cut
                    sum_k[i, j] += K[b, token, h, j]
                    sum_v[i, j] += V[b, token, h, j]
            for i, j in D.parallel(block_n, dim):
                if n * block_n + i < W:
                    MeanK[b, n * block_n + i, h, j] = sum_k[i, j] / kernel
                    MeanV[b, n * block_n + i, h, j] = sum_v[i, j] / kernel

    return window_means


def mean_windows(k, v, dtype, kernel, stride, use):
    """Compressed k and v, each [B, W, H, D], from k, v [B, T, H, D]; `use` is the schedule."""
    B, N, H, D = k.shape
    # An empty tensor has no address to give to a program: keep one window, which nobody sees.
    windows = max((N - kernel) // stride + 1, 1)
    mean_k, mean_v = (torch.empty((B, windows, H, D), dtype=k.dtype, device=k.device) for _ in "kv")
    means.get(dtype=dtype, dim=D, kernel=kernel, stride=stride, **use)(k, v, mean_k, mean_v)
    return mean_k, mean_v


def seen(t, kernel, stride):
    """How many windows end at or before token t (t may lie before the first one's end)."""
    return T.max(t + 1 - kernel + stride, 0) // stride


def _build(
    D, *, dtype, group, dim, kernel, stride, window, block_m, block_n, threads, stages, weights
):
    """Dense attention of block_m queries of one head.

    Key n stands for the tokens [n * stride, n * stride + kernel). A query sees the keys whose last
    token it sees; with `window` > 0 only the last `window` of these.
    """
    half = D.dtype(dtype)
    sliding = window > 0
    B, N, H, HQ, W = (
        T.dynamic(name) for name in ("batch", "seqlen", "kv_heads", "q_heads", "windows")
    )

    @T.macro
    def body(Q, K, V, Gate, Out, Lse, scale):
        with D.kernel(T.ceildiv(N, block_m), HQ, B, threads=threads) as (reverse, h, b):
            q_s = D.alloc_shared((block_m, dim), half)
            k_s = D.alloc_shared((block_n, dim), half)
            v_s = D.alloc_shared((block_n, dim), half)
            scores = D.alloc_fragment((block_m, block_n), "float32")
            p = (D.alloc_shared if weights == "shared" else D.alloc_fragment)(
                (block_m, block_n), half
            )
            gate = D.alloc_fragment((block_m,), "float32")
            state = _tile.allocate(D, block_m, dim)

            # The last queries see the most keys: their tiles start first.
            t0 = (T.ceildiv(N, block_m) - 1 - reverse) * block_m
            end = T.min(seen(t0 + block_m - 1, kernel, stride), N if sliding else W)
            begin = T.max(seen(t0, kernel, stride) - window, 0) // block_n if sliding else 0
            for i, j in D.parallel(_tile.whole_passes(D, block_m, dim, threads), dim):
                if i < block_m:
                    q_s[i, j] = T.if_then_else(t0 + i < N, Q[b, t0 + i, h, j], 0)
            _tile.clear(state)
            for step in D.pipelined(T.ceildiv(end, block_n) - begin, stages):
                n0 = (begin + step) * block_n
                _tile.load(K, V, k_s, v_s, b, n0, h // group)
                T.clear(scores)
                D.gemm(q_s, k_s, scores, transpose_B=True, policy=T.GemmWarpPolicy.FullRow)
                cut = n0 + block_n > seen(t0, kernel, stride)  # some query does not see all
                if sliding:
                    cut = cut | (n0 < seen(t0 + block_m - 1, kernel, stride) - window)
                if cut:
                    for i, j in D.parallel(block_m, block_n):
                        after = n0 + j - seen(t0 + i, kernel, stride)  # < 0: in sight
                        visible = (after < 0) & (after >= -window) if sliding else after < 0
                        scores[i, j] = T.if_then_else(visible, scores[i, j], -T.infinity("float32"))
                _tile.absorb_raw(D, state, scores, scale)
                T.copy(scores, p)
                D.gemm(p, v_s, state.acc, policy=T.GemmWarpPolicy.FullRow)
            _tile.finish(D, state)
            for i in D.parallel(block_m):
                gate[i] = T.if_then_else(t0 + i < N, Gate[b, t0 + i, h], 0)
            for i, j in D.parallel(block_m, dim):
                if t0 + i < N:
                    if sliding:
                        Out[b, t0 + i, h, j] += gate[i] * state.acc[i, j]
                    else:
                        Out[b, t0 + i, h, j] = gate[i] * state.acc[i, j]
            if not sliding:
                for i in D.parallel(block_m):
                    if t0 + i < N:
                        Lse[b, h, t0 + i] = _tile.log_sum(state, i, scale)

    if sliding:

        @T.prim_func
        def sliding_window(
            Q: T.Tensor((B, N, HQ, dim), half),
            K: T.Tensor((B, N, H, dim), half),
            V: T.Tensor((B, N, H, dim), half),
            Gate: T.Tensor((B, N, HQ), half),
            Out: T.Tensor((B, N, HQ, dim), half),
            scale: T.float32,
        ):
            body(Q, K, V, Gate, Out, None, scale)

        return sliding_window

    @T.prim_func
    def compressed(
        Q: T.Tensor((B, N, HQ, dim), half),
        K: T.Tensor((B, W, H, dim), half),
        V: T.Tensor((B, W, H, dim), half),
        Gate: T.Tensor((B, N, HQ), half),
        Out: T.Tensor((B, N, HQ, dim), half),
        Lse: T.Tensor((B, HQ, N), "float32"),
        scale: T.float32,
    ):
        body(Q, K, V, Gate, Out, Lse, scale)

    return compressed


@program(writes=("Out", "Lse"), pass_configs=_tile.FAST_MATH)
def compressed(D, **static):
    """Out = gate * attention over the compressed keys, and the scores' base-2 log-sum-exp.

    (Q [B, N, HQ, dim], K, V [B, W, H, dim], Gate [B, N, HQ], Out like Q, Lse [B, HQ, N], scale)
    """
    return _build(D, window=0, **static)


@program(writes=("Out",), pass_configs=_tile.FAST_MATH)
def sliding(D, *, window, **static):
    """Out += gate * attention over the last `window` tokens.

    (Q [B, N, HQ, dim], K, V [B, N, H, dim], Gate [B, N, HQ], Out like Q, scale)
    """
    return _build(D, kernel=1, stride=1, window=window, **static)
