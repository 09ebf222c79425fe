"""Hopper: the importances of `_blocks`, with products and weights of two warpgroups in turn."""

import tilelang.language as T

from ..common.dialect import program
from ._dense import seen
from ._walk import MANUAL
from ._walk_ring import release
from ._walk_rows import BOTH, FULL, TURN
from ._walk_steps import KEYS

ROWS = 128  # queries of a tile
HALF = ROWS // 2  # of a consumer warpgroup


@program(writes=("Importance",), pass_configs=MANUAL)
def importances(D, *, dtype, group, dim, kernel, stride, block, stages, splits):
    """See `_blocks.importances`: the same arguments and results.

    A CTA keeps a tile of compressed keys while the heads of its group pass over it, one Q tile
    after the other. One warpgroup multiplies while the other one makes weights.
    """
    half = D.dtype(dtype)
    ratio = block // stride  # windows that start in a block
    halo = kernel // stride - 1  # windows before them that reach into it
    # Windows that reach into a tile's first block belong to the tile as well, so tiles overlap and
    # share nothing.
    tile_blocks = (KEYS - halo) // ratio
    B, N, H, HQ, W, C, blocks = (
        T.dynamic(name)
        for name in ("batch", "seqlen", "kv_heads", "q_heads", "windows", "chunk", "blocks")
    )

    def first_window(n, split):
        return (n * splits + split) * tile_blocks * ratio - halo

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
        with T.Kernel(T.ceildiv(C, ROWS) * splits, H, B, threads=384) as (work, h, b):
            q_s = T.alloc_shared((stages, ROWS, dim), half)
            k_s = T.alloc_shared((2, KEYS, dim), half)
            window_sum = T.alloc_shared((ROWS, KEYS + 1), "float32")
            lse_s = T.alloc_shared((group, ROWS), "float32")
            q_full = T.alloc_barrier([128] * (2 * stages))  # one for each warpgroup's half
            q_empty = T.alloc_barrier([4] * (2 * stages))
            k_full = T.alloc_barrier([128] * 2)
            k_empty = T.alloc_barrier([8] * 2)

            c0 = (T.ceildiv(C, ROWS) - 1 - work // splits) * ROWS
            split = work % splits  # tiles of keys are dealt out in turn
            t0 = first + c0
            last_block = T.min(t0 + ROWS - 1, N - 1) // block
            steps = T.truncdiv(T.ceildiv(last_block + 1, tile_blocks) - split + splits - 1, splits)
            with T.ws(0):
                T.dec_max_nreg(40)
                for n in T.serial(steps):
                    T.mbarrier_wait_parity(k_empty[n & 1], ((n >> 1) & 1) ^ 1)
                    T.tma_copy(
                        MeanK[b, first_window(n, split) : first_window(n, split) + KEYS, h, :],
                        k_s[n & 1, :, :],
                        barrier=k_full[n & 1],
                    )
                    T.mbarrier_arrive(k_full[n & 1])
                    for g in T.serial(group):
                        s = T.truncmod(n * group + g, stages)
                        parity = (T.truncdiv(n * group + g, stages) & 1) ^ 1
                        for w in T.unroll(2):
                            T.mbarrier_wait_parity(q_empty[2 * s + w], parity)
                            for c in T.unroll(dim // 64):
                                T.tma_copy(
                                    Q[
                                        b,
                                        t0 + w * HALF : t0 + w * HALF + HALF,
                                        h * group + g,
                                        c * 64 : c * 64 + 64,
                                    ],
                                    q_s[s, w * HALF : w * HALF + HALF, c * 64 : c * 64 + 64],
                                    barrier=q_full[2 * s + w],
                                )
                            T.mbarrier_arrive(q_full[2 * s + w])
            with T.ws(1, 2):
                T.inc_max_nreg(232)
                scores = T.alloc_fragment((ROWS, KEYS), "float32")
                weight = T.alloc_fragment((ROWS, KEYS), "float32")
                lse = T.alloc_fragment((ROWS,), "float32")
                limit = T.alloc_fragment((ROWS,), "int32")
                which = T.get_thread_binding() // 128 - 1
                for g, i in T.Parallel(group, ROWS):
                    lse_s[g, i] = T.if_then_else(t0 + i < N, Lse[b, h * group + g, t0 + i], 0)
                T.sync_threads(BOTH, 256)
                if which == 1:
                    T.named_barrier_arrive(TURN, 256)
                for n in T.serial(steps):
                    T.mbarrier_wait_parity(k_full[n & 1], (n >> 1) & 1)
                    T.fill(weight, 0)
                    w0 = first_window(n, split)
                    for g in T.serial(group):
                        s = T.truncmod(n * group + g, stages)
                        for i in T.Parallel(ROWS):
                            lse[i] = lse_s[g, i]
                        T.mbarrier_wait_parity(
                            q_full[2 * s + which], T.truncdiv(n * group + g, stages) & 1
                        )
                        T.sync_threads(TURN + which, 256)
                        T.wgmma_gemm(
                            q_s[s, :, :], k_s[n & 1, :, :], scores, transpose_B=True, policy=FULL,
                            clear_accum=True,
                        )  # fmt: skip
                        T.named_barrier_arrive(TURN + 1 - which, 256)
                        T.wait_wgmma(0)
                        release(q_empty, 2 * s + which)
                        if w0 + KEYS > seen(t0, kernel, stride):
                            for i in T.Parallel(ROWS):
                                limit[i] = seen(t0 + i, kernel, stride) - w0
                            for i, j in T.Parallel(ROWS, KEYS):
                                weight[i, j] += T.if_then_else(
                                    j < limit[i], T.exp2(scores[i, j] * scale - lse[i]), 0
                                )
                        else:
                            for i, j in T.Parallel(ROWS, KEYS):
                                weight[i, j] += T.exp2(scores[i, j] * scale - lse[i])
                    release(k_empty, n & 1)
                    T.sync_threads(BOTH, 256)  # nobody reads the last tile's sums any longer
                    for i, j in T.Parallel(ROWS, KEYS):
                        window_sum[i, j] = weight[i, j]
                    T.sync_threads(BOTH, 256)
                    if (halo > 0) & (n == 0) & (split == 0):
                        for i, x in T.Parallel(ROWS, max(halo, 1)):
                            window_sum[i, x] = 0  # before the first window
                        T.sync_threads(BOTH, 256)
                    y0 = (n * splits + split) * tile_blocks
                    for i, y in T.Parallel(ROWS, tile_blocks):
                        if (c0 + i < C) & (y0 + y < blocks):
                            Importance[b, c0 + i, h, y0 + y] = block_sum(window_sum, i, y * ratio)

    return block_importances
