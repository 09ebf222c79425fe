"""Split-KV attention for blocks of 64 rows on Hopper, two tiles of keys at a time.

The sums of 64 rows, 64 x 512 in fp32, are half of a processor's registers: each of two warpgroups
holds 256 of the columns. Scores are not split that way, each warpgroup takes those of one tile:
its rows' maxima then need no other warps, and the queries are read once a tile, not twice. Weights
go to the other warpgroup through the rotary part of the tile, which is done with by then. A third
warpgroup loads. See DESIGN.md.
"""

import tilelang.language as T

from ..common.dialect import BY_ROLE, program
from ._combine import LOG2E, ROOM, log_sum_exp, merge, share
from ._paired_attend import attend
from ._paired_load import load_dense, load_paged
from ._paired_state import BLOCK_H, BLOCK_N, GROUP, LOADERS, OWN, Work, working_set

PASSES = {
    **BY_ROLE,
    "tl.disable_data_race_check": True,
    "tl.enable_fast_math": True,
    "tl.enable_aggressive_shared_memory_merge": True,  # the outputs take the tiles' place
}
REGISTERS = 504  # of three threads, one of each warpgroup: a launch gives each 168; asking for more
# than all of them waits for ever


@T.macro
def finish(t, s, w, job, sent, Out, Lse):
    """Write columns `w` of the output, through the tiles' place, and of one warpgroup the Lse."""
    row0 = job.x * BLOCK_H
    for r, d in T.Parallel(BLOCK_H, t.half):
        sent[r, d] = T.if_then_else(s.total[r] > 0, s.acc[r, d] / s.total[r], 0)
    T.fence_proxy_async()
    T.sync_threads(OWN + w, GROUP)
    T.tma_copy(sent, Out[job.b, row0 : row0 + BLOCK_H, w * t.half : (w + 1) * t.half])
    T.tma_store_wait(0)
    if w == 0 and Lse is not None:
        for r in T.Parallel(BLOCK_H):
            if row0 + r < job.rows:
                head, query = T.truncmod(row0 + r, job.heads), T.truncdiv(row0 + r, job.heads)
                Lse[job.b, head, query] = log_sum_exp(s.top[r] * job.scale2, s.total[r])


@T.macro
def finish_part(t, s, w, job, Part):
    """Write columns `w` of the sums, and of one warpgroup what the rows weigh."""
    width = 2 * t.half + ROOM
    for r, d in T.Parallel(BLOCK_H, t.half):
        Part[job.b, job.split, job.x, r * width + w * t.half + d] = s.acc[r, d]
    if w == 0:
        for r in T.Parallel(BLOCK_H):
            Part[job.b, job.split, job.x, r * width + 2 * t.half] = s.top[r] * job.scale2
            Part[job.b, job.split, job.x, r * width + 2 * t.half + 1] = s.total[r]


