"""Hopper: the importances of `_blocks`, with products and weights of two warpgroups in turn."""

import tilelang.language as T

from ..common.dialect import program
from ._dense import seen
from ._walk import MANUAL
from ._walk_ring import release
from ._walk_rows import TURN
from ._walk_steps import KEYS

ROWS = 128  # queries of a tile
HALF = ROWS // 2  # of a consumer warpgroup
OWN = TURN + 2  # OWN + i: barrier of warpgroup i alone
PITCH = KEYS + 4  # of a row of sums: whole 16 bytes, and rows of a warp in different banks


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
    # Heads in bunches of as many as there are stages, so that the stage of each is a constant.
    bunch = stages if group % stages == 0 else 1
    B, N, H, HQ, W, C, blocks = (
        T.dynamic(name)
        for name in ("batch", "seqlen", "kv_heads", "q_heads", "windows", "chunk", "blocks")
    )

    def first_window(n, split):
        return (n * splits + split) * tile_blocks * ratio - halo

    def stage_of(n, g, i):
        """Stage and parity of head g + i of tile n, g a whole number of bunches."""
        number = n * group + g + i
        return i if bunch > 1 else T.truncmod(number, stages), T.truncdiv(number, stages) & 1

    def block_sum(windows):
        """Importance of the block that these windows, halo included, meet."""
        total = 0.0
        for x in range(halo + ratio):
            start = (x - halo) * stride  # token of the block at which this window starts
            overlap = min(start + kernel, block) - max(start, 0)
            total += overlap / stride * windows[x]
        return total

    @T.macro
    def produce(Q, MeanK, b, h, t0, split, steps, q_s, k_s, q_full, q_empty, k_full, k_empty):
        for n in T.serial(steps):
            T.mbarrier_wait_parity(k_empty[n & 1], ((n >> 1) & 1) ^ 1)
            T.tma_copy(
                MeanK[b, first_window(n, split) : first_window(n, split) + KEYS, h, :],
                k_s[n & 1, :, :],
                barrier=k_full[n & 1],
            )
            T.mbarrier_arrive(k_full[n & 1])
            for bunches in T.serial(group // bunch):
                for i in T.unroll(bunch):
                    g = bunches * bunch + i
                    s, parity = stage_of(n, bunches * bunch, i)
                    for w in T.unroll(2):
                        T.mbarrier_wait_parity(q_empty[2 * s + w], parity ^ 1)
                        for c in T.unroll(dim // 64):
                            T.tma_copy(
                                Q[
                                    b,
                                    t0 + w * HALF : t0 + w * HALF + HALF,
                                    h * group + g,
                                    c * 64 : c * 64 + 64,
                                ],
                                q_s[s, w, :, c * 64 : c * 64 + 64],
                                barrier=q_full[2 * s + w],
                            )
                        T.mbarrier_arrive(q_full[2 * s + w])

    @T.macro
    def add_up(which: int, weight, sums, Importance, b, h, c0, y0):
        """Window by window to block by block, from block y0 on; a warp has 16 rows to itself.

        All rows are read before any is written, so that one wait serves all.
        """
        lane = T.get_thread_binding() % 32
        row = which * HALF + T.get_thread_binding() // 32 % 4 * 16
        passes = -(-tile_blocks // 32)
        windows = T.alloc_local((halo + ratio,), "float32")
        total = T.alloc_local((16 * passes,), "float32")
        for j, x in T.Parallel(HALF, KEYS):
            sums[which * HALF + j, x] = weight[j, x]
        T.sync_threads(OWN + which, 128)
        if (y0 == 0) & (lane < 16):
            for x in T.unroll(halo):
                sums[row + lane, x] = 0  # before the first window
        T.sync_threads(OWN + which, 128)
        for z in T.unroll(passes):
            first = T.min(z * 32 + lane, tile_blocks - 1) * ratio
            for j in T.unroll(16):
                for x in T.vectorized(ratio):
                    windows[x] = sums[row + j, first + x]
                for x in T.unroll(ratio, ratio + halo):
                    windows[x] = sums[row + j, first + x]
                total[z * 16 + j] = block_sum(windows)
        for z in T.unroll(passes):
            y = z * 32 + lane
            for j in T.unroll(16):
                if (y < tile_blocks) & (y0 + y < blocks) & (c0 + row + j < C):
                    Importance[b, c0 + row + j, h, y0 + y] = total[z * 16 + j]

    @T.macro
    def consume(
        which: int, Lse, Importance, scale, b, h, t0, c0, split, steps, q_s, k_s, sums, lse_s,
        q_full, q_empty, k_full, k_empty,
    ):  # fmt: skip
        scores = T.alloc_fragment((HALF, KEYS), "float32")
        weight = T.alloc_fragment((HALF, KEYS), "float32")
        lse = T.alloc_fragment((HALF,), "float32")
        limit = T.alloc_fragment((HALF,), "int32")
        row = which * HALF  # the warpgroup's first
        for g, i in T.Parallel(group, HALF):
            lse_s[g, row + i] = T.if_then_else(
                t0 + row + i < N, Lse[b, h * group + g, t0 + row + i], 0
            )
        T.sync_threads(OWN + which, 128)
        if which == 1:
            T.named_barrier_arrive(TURN, 256)
        for n in T.serial(steps):
            T.mbarrier_wait_parity(k_full[n & 1], (n >> 1) & 1)
            T.fill(weight, 0)
            w0 = first_window(n, split)
            for bunches in T.serial(group // bunch):
                for i in T.unroll(bunch):
                    s, parity = stage_of(n, bunches * bunch, i)
                    for j in T.Parallel(HALF):
                        lse[j] = lse_s[bunches * bunch + i, row + j]
                    T.mbarrier_wait_parity(q_full[2 * s + which], parity)
                    T.sync_threads(TURN + which, 256)
                    T.wgmma_gemm(
                        q_s[s, which, :, :], k_s[n & 1, :, :], scores, transpose_B=True,
                        clear_accum=True,
                    )  # fmt: skip
                    T.named_barrier_arrive(TURN + 1 - which, 256)
                    T.wait_wgmma(0)
                    release(q_empty, 2 * s + which)
                    if w0 + KEYS > seen(t0 + row, kernel, stride):
                        for j in T.Parallel(HALF):
                            limit[j] = seen(t0 + row + j, kernel, stride) - w0
                        for j, x in T.Parallel(HALF, KEYS):
                            weight[j, x] += T.if_then_else(
                                x < limit[j], T.exp2(scores[j, x] * scale - lse[j]), 0
                            )
                    else:
                        for j, x in T.Parallel(HALF, KEYS):
                            weight[j, x] += T.exp2(scores[j, x] * scale - lse[j])
            release(k_empty, n & 1)
            add_up(which, weight, sums, Importance, b, h, c0, (n * splits + split) * tile_blocks)

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
            q_s = T.alloc_shared((stages, 2, HALF, dim), half)
            k_s = T.alloc_shared((2, KEYS, dim), half)
            sums = T.alloc_shared((ROWS, PITCH), "float32")
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
                produce(
                    Q, MeanK, b, h, t0, split, steps, q_s, k_s, q_full, q_empty, k_full, k_empty
                )
            for which in (0, 1):
                with T.ws(1 + which):
                    T.inc_max_nreg(232)
                    consume(
                        which, Lse, Importance, scale, b, h, t0, c0, split, steps, q_s, k_s, sums,
                        lse_s, q_full, q_empty, k_full, k_empty,
                    )  # fmt: skip

    return block_importances
