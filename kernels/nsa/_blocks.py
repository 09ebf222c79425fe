"""The choice of blocks in `full`: how important each is, forced ones, then the best."""

import tilelang.language as T
import torch

from ..common.dialect import program
from ._dense import seen
from ._tile import FAST_MATH

FORCED = 1e30  # importance of the first, the previous and the current block
NO_BLOCK = -1.0  # below every importance: the candidate is used up or does not exist

SCRATCH_BYTES = 64 << 20  # for importances; queries go through in chunks that fit


def power_of_two(value):
    """The smallest one that is at least `value`."""
    return 1 << (value - 1).bit_length()


@program(writes=("Importance",), pass_configs=FAST_MATH)
def importances(D, *, dtype, group, dim, kernel, stride, block, block_m, block_n, threads, stages):
    """Importance of each block for the queries [t0, t0 + C) and each KV head.

    (Q [B, N, HQ, dim], MeanK [B, W, H, dim], Lse [B, HQ, N], Importance [B, C, H, blocks], scale,
    t0). Query t gets the blocks up to its own; what lies after is left as it is. The heads of a
    group take turns on the same block_m queries, so that their weights add up in registers.
    """
    half = D.dtype(dtype)
    ratio = block // stride  # windows that start in a block
    halo = kernel // stride - 1  # windows before them that reach into it
    block_n = max(block_n, power_of_two(max(ratio, halo)))
    tile_blocks = block_n // ratio
    B, N, H, HQ, W, C, blocks = (
        T.dynamic(name)
        for name in ("batch", "seqlen", "kv_heads", "q_heads", "windows", "chunk", "blocks")
    )

    def block_sum(window_sum, i, x0):
        """Importance of the block whose first window, halo included, is column x0 of row i."""
        total = 0.0
        for x in range(halo + ratio):
            start = (x - halo) * stride  # token of the block at which this window starts
            overlap = min(start + kernel, block) - max(start, 0)
            total += overlap / stride * window_sum[i, x0 + x]
        return total

    @T.prim_func
    def block_importances(
        Q: T.Tensor((B, N, HQ, dim), half),
        MeanK: T.Tensor((B, W, H, dim), half),
        Lse: T.Tensor((B, HQ, N), "float32"),
        Importance: T.Tensor((B, C, H, blocks), "float32"),
        scale: T.float32,
        first: T.int32,
    ):
        with D.kernel(T.ceildiv(C, block_m), H, B, threads=threads) as (reverse, h, b):
            q_s = D.alloc_shared((block_m, dim), half)
            k_s = D.alloc_shared((block_n, dim), half)
            window_sum = D.alloc_shared((block_m, halo + block_n), "float32")
            scores = D.alloc_fragment((block_m, block_n), "float32")
            weight = D.alloc_fragment((block_m, block_n), "float32")
            lse = D.alloc_shared((group, block_m), "float32")

            c0 = (T.ceildiv(C, block_m) - 1 - reverse) * block_m
            t0 = first + c0
            last_block = T.min(t0 + block_m - 1, N - 1) // block
            for g, i in D.parallel(group, block_m):
                lse[g, i] = T.if_then_else(t0 + i < N, Lse[b, h * group + g, t0 + i], 0)
            if halo > 0:
                for i, x in D.parallel(block_m, halo):
                    window_sum[i, block_n + x] = 0
            for n in T.serial(T.ceildiv(last_block + 1, tile_blocks)):
                n0 = n * block_n
                T.copy(MeanK[b, n0 : n0 + block_n, h, :], k_s)
                T.fill(weight, 0)
                for g in D.pipelined(group, stages):
                    T.copy(Q[b, t0 : t0 + block_m, h * group + g, :], q_s)
                    T.clear(scores)
                    D.gemm(q_s, k_s, scores, transpose_B=True, policy=T.GemmWarpPolicy.FullRow)
                    for i, j in D.parallel(block_m, block_n):
                        weight[i, j] += T.if_then_else(
                            n0 + j < seen(t0 + i, kernel, stride),
                            T.exp2(scores[i, j] * scale - lse[g, i]),
                            0,
                        )
                # The last tile's last windows reach into this one's first block.
                if halo > 0:
                    for i, x in D.parallel(block_m, halo):
                        window_sum[i, x] = window_sum[i, block_n + x]
                for i, j in D.parallel(block_m, block_n):
                    window_sum[i, halo + j] = weight[i, j]
                for i, y in D.parallel(block_m, tile_blocks):
                    if (c0 + i < C) & (n * tile_blocks + y < blocks):
                        Importance[b, c0 + i, h, n * tile_blocks + y] = block_sum(
                            window_sum, i, y * ratio
                        )

    return block_importances