@T.macro
def roles(t, halves, job, load, leave, registers=24):
    """Give every warp its part: loading tiles, in so many registers a thread, or attending, after
    which `leave` writes what warpgroup `w` has: leave(sums, w)."""
    if T.get_thread_binding() >= 2 * GROUP:
        T.set_max_nreg(registers, 0)
        if T.get_thread_binding() < 2 * GROUP + LOADERS:
            load()
    elif T.get_thread_binding() < GROUP:
        T.set_max_nreg((REGISTERS - registers) // 2, 1)
        attend(t, halves[0], 0, job)
        leave(halves[0], 0)
    else:
        T.set_max_nreg((REGISTERS - registers) // 2, 1)
        attend(t, halves[1], 1, job)
        leave(halves[1], 1)


@program(writes=("Out",), pass_configs=PASSES)
def dense_whole(D, *, dim, pe_dim, dtype):
    """Without splits. Q [B, Hq, dim], QPe [B, Hq, pe_dim], Kv [B, S, 1, dim], KPe
    [B, S, 1, pe_dim] -> Out [B, Hq, dim]."""
    batch, keys, heads = T.dynamic("batch"), T.dynamic("keys"), T.dynamic("heads")

    @T.prim_func
    def main(
        Q: T.Tensor((batch, heads, dim), dtype),
        QPe: T.Tensor((batch, heads, pe_dim), dtype),
        Kv: T.Tensor((batch, keys, 1, dim), dtype),
        KPe: T.Tensor((batch, keys, 1, pe_dim), dtype),
        Out: T.Tensor((batch, heads, dim), dtype),
        scale: T.float32,
    ):
        with T.Kernel(T.ceildiv(heads, BLOCK_H), batch, threads=3 * GROUP) as (x, b):
            t, halves = working_set(dim, pe_dim, dtype)
            sent0 = T.alloc_shared((BLOCK_H, dim // 2), dtype)
            sent1 = T.alloc_shared((BLOCK_H, dim // 2), dtype)
            pairs = T.ceildiv(keys, 2 * BLOCK_N)
            job = Work(b, x, heads, heads, keys, 0, 0, 1, pairs, scale * LOG2E, False)
            T.pdl_sync()
            roles(
                t, halves, job, lambda: load_dense(t, job, Q, QPe, Kv, KPe),
                lambda s, w: finish(t, s, w, job, (sent0, sent1)[w], Out, None),
            )  # fmt: skip

    return main


@program(writes=("Part", "Out"), pass_configs=PASSES)
def dense_parts(D, *, dim, pe_dim, dtype, block_d, threads, groups, unroll):
    """As dense_whole, in splits. Part [B, splits, row blocks, BLOCK_H * (dim + ROOM)]: scratch."""
    batch, keys, heads = T.dynamic("batch"), T.dynamic("keys"), T.dynamic("heads")
    splits, blocks = T.dynamic("splits"), T.dynamic("blocks")

    @T.prim_func
    def main(
        Q: T.Tensor((batch, heads, dim), dtype),
        QPe: T.Tensor((batch, heads, pe_dim), dtype),
        Kv: T.Tensor((batch, keys, 1, dim), dtype),
        KPe: T.Tensor((batch, keys, 1, pe_dim), dtype),
        Part: T.Tensor((batch, splits, blocks, BLOCK_H * (dim + ROOM)), "float32"),
        Out: T.Tensor((batch, heads, dim), dtype),
        scale: T.float32,
    ):
        with T.Kernel(blocks, splits, batch, threads=3 * GROUP) as (x, split, b):
            t, halves = working_set(dim, pe_dim, dtype)
            pairs = (share(T.ceildiv(keys, BLOCK_N), split, splits) + 1) // 2
            job = Work(b, x, heads, heads, keys, 0, split, splits, pairs, scale * LOG2E, False)
            D.follow()
            roles(
                t, halves, job, lambda: load_dense(t, job, Q, QPe, Kv, KPe),
                lambda s, w: finish_part(t, s, w, job, Part),
            )  # fmt: skip
        merge(
            D, Part, batch, heads, splits, BLOCK_H, dim, block_d, threads, groups, unroll,
            Out, None, heads, early=True,
        )  # fmt: skip

    return main


@program(writes=("Out", "Lse"), pass_configs=PASSES)
def paged_whole(D, *, dim, pe_dim, page, dtype):
    """Without splits. Q [B, Sq * Hq, dim + pe_dim], Cache [pages, page, 1, dim + pe_dim],
    BlockTable [B, max_pages], SeqLens [B] -> Out [B, Sq * Hq, dim], Lse [B, Hq, Sq]. `causal` is 1
    or 0."""
    assert page % BLOCK_N == 0
    batch, pages, max_pages = T.dynamic("batch"), T.dynamic("pages"), T.dynamic("max_pages")
    rows, heads, q_len = T.dynamic("rows"), T.dynamic("heads"), T.dynamic("q_len")

    @T.prim_func
    def main(
        Q: T.Tensor((batch, rows, dim + pe_dim), dtype),
        Cache: T.Tensor((pages, page, 1, dim + pe_dim), dtype),
        BlockTable: T.Tensor((batch, max_pages), "int32"),
        SeqLens: T.Tensor((batch,), "int32"),
        Out: T.Tensor((batch, rows, dim), dtype),
        Lse: T.Tensor((batch, heads, q_len), "float32"),
        scale: T.float32,
        causal: T.int32,
    ):
        with T.Kernel(T.ceildiv(rows, BLOCK_H), batch, threads=3 * GROUP) as (x, b):
            t, halves = working_set(dim, pe_dim, dtype)
            sent0 = T.alloc_shared((BLOCK_H, dim // 2), dtype)
            sent1 = T.alloc_shared((BLOCK_H, dim // 2), dtype)
            T.pdl_sync()
            length = SeqLens[b]
            hidden = causal * (q_len - 1)
            count = T.ceildiv(length, BLOCK_N)
            pairs = (count + 1) // 2
            job = Work(b, x, rows, heads, length, hidden, 0, 1, pairs, scale * LOG2E, True)
            roles(
                t, halves, job, lambda: load_paged(t, job, Q, Cache, BlockTable, page, count),
                lambda s, w: finish(t, s, w, job, (sent0, sent1)[w], Out, Lse),
            )  # fmt: skip

    return main


@program(writes=("Part", "Out", "Lse"), pass_configs=PASSES)
def paged_parts(D, *, dim, pe_dim, page, dtype, block_d, threads, groups, unroll):
    """As paged_whole, in splits. Part [B, splits, row blocks, BLOCK_H * (dim + ROOM)]: scratch."""
    assert page % BLOCK_N == 0
    batch, pages, max_pages = T.dynamic("batch"), T.dynamic("pages"), T.dynamic("max_pages")
    rows, heads, q_len = T.dynamic("rows"), T.dynamic("heads"), T.dynamic("q_len")
    splits, blocks = T.dynamic("splits"), T.dynamic("blocks")

    @T.prim_func
    def main(
        Q: T.Tensor((batch, rows, dim + pe_dim), dtype),
        Cache: T.Tensor((pages, page, 1, dim + pe_dim), dtype),
        BlockTable: T.Tensor((batch, max_pages), "int32"),
        SeqLens: T.Tensor((batch,), "int32"),
        Part: T.Tensor((batch, splits, blocks, BLOCK_H * (dim + ROOM)), "float32"),
        Out: T.Tensor((batch, rows, dim), dtype),
        Lse: T.Tensor((batch, heads, q_len), "float32"),
        scale: T.float32,
        causal: T.int32,
    ):
        with T.Kernel(blocks, splits, batch, threads=3 * GROUP) as (x, split, b):
            t, halves = working_set(dim, pe_dim, dtype)
            D.follow()
            length = SeqLens[b]
            hidden = causal * (q_len - 1)
            count = share(T.ceildiv(length, BLOCK_N), split, splits)
            pairs = (count + 1) // 2
            job = Work(b, x, rows, heads, length, hidden, split, splits, pairs, scale * LOG2E, True)
            roles(
                t, halves, job, lambda: load_paged(t, job, Q, Cache, BlockTable, page, count),
                lambda s, w: finish_part(t, s, w, job, Part),
                registers=40,
            )  # fmt: skip
        merge(
            D, Part, batch, rows, splits, BLOCK_H, dim, block_d, threads, groups, unroll,
            Out, Lse, heads, early=True,
        )  # fmt: skip

    return main
