"""The two consumer warpgroups of `_paired`.

Each makes the weights of one tile of a pair, and adds up its own columns of V for both tiles.
"""

import tilelang.language as T

from ._combine import LOWEST
from ._paired_state import BLOCK_H, BLOCK_N, BOTH, GROUP, OWN, WEIGHED


@T.macro
def give_back(t, half):
    """A warp is done with a half of a tile."""
    if T.get_thread_binding() % 32 == 0:
        T.barrier_arrive(t.free[half])


@T.macro
def start_scores(t, s, w):
    """Multiply the half of the own tile's columns that comes first."""
    T.wgmma_gemm(t.q[w], t.kv[w][w], s.scores, transpose_B=True, clear_accum=True)


@T.macro
def finish_scores(t, s, w):
    T.wgmma_gemm(t.q[1 - w], t.kv[w][1 - w], s.scores, transpose_B=True)
    T.wgmma_gemm(t.q_pe, t.k_pe[w], s.scores, transpose_B=True)


@T.macro
def weigh(t, s, w, job, pair):
    """From the own tile's scores its weights, for both warpgroups."""
    key0 = job.first_key(2 * pair + w)
    if key0 + BLOCK_N > job.length - job.hidden:
        for r, j in T.Parallel(BLOCK_H, BLOCK_N):
            s.scores[r, j] = T.if_then_else(
                key0 + j < s.seen[r], s.scores[r, j], -T.infinity("float32")
            )
    if job.poisoned:  # noqa: SIM102  (known while tracing; the next is not)
        if key0 + BLOCK_N > job.length:
            for j, d in T.Parallel(BLOCK_N, t.half):
                if key0 + j >= job.length:
                    t.kv[w][0][j, d] = 0
                    t.kv[w][1][j, d] = 0
    T.copy(s.top, s.before)
    T.reduce_max(s.scores, s.top, dim=1, clear=False)
    for r, j in T.Parallel(BLOCK_H, BLOCK_N):
        s.scores[r, j] = T.exp2(s.scores[r, j] * job.scale2 - s.top[r] * job.scale2)
    T.copy(s.scores, s.weights)
    T.copy(s.weights, t.k_pe[w])
    T.copy(s.top, t.row_top[w])
    T.fence_proxy_async()
    T.sync_threads(OWN + w, GROUP)  # racecheck does not see that the last to arrive has written
    T.named_barrier_arrive(WEIGHED + w, 2 * GROUP)
    add_total(s, job.scale2)


@T.macro
def add_total(s, scale2):
    T.reduce_sum(s.scores, s.tile_sum, dim=1)
    for r in T.Parallel(BLOCK_H):
        s.fade[r] = T.exp2((s.before[r] - s.top[r]) * scale2)
    for r in T.Parallel(BLOCK_H):
        s.total[r] = s.total[r] * s.fade[r] + s.tile_sum[r]


@T.macro
def add_own(t, s, w, job):
    """Add what the own tile weighs, and give its half back."""
    for r, d in T.Parallel(BLOCK_H, t.half):
        s.acc[r, d] = s.acc[r, d] * s.fade[r]
    T.wgmma_gemm(s.weights, t.kv[w][w], s.acc)
    T.wait_wgmma(0)
    give_back(t, 2 * w + w)


@T.macro
def take_other(t, s, w, scale2):
    """Wait for the weights of the other warpgroup's tile, and scale the sums for them."""
    T.sync_threads(WEIGHED + 1 - w, 2 * GROUP)
    T.copy(s.top, s.before)
    T.copy(t.row_top[1 - w], s.top)
    for r in T.Parallel(BLOCK_H):
        s.fade[r] = T.exp2((s.before[r] - s.top[r]) * scale2)
    for r in T.Parallel(BLOCK_H):
        s.total[r] = s.total[r] * s.fade[r]
    for r, d in T.Parallel(BLOCK_H, t.half):
        s.acc[r, d] = s.acc[r, d] * s.fade[r]


@T.macro
def add_other(t, s, w):
    """Start to add what the other warpgroup's tile weighs."""
    T.wgmma_gemm(t.k_pe[1 - w], t.kv[1 - w][w], s.acc)


@T.macro
def attend(t, s, w, job):
    """Consumer warpgroup `w`: weights of every pair's tile `w`, sums of columns `w` of both."""
    T.fill(s.top, LOWEST)
    T.clear(s.total)
    T.clear(s.acc)
    for r in T.Parallel(BLOCK_H):
        s.seen[r] = T.min(
            job.length, job.length - job.hidden + T.truncdiv(job.x * BLOCK_H + r, job.heads)
        )
    T.barrier_wait(t.queries, 0)
    if w == 0:
        if job.pairs > 0:
            T.barrier_wait(t.full[0], 0)
        start_scores(t, s, 0)
        for i in T.serial(job.pairs):
            T.barrier_wait(t.full[1], i & 1)
            finish_scores(t, s, 0)
            T.wait_wgmma(0)
            weigh(t, s, 0, job, i)
            add_own(t, s, 0, job)
            # Its own half is loading again meanwhile, and the next scores queue up behind.
            take_other(t, s, 0, job.scale2)
            add_other(t, s, 0)
            # Of the last pair there is no next tile: the product of old columns is not used.
            if i + 1 < job.pairs:
                T.barrier_wait(t.full[0], (i + 1) & 1)
            start_scores(t, s, 0)
            T.wait_wgmma(1)
            give_back(t, 2)
        T.wait_wgmma(0)
    else:
        for i in T.serial(job.pairs):
            T.barrier_wait(t.full[2], i & 1)
            start_scores(t, s, 1)
            T.barrier_wait(t.full[3], i & 1)
            finish_scores(t, s, 1)
            take_other(t, s, 1, job.scale2)
            add_other(t, s, 1)
            T.wait_wgmma(1)  # the scores; the product runs on under the softmax
            weigh(t, s, 1, job, i)
            T.wait_wgmma(0)
            give_back(t, 1)
            add_own(t, s, 1, job)
    # The sum of weights is over both warpgroups' tiles.
    T.sync_threads(BOTH, 2 * GROUP)
    T.copy(s.total, t.row_top[w])
    T.sync_threads(BOTH, 2 * GROUP)
    for r in T.Parallel(BLOCK_H):
        s.total[r] = s.total[r] + t.row_top[1 - w][r]
