"""Attention of each token over its own selected blocks: one CTA per (token, KV head)."""

import tilelang.language as T

from ..common.dialect import program
from . import _tile


def _up(value, multiple):
    return -(-value // multiple) * multiple


def _build(
    D, *, dtype, group, dim, block, count, causal, gated, rows, block_n, threads, stages, split,
):  # fmt: skip
    half = D.dtype(dtype)
    # Tensor cores take 16 rows (64 for wgmma); those after the group's heads are 0 and not stored.
    rows = group if D.is_cpu else _up(max(group, rows), 16)
    # A key tile is made of pieces: keys that lie side by side. A piece is a whole selected block,
    # or a part of one where blocks are larger than the tile.
    piece = min(block, block_n)
    parts = block // piece
    pieces = count * parts  # of a token
    keys = min(block_n, piece * pieces)
    if not D.is_cpu:
        keys = _up(keys, 16)
    per_tile = -(-keys // piece)
    one_tile = pieces <= per_tile
    by_rows = split == "rows"
    policy = T.GemmWarpPolicy.FullRow if by_rows else T.GemmWarpPolicy.FullCol

    B, N, H, HQ = (T.dynamic(name) for name in ("batch", "seqlen", "kv_heads", "q_heads"))

    def first_key(Blocks, b, t, h, i, limit):
        """Where piece i of a token starts; N, past every key, if it selects nothing."""
        chosen = Blocks[b, t, h, T.min(i // parts, count - 1)]
        named = _tile.names_block(chosen, limit, block, i < pieces)
        return T.if_then_else(named, chosen * block + i % parts * piece, N)

    @T.macro
    def attend(Q, K, V, Blocks, Gate, Out, scale):
        with D.kernel(N, H, B, threads=threads) as (t, h, b):
            q_s = D.alloc_shared((rows, dim), half)
            k_s = D.alloc_shared((keys, dim), half)
            v_s = D.alloc_shared((keys, dim), half)
            scores = D.alloc_fragment((rows, keys), "float32")
            # Warps that split the keys each hold some columns of the weights but need all of them
            # for weights @ V, so these go through shared memory; split by rows they stay in place.
            p = (D.alloc_fragment if by_rows else D.alloc_shared)((rows, keys), half)
            state = _tile.allocate(D, rows, dim)
            used = T.alloc_var("int32")

            limit = t + 1 if causal else N  # keys below it are in sight
            D.follow()

            if not one_tile:
                # Tiles after the last block that names a visible key need no work.
                used = 0
                for c in T.serial(count):
                    chosen = Blocks[b, t, h, c]
                    if _tile.names_block(chosen, limit, block):
                        used = (c + 1) * parts

            if not one_tile:
                for i, j in D.parallel(rows, dim):
                    q_s[i, j] = T.if_then_else(i < group, Q[b, t, h * group + i, j], 0)
            _tile.clear(state)
            steps = 1 if one_tile else T.ceildiv(used, per_tile)
            for n in D.pipelined(steps, 1 if one_tile else stages):
                if one_tile:
                    # With the keys, so that a short CTA waits for memory once. Rows after
                    # the group's heads hold the next group's: what they give is not used.
                    T.copy(Q[b, t, h * group : h * group + rows, :], q_s)
                for r in range(per_tile):
                    k0 = first_key(Blocks, b, t, h, n * per_tile + r, limit)
                    # Rows at N and beyond are not read but filled with 0.
                    T.copy(K[b, k0 : k0 + piece, h, :], k_s[r * piece : (r + 1) * piece, :])
                    T.copy(V[b, k0 : k0 + piece, h, :], v_s[r * piece : (r + 1) * piece, :])
                T.clear(scores)
                D.gemm(q_s, k_s, scores, transpose_B=True, policy=policy)
                for i, j in D.parallel(rows, keys):
                    k0 = first_key(Blocks, b, t, h, n * per_tile + j // piece, limit)
                    key = k0 + j % piece
                    scores[i, j] = T.if_then_else(
                        key < limit, scores[i, j] * scale, -T.infinity("float32")
                    )
                _tile.absorb(D, state, scores)
                if not by_rows and not D.is_cpu:
                    T.sync_threads()  # reductions across warps may use p's memory
                T.copy(scores, p)
                D.gemm(p, v_s, state.acc, policy=policy)
            # One division a row, as each takes as long as eight products.
            for i in D.parallel(rows):
                state.row_sum[i] = 1.0 / T.max(state.row_sum[i], _tile.TINY)
            if gated:
                for i in D.parallel(rows):
                    gate = Gate[b, t, T.min(h * group + i, HQ - 1)]
                    state.row_sum[i] *= T.cast(gate, "float32")
            for i, j in D.parallel(rows, dim):
                state.acc[i, j] *= state.row_sum[i]
            if gated:
                for i, j in D.parallel(rows, dim):
                    if i < group:
                        state.acc[i, j] += Out[b, t, h * group + i, j]
            for i, j in D.parallel(rows, dim):
                if i < group:
                    Out[b, t, h * group + i, j] = state.acc[i, j]

    if gated:

        @T.prim_func
        def selected_gated(
            Q: T.Tensor((B, N, HQ, dim), half),
            K: T.Tensor((B, N, H, dim), half),
            V: T.Tensor((B, N, H, dim), half),
            Blocks: T.Tensor((B, N, H, count), "int32"),
            Gate: T.Tensor((B, N, HQ), half),
            Out: T.Tensor((B, N, HQ, dim), half),
            scale: T.float32,
        ):
            attend(Q, K, V, Blocks, Gate, Out, scale)

        return selected_gated

    @T.prim_func
    def selected(
        Q: T.Tensor((B, N, HQ, dim), half),
        K: T.Tensor((B, N, H, dim), half),
        V: T.Tensor((B, N, H, dim), half),
        Blocks: T.Tensor((B, N, H, count), "int32"),
        Out: T.Tensor((B, N, HQ, dim), half),
        scale: T.float32,
    ):
        attend(Q, K, V, Blocks, None, Out, scale)

    return selected


@program(writes=("Out",), pass_configs=_tile.FAST_MATH)
def attend(D, **static):
    """Out = attention over the selected blocks, 0 where there are none.

    (Q [B, N, HQ, dim], K, V [B, N, H, dim], Blocks [B, N, H, count] int32, Out like Q, scale)
    """
    return _build(D, gated=False, **static)


@program(writes=("Out",), pass_configs=_tile.FAST_MATH)
def attend_gated(D, **static):
    """Out += gate * attention over the selected blocks.

    (Q, K, V, Blocks as above, Gate [B, N, HQ], Out, scale)
    """
    return _build(D, gated=True, **static)
