"""Attention of tokens that select few keys: a warp each, several to a CTA.

Where all of a token's keys fit one tile, reading q and writing the output are the work. One CTA a
token then spends most of its time being launched and waiting; here the tokens of a CTA wait for
memory together.
"""

import tilelang.language as T

from ..common.dialect import program
from . import _tile

HEADS = 16  # of a group: the rows that a tensor core takes, and so a warp


@program(writes=("Out",), pass_configs={**_tile.FAST_MATH, "tl.disable_wgmma": True})
def attend(D, *, dtype, dim, block, count, causal, tokens):
    """Out[b, t, g] = softmax(scale * q k^T) v over the blocks of (b, t, head g's group).

    (Q [B, N, HQ, dim], K, V [B, N, H, dim], Blocks [B, N, H, count] int32, Out like Q, scale), with
    HQ / H = 16. As `_selected.attend`; all keys of `tokens` tokens must fit shared memory.
    """
    half = D.dtype(dtype)
    keys = count * block
    rows = tokens * HEADS
    by_rows = T.GemmWarpPolicy.FullRow
    B, N, H, HQ = (T.dynamic(name) for name in ("batch", "seqlen", "kv_heads", "q_heads"))

    def first_key(Blocks, b, t, h, i, limit):
        """Where block i of a token starts; N, past every key, if it selects nothing."""
        chosen = Blocks[b, T.min(t, N - 1), h, i]
        named = _tile.names_block(chosen, limit, block)
        return T.if_then_else(named, chosen * block, N)

    @T.prim_func
    def selected_short(
        Q: T.Tensor((B, N, HQ, dim), half),
        K: T.Tensor((B, N, H, dim), half),
        V: T.Tensor((B, N, H, dim), half),
        Blocks: T.Tensor((B, N, H, count), "int32"),
        Out: T.Tensor((B, N, HQ, dim), half),
        scale: T.float32,
    ):
        with D.kernel(T.ceildiv(N, tokens), H, B, threads=32 * tokens) as (tile, h, b):
            q_s = D.alloc_shared((rows, dim), half)
            k_s = D.alloc_shared((tokens, keys, dim), half)
            v_s = D.alloc_shared((tokens, keys, dim), half)
            scores = D.alloc_fragment((rows, keys), "float32")
            p = D.alloc_fragment((rows, keys), half)
            state = _tile.allocate(D, rows, dim)
            warp = T.get_thread_binding() // 32

            for x in T.unroll(tokens):
                t = T.min(tile * tokens + x, N - 1)
                T.copy(
                    Q[b, t, h * HEADS : h * HEADS + HEADS, :],
                    q_s[x * HEADS : (x + 1) * HEADS, :],
                )
            for x in T.unroll(tokens):
                t = tile * tokens + x
                # Rows at N and beyond are not read but filled with 0.
                for r in T.unroll(count):
                    k0 = first_key(Blocks, b, t, h, r, t + 1 if causal else N)
                    T.copy(K[b, k0 : k0 + block, h, :], k_s[x, r * block : (r + 1) * block, :])
                    T.copy(V[b, k0 : k0 + block, h, :], v_s[x, r * block : (r + 1) * block, :])
            _tile.clear(state)
            T.clear(scores)
            T.gemm(q_s, k_s[warp, :, :], scores, transpose_B=True, policy=by_rows)
            for i, j in T.Parallel(rows, keys):
                t = tile * tokens + i // HEADS
                limit = t + 1 if causal else N
                key = first_key(Blocks, b, t, h, j // block, limit) + j % block
                scores[i, j] = T.if_then_else(
                    key < limit, scores[i, j] * scale, -T.infinity("float32")
                )
            _tile.absorb(D, state, scores)
            T.copy(scores, p)
            T.gemm(p, v_s[warp, :, :], state.acc, policy=by_rows)
            for i in T.Parallel(rows):
                state.row_sum[i] = 1.0 / T.max(state.row_sum[i], _tile.TINY)
            for i, j in T.Parallel(rows, dim):
                state.acc[i, j] *= state.row_sum[i]
            T.copy(state.acc, q_s)
            for i, j in T.Parallel(rows, dim):
                t = tile * tokens + i // HEADS
                if t < N:
                    Out[b, t, h * HEADS + i % HEADS, j] = q_s[i, j]

    return selected_short
