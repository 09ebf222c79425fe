"""One launch for small batches on Hopper: the splits of a sequence are the CTAs of a cluster.

Each CTA attends as in `_turned`, then sends every other CTA of the cluster its rows of the sums
through distributed shared memory; each combines its rows and writes them. No second launch and no
scratch, which is what a small call's time on the host consists of. See DESIGN.md.
"""

import tilelang.language as T

from ..common.dialect import program
from . import _turned
from ._combine import LOG2E, ROOM, share
from ._turned import BARRIER, BLOCK_N, CONSUMERS, THREADS

BLOCK_H = 16


@T.macro
def gather(sent, got, come, rank, cluster, width):
    """Send every other CTA its rows, keep one's own, and wait until all have come.

    Each starts with the CTA behind it, so that they do not all send to the same one. A bulk copy
    goes to other CTAs only; threads copy the own rows while the others are under way.
    """
    for i in T.serial(1, cluster):
        r = (rank + i) % cluster
        T.copy_cluster(
            sent[r * width : (r + 1) * width],
            got[rank, 0:width],
            dst_block=r,
            remote_barrier=come[0],
        )
    for i in T.Parallel(width):
        got[rank, i] = sent[rank * width + i]
    T.barrier_wait(come[0], 0)
    T.sync_threads(BARRIER, CONSUMERS)  # the own rows are other threads'


@T.macro
def combine(got, b, row0, heads, cluster, rows, dim, Out):
    """Weigh and add up the parts of `rows` rows, in the order of the CTAs."""
    peak = T.alloc_fragment((rows,), "float32")
    total = T.alloc_fragment((rows,), "float32")
    weight = T.alloc_fragment((rows,), "float32")
    sums = T.alloc_fragment((rows, dim), "float32")
    width = dim + ROOM
    for h in T.Parallel(rows):
        peak[h] = got[0, h * width + dim]
    for s in T.unroll(cluster):
        for h in T.Parallel(rows):
            peak[h] = T.max(peak[h], got[s, h * width + dim])
    T.clear(total)
    T.clear(sums)
    for s in T.unroll(cluster):
        for h in T.Parallel(rows):
            weight[h] = T.exp2(got[s, h * width + dim] - peak[h])
        for h in T.Parallel(rows):
            total[h] += weight[h] * got[s, h * width + dim + 1]
        for h, d in T.Parallel(rows, dim):
            sums[h, d] += weight[h] * got[s, h * width + d]
    for h, d in T.Parallel(rows, dim):
        if row0 + h < heads:
            Out[b, row0 + h, d] = T.if_then_else(total[h] > 0, sums[h, d] / total[h], 0)


@program(writes=("Out",), pass_configs=_turned.PASSES)
def dense(D, *, dim, pe_dim, dtype, stages, cluster):
    """Q [B, Hq, dim], QPe [B, Hq, pe_dim], Kv [B, S, 1, dim], KPe [B, S, 1, pe_dim] ->
    Out [B, Hq, dim], for up to 16 heads. `cluster` divides 16."""
    batch, keys, heads = T.dynamic("batch"), T.dynamic("keys"), T.dynamic("heads")
    rows = BLOCK_H // cluster
    width = rows * (dim + ROOM)

    @T.prim_func
    def main(
        Q: T.Tensor((batch, heads, dim), dtype),
        QPe: T.Tensor((batch, heads, pe_dim), dtype),
        Kv: T.Tensor((batch, keys, 1, dim), dtype),
        KPe: T.Tensor((batch, keys, 1, pe_dim), dtype),
        Out: T.Tensor((batch, heads, dim), dtype),
        scale: T.float32,
    ):
        with T.Kernel(cluster, batch, threads=THREADS, cluster_dims=cluster) as (
            rank,
            b,
        ):
            t = _turned.working_set(BLOCK_H, dim, pe_dim, dtype, stages)
            sent = T.alloc_shared((BLOCK_H * (dim + ROOM),), "float32")
            # Static, so that it is not overlaid: others write it while this CTA still attends.
            got = T.alloc_shared((cluster, width), "float32", "shared")
            come = T.alloc_cluster_barrier([cluster - 1])
            count = share(T.ceildiv(keys, BLOCK_N), rank, cluster)
            D.follow()
            if T.get_thread_binding() >= CONSUMERS:
                _turned.load_dense(t, Kv, KPe, b, rank, cluster, count)
            else:
                _turned.attend(
                    t, Q, QPe, 0, b, 0, heads, heads, keys, 0, rank, cluster, count,
                    0, scale * LOG2E, sent, False,
                )  # fmt: skip
                gather(sent, got, come, rank, cluster, width)
                combine(got, b, rank * rows, heads, cluster, rows, dim, Out)
            T.cluster_sync()  # what others still read from here stays until they have it

    return main
