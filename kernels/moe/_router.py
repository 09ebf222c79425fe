"""The router: logits of all experts, and every token's best experts."""

import tilelang.language as T

from ..common.dialect import Dialect, program

LOG2E = 1.4426950408889634


def padded_experts(n_experts: int) -> int:
    """Columns of a tile of router outputs: a power of two that every warp layout divides."""
    return max(64, 1 << (n_experts - 1).bit_length())


@program(writes=("logits",))
def router(
    D: Dialect,
    *,
    n_experts: int,
    d_hidden: int,
    dtype: str,
    block_m: int,
    block_k: int,
    slices: int,
    threads: int,
    stages: int,
):
    """logits[s] = the s-th slice's part of hidden @ router_w.T, in fp32.

    Few tokens make few tiles, so the hidden dimension is cut into `slices`, which `select` adds
    up in a fixed order. The last one may reach past the end, where tiles read as 0.
    """
    dtype = D.dtype(dtype)
    tokens = T.dynamic("tokens")
    width = padded_experts(n_experts)
    steps = -(-d_hidden // (block_k * slices))

    @T.prim_func
    def moe_router(
        hidden: T.Tensor((tokens, d_hidden), dtype),
        router_w: T.Tensor((n_experts, d_hidden), dtype),
        logits: T.Tensor((slices, tokens, n_experts), "float32"),
    ):
        with D.kernel(T.ceildiv(tokens, block_m), slices, threads=threads) as (tile, s):
            hidden_tile = D.alloc_shared((block_m, block_k), dtype)
            weight_tile = D.alloc_shared((width, block_k), dtype)
            acc = D.alloc_fragment((block_m, width), "float32")
            first = tile * block_m
            D.follow()
            T.clear(acc)
            for k in D.pipelined(steps, num_stages=stages):
                at = (s * steps + k) * block_k
                T.copy(hidden[first : first + block_m, at : at + block_k], hidden_tile)
                T.copy(router_w[0:width, at : at + block_k], weight_tile)
                D.gemm(hidden_tile, weight_tile, acc, transpose_B=True)
            for i, j in D.parallel(block_m, width):
                if first + i < tokens and j < n_experts:
                    logits[s, first + i, j] = acc[i, j]

    return moe_router


@T.macro
def choose_experts(
    D, logits, chunk, probs, ids, weights, taken, tokens, n_experts: int, top_k: int
):
    """Softmax over all experts, then top-k of `chunk`'s tokens.

    ids, weights [block_t, top_k]: the choices, best first; on a tie the lower expert comes first.
    taken [block_t, width]: whether token i chose expert j.
    """
    block_t, width = probs.shape
    best = D.alloc_fragment((block_t,), "float32")
    total = D.alloc_fragment((block_t,), "float32")
    nearness = D.alloc_fragment((block_t, width), "float32")
    nearest = D.alloc_fragment((block_t,), "float32")

    T.clear(probs)
    for s in T.unroll(logits.shape[0]):
        for i, j in D.parallel(block_t, width):
            if j < n_experts:
                # Past the end the last token is read again: no load waits for a branch.
                probs[i, j] += logits[s, T.min(chunk * block_t + i, tokens - 1), j]
    for i, j in D.parallel(block_t, width):
        if j >= n_experts:
            probs[i, j] = -T.infinity("float32")
    D.reduce_max(probs, best)
    for i, j in D.parallel(block_t, width):
        probs[i, j] = T.exp2((probs[i, j] - best[i]) * LOG2E)
    D.reduce_sum(probs, total)
    for i, j in D.parallel(block_t, width):
        # -1 marks what cannot be chosen: columns without an expert now, chosen ones below.
        probs[i, j] = T.if_then_else(j < n_experts, probs[i, j] / total[i], -1.0)

    for k in T.serial(top_k):
        D.reduce_max(probs, best)
        for i, j in D.parallel(block_t, width):
            nearness[i, j] = T.if_then_else(probs[i, j] == best[i], T.cast(width - j, "float32"), 0)
        D.reduce_max(nearness, nearest)
        for i in D.parallel(block_t):
            # The bound holds by itself unless the logits are NaN, when nothing equals the best.
            ids[i, k] = T.min(width - T.cast(nearest[i], "int32"), n_experts - 1)
            weights[i, k] = best[i]
        for i, j in D.parallel(block_t, width):
            if j == T.min(width - T.cast(nearest[i], "int32"), n_experts - 1):
                probs[i, j] = -1.0
    for i, j in D.parallel(block_t, width):
        chosen = probs[i, j] < 0 and j < n_experts and chunk * block_t + i < tokens
        taken[i, j] = T.if_then_else(chosen, 1, 0)