@program(writes=("Chosen",))
def best(D, *, block, top_k, tile, threads):
    """Choice of the queries [first, first + C): one CTA per (query, KV head).

    (Importance [B, C, H, blocks], Chosen [B, N, H, top_k], first). Candidates come in tiles. Of the
    first, top_k rounds of arg-max make a list; from each later one blocks move into the list for as
    long as its best beats the list's least: for the n-th tile about top_k / n, where importances
    are no steadily rising ones. Of equals, the most recent block is better. Chosen has the list's
    order. Indices are kept in fp32, exact below 2^24, so that one kind of reduction serves both.
    """
    tile = max(tile, power_of_two(top_k))
    room = power_of_two(top_k)
    B, C, N, H, blocks = (
        T.dynamic(name) for name in ("batch", "chunk", "seqlen", "kv_heads", "blocks")
    )

    @T.macro
    def find(value, block_id, match, top, winner):
        """The largest value, and of its blocks the most recent."""
        width = value.shape[1]
        D.reduce_max(value, top)
        for i, j in D.parallel(1, width):
            match[i, j] = T.if_then_else(value[i, j] == top[i], block_id[i, j], -FORCED)
        D.reduce_max(match, winner)

    @T.macro
    def use_up(value, block_id, winner):
        for i, j in D.parallel(1, tile):
            if block_id[i, j] == winner[i]:
                value[i, j] = NO_BLOCK

    @T.prim_func
    def best_blocks(
        Importance: T.Tensor((B, C, H, blocks), "float32"),
        Chosen: T.Tensor((B, N, H, top_k), "int32"),
        first: T.int32,
    ):
        with D.kernel(C, H, B, threads=threads) as (c, h, b):
            best_value = D.alloc_shared((room,), "float32")
            best_block = D.alloc_shared((room,), "float32")
            value = D.alloc_fragment((1, tile), "float32")
            block_id = D.alloc_fragment((1, tile), "float32")
            match = D.alloc_fragment((1, tile), "float32")
            listed = D.alloc_fragment((1, room), "float32")
            place = D.alloc_fragment((1, room), "float32")
            matched = D.alloc_fragment((1, room), "float32")
            top = D.alloc_fragment((1,), "float32")
            winner = D.alloc_fragment((1,), "float32")
            least = D.alloc_fragment((1,), "float32")
            loser = D.alloc_fragment((1,), "float32")
            more = T.alloc_var("int32")

            current = (first + c) // block
            for n in T.serial(T.ceildiv(current + 1, tile)):
                for i, j in D.parallel(1, tile):
                    candidate = n * tile + j
                    forced = (candidate == 0) | (candidate >= current - 1)
                    value[i, j] = T.if_then_else(
                        candidate > current,
                        NO_BLOCK,
                        T.if_then_else(forced, FORCED, Importance[b, c, h, candidate]),
                    )
                    block_id[i, j] = T.cast(candidate, "float32")
                if n == 0:
                    for r in T.serial(top_k):
                        find(value, block_id, match, top, winner)
                        use_up(value, block_id, winner)
                        for i in D.parallel(1):
                            best_value[r] = top[i]
                            best_block[r] = T.if_then_else(top[i] < 0, -1.0, winner[i])
                else:
                    more = 1
                    for _ in T.serial(top_k):
                        if more > 0:
                            find(value, block_id, match, top, winner)
                            # The list negated: its least value, and of those blocks the oldest.
                            for i, j in D.parallel(1, room):
                                listed[i, j] = T.if_then_else(
                                    j < top_k, -best_value[j], -2 * FORCED
                                )
                                place[i, j] = -best_block[j]
                            find(listed, place, matched, least, loser)
                            better = (top[0] > -least[0]) | (
                                (top[0] == -least[0]) & (winner[0] > -loser[0])
                            )
                            if better & (top[0] >= 0):
                                use_up(value, block_id, winner)
                                for i, j in D.parallel(1, room):
                                    if place[i, j] == loser[i]:
                                        best_value[j] = top[i]
                                        best_block[j] = winner[i]
                            else:
                                more = 0
            for r in D.parallel(top_k):
                if first + c < N:
                    Chosen[b, first + c, h, r] = T.cast(best_block[r], "int32")

    return best_blocks


def choose(
    q, mean_k, lse, chosen, scale, *, block, use, use_best, program=importances, **static
):  # fmt: skip
    """Write the choice of every query and KV head to `chosen` [B, T, H, top_k].

    q: [B, T, HQ, D]; mean_k: [B, W, H, D]; lse: [B, HQ, T]; scale: of base-2 scores; use, use_best:
    the schedules of `program` and `best`; program: `importances` or one like it; static: its
    further sizes.
    """
    B, N, H, top_k = chosen.shape
    use = dict(use)
    # Of all KV heads and sequences together, so that few of them fill a device as many do.
    most = use.pop("chunk", B * N * H) // (B * H)
    importances_of = program.get(block=block, **static, **use)
    best_of = best.get(block=block, top_k=top_k, **use_best)
    blocks = -(-N // block)
    fitting = SCRATCH_BYTES // (4 * B * H * blocks)
    rows = use.get("block_m", 128)
    chunk = min(N, max(min(fitting, most) // rows, 1) * rows)
    importance = torch.empty((B, chunk, H, blocks), dtype=torch.float32, device=q.device)
    for first in range(0, N, chunk):
        importances_of(q, mean_k, lse, importance, scale, first)
        best_of(importance, chosen, first)
