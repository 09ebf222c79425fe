"""Split-KV attention for blocks of 64 rows on Hopper, two tiles of keys at a time.

The sums of 64 rows, 64 x 512 in fp32, are half of a processor's registers: each of two warpgroups
holds 256 of the columns. Scores are not split that way, each warpgroup takes those of one tile:
its rows' maxima then need no other warps, and the queries are read once a tile, not twice. Weights
go to the other warpgroup through the rotary part of the tile, which is done with by then. A third
warpgroup loads. See DESIGN.md.
"""

from dataclasses import dataclass
from typing import Any

import tilelang.language as T

from ..common.dialect import BY_ROLE, program
from ._combine import LOG2E, LOWEST, ROOM, column_blocks, merge_parts
from ._decode import share

PASSES = {
    **BY_ROLE,
    "tl.disable_data_race_check": True,
    "tl.enable_fast_math": True,
    "tl.enable_aggressive_shared_memory_merge": True,  # the outputs take the tiles' place
}
BLOCK_H = 64
BLOCK_N = 64
GROUP = 128  # threads of a warpgroup
LOADERS = 32
REGISTERS = 504  # of three threads, one of each warpgroup: a launch gives each 168; asking for more
# than all of them waits for ever
BOTH = 8  # named barriers: of both consumer warpgroups,
OWN = 9  # of one, + its number,
WEIGHED = 11  # of both, + the number of the one whose weights are ready


@dataclass
class Tile:
    """What the warpgroups of a CTA share."""

    half: int  # columns of one warpgroup
    pe_dim: int
    q: Any  # two of [BLOCK_H, half]
    q_pe: Any  # [BLOCK_H, pe_dim]
    kv: Any  # of each tile two of [BLOCK_N, half]
    k_pe: Any  # of each tile [BLOCK_N, pe_dim]: rotary keys, then weights [BLOCK_H, BLOCK_N]
    row_top: Any  # of each warpgroup [BLOCK_H], fp32
    queries: Any  # barrier: the queries have come
    full: Any  # [2 * tile + 0 or 1] barriers: its first half, its second half with rotary keys
    free: Any  # [2 * tile + half] barriers: a half is done with


@dataclass
class Sums:
    """The registers of one consumer warpgroup."""

    scores: Any  # [BLOCK_H, BLOCK_N]: raw scores, then weights
    acc: Any  # [BLOCK_H, half]
    tile_sum: Any  # [BLOCK_H], as all below
    total: Any
    top: Any
    before: Any
    fade: Any
    seen: Any  # int32: how many keys, from the first on, a row sees


@dataclass
class Work:
    """What one CTA is to do."""

    b: Any
    x: Any  # row block
    rows: Any
    heads: Any
    length: Any
    hidden: Any  # keys that the first query does not see
    split: Any
    splits: Any
    pairs: Any
    scale2: Any
    poisoned: bool  # whether bytes past `length` may be NaN
    ahead: bool
    """Whether warpgroup 1 multiplies the other's weights under its own softmax. It takes a register
    more than `paged_parts` has."""

    def first_key(self, tile):
        """Of the split's tile number `tile`."""
        return (self.split + tile * self.splits) * BLOCK_N


@T.macro
def working_set(dim, pe_dim, dtype):
    q_l = T.alloc_shared((BLOCK_H, dim // 2), dtype)
    q_r = T.alloc_shared((BLOCK_H, dim // 2), dtype)
    q_pe = T.alloc_shared((BLOCK_H, pe_dim), dtype)
    kv0_l = T.alloc_shared((BLOCK_N, dim // 2), dtype)
    kv0_r = T.alloc_shared((BLOCK_N, dim // 2), dtype)
    kv1_l = T.alloc_shared((BLOCK_N, dim // 2), dtype)
    kv1_r = T.alloc_shared((BLOCK_N, dim // 2), dtype)
    k_pe0 = T.alloc_shared((BLOCK_N, pe_dim), dtype)
    k_pe1 = T.alloc_shared((BLOCK_N, pe_dim), dtype)
    row_top0 = T.alloc_shared((BLOCK_H,), "float32", "shared")  # static: not to be overlaid
    row_top1 = T.alloc_shared((BLOCK_H,), "float32", "shared")
    queries = T.alloc_barrier(LOADERS)
    full = T.alloc_barrier([LOADERS] * 4)
    free = T.alloc_barrier([GROUP // 32] * 4)  # one lane of each warp
    t = Tile(
        dim // 2, pe_dim, (q_l, q_r), q_pe, ((kv0_l, kv0_r), (kv1_l, kv1_r)), (k_pe0, k_pe1),
        (row_top0, row_top1), queries, full, free,
    )  # fmt: skip
    return t, (sums(dim // 2), sums(dim // 2))


@T.macro
def sums(half):
    scores = T.alloc_fragment((BLOCK_H, BLOCK_N), "float32")
    acc = T.alloc_fragment((BLOCK_H, half), "float32")
    tile_sum = T.alloc_fragment((BLOCK_H,), "float32")
    total = T.alloc_fragment((BLOCK_H,), "float32")
    top = T.alloc_fragment((BLOCK_H,), "float32")
    before = T.alloc_fragment((BLOCK_H,), "float32")
    fade = T.alloc_fragment((BLOCK_H,), "float32")
    seen = T.alloc_fragment((BLOCK_H,), "int32")
    return Sums(scores, acc, tile_sum, total, top, before, fade, seen)


@T.macro
def load_queries(t, job, Q, QPe, pe_column):
    """Rows past the last come as zeros."""
    b, row0 = job.b, job.x * BLOCK_H
    T.tma_copy(Q[b, row0 : row0 + BLOCK_H, 0 : t.half], t.q[0], barrier=t.queries)
    T.tma_copy(Q[b, row0 : row0 + BLOCK_H, t.half : 2 * t.half], t.q[1], barrier=t.queries)
    T.tma_copy(
        QPe[b, row0 : row0 + BLOCK_H, pe_column : pe_column + t.pe_dim], t.q_pe, barrier=t.queries
    )
    T.barrier_arrive(t.queries)


@T.macro
def load_tile(t, w, Kv, KPe, pe_column, slab, row, pair):
    """The half that the scores start with is the one that is given back first."""
    first, second = w, 1 - w
    T.barrier_wait(t.free[2 * w + first], (pair & 1) ^ 1)
    T.tma_copy(
        Kv[slab, row : row + BLOCK_N, 0, first * t.half : (first + 1) * t.half],
        t.kv[w][first],
        barrier=t.full[2 * w],
    )
    T.barrier_arrive(t.full[2 * w])
    T.barrier_wait(t.free[2 * w + second], (pair & 1) ^ 1)
    T.tma_copy(
        Kv[slab, row : row + BLOCK_N, 0, second * t.half : (second + 1) * t.half],
        t.kv[w][second],
        barrier=t.full[2 * w + 1],
    )
    T.tma_copy(
        KPe[slab, row : row + BLOCK_N, 0, pe_column : pe_column + t.pe_dim],
        t.k_pe[w],
        barrier=t.full[2 * w + 1],
    )
    T.barrier_arrive(t.full[2 * w + 1])


@T.macro
def load_dense(t, job, Q, QPe, Kv, KPe):
    """Keys past the last come as zeros."""
    load_queries(t, job, Q, QPe, 0)
    for i in T.serial(job.pairs):
        load_tile(t, 0, Kv, KPe, 0, job.b, job.first_key(2 * i), i)
        load_tile(t, 1, Kv, KPe, 0, job.b, job.first_key(2 * i + 1), i)


@T.macro
def load_paged(t, job, Q, Cache, BlockTable, page, count):
    """Page numbers of the next pair are fetched while this one loads. A pair's second tile that
    does not exist is loaded from the page of the first; its keys are seen by no row."""
    load_queries(t, job, Q, Q, 2 * t.half)
    number = T.alloc_local((4,), "int32")
    for w in T.unroll(2):
        if w < count:
            number[2 + w] = BlockTable[job.b, job.first_key(w) // page]
    for i in T.serial(job.pairs):
        number[0] = number[2]
        number[1] = T.if_then_else(2 * i + 1 < count, number[3], number[2])
        for w in T.unroll(2):
            if 2 * i + 2 + w < count:
                number[2 + w] = BlockTable[job.b, job.first_key(2 * i + 2 + w) // page]
        key0 = job.first_key(2 * i)
        load_tile(t, 0, Cache, Cache, 2 * t.half, number[0], key0 % page, i)
        load_tile(
            t, 1, Cache, Cache, 2 * t.half, number[1], (key0 + job.splits * BLOCK_N) % page, i
        )


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
    T.copy(s.scores, t.k_pe[w])
    T.copy(s.top, t.row_top[w])
    T.fence_proxy_async()
    T.sync_threads(OWN + w, GROUP)
    T.named_barrier_arrive(WEIGHED + w, 2 * GROUP)
    if job.ahead:
        add_total(s, job.scale2)


@T.macro
def find_fade(s, scale2):
    for r in T.Parallel(BLOCK_H):
        s.fade[r] = T.exp2((s.before[r] - s.top[r]) * scale2)


@T.macro
def add_total(s, scale2):
    T.reduce_sum(s.scores, s.tile_sum, dim=1)
    find_fade(s, scale2)
    for r in T.Parallel(BLOCK_H):
        s.total[r] = s.total[r] * s.fade[r] + s.tile_sum[r]


@T.macro
def add_own(t, s, w, job):
    """Add what the own tile weighs, and give its half back."""
    if not job.ahead:
        find_fade(s, job.scale2)
    for r, d in T.Parallel(BLOCK_H, t.half):
        s.acc[r, d] = s.acc[r, d] * s.fade[r]
    T.wgmma_gemm(t.k_pe[w], t.kv[w][w], s.acc)
    if not job.ahead:
        T.reduce_sum(s.scores, s.tile_sum, dim=1)
        for r in T.Parallel(BLOCK_H):
            s.total[r] = s.total[r] * s.fade[r] + s.tile_sum[r]
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
            # Of the last pair there is no next tile: the product of old columns is not used.
            if i + 1 < job.pairs:
                T.barrier_wait(t.full[0], (i + 1) & 1)
            start_scores(t, s, 0)
            take_other(t, s, 0, job.scale2)
            add_other(t, s, 0)
            T.wait_wgmma(0)
            give_back(t, 2)
        T.wait_wgmma(0)
    else:
        for i in T.serial(job.pairs):
            T.barrier_wait(t.full[2], i & 1)
            start_scores(t, s, 1)
            if job.ahead:
                T.barrier_wait(t.full[3], i & 1)
                finish_scores(t, s, 1)
            take_other(t, s, 1, job.scale2)
            add_other(t, s, 1)
            if job.ahead:
                T.wait_wgmma(1)  # the scores; the product runs on under the softmax
                weigh(t, s, 1, job, i)
                T.wait_wgmma(0)
                give_back(t, 1)
            else:
                T.wait_wgmma(0)
                give_back(t, 1)
                T.barrier_wait(t.full[3], i & 1)
                finish_scores(t, s, 1)
                T.wait_wgmma(0)
                weigh(t, s, 1, job, i)
            add_own(t, s, 1, job)
    # The sum of weights is over both warpgroups' tiles.
    T.sync_threads(BOTH, 2 * GROUP)
    T.copy(s.total, t.row_top[w])
    T.sync_threads(BOTH, 2 * GROUP)
    for r in T.Parallel(BLOCK_H):
        s.total[r] = s.total[r] + t.row_top[1 - w][r]


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
                Lse[job.b, head, query] = T.if_then_else(
                    s.total[r] > 0,
                    (s.top[r] * job.scale2 + T.log2(s.total[r])) / LOG2E,
                    -T.infinity("float32"),
                )


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
            job = Work(b, x, heads, heads, keys, 0, 0, 1, pairs, scale * LOG2E, False, True)
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
            job = Work(
                b, x, heads, heads, keys, 0, split, splits, pairs, scale * LOG2E, False, True
            )
            T.pdl_sync()
            T.pdl_trigger()
            roles(
                t, halves, job, lambda: load_dense(t, job, Q, QPe, Kv, KPe),
                lambda s, w: finish_part(t, s, w, job, Part),
            )  # fmt: skip
        with T.Kernel(column_blocks(dim, block_d), heads, batch, threads=threads) as (column, row, b):
            T.pdl_sync()
            T.pdl_trigger()
            merge_parts(
                D, Part, b, row, splits, BLOCK_H, column * block_d, dim, block_d, groups, unroll,
                Out, None, heads,
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
            job = Work(b, x, rows, heads, length, hidden, 0, 1, pairs, scale * LOG2E, True, True)
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
            T.pdl_sync()
            T.pdl_trigger()
            length = SeqLens[b]
            hidden = causal * (q_len - 1)
            count = share(T.ceildiv(length, BLOCK_N), split, splits)
            pairs = (count + 1) // 2
            job = Work(
                b, x, rows, heads, length, hidden, split, splits, pairs, scale * LOG2E, True, False
            )
            roles(
                t, halves, job, lambda: load_paged(t, job, Q, Cache, BlockTable, page, count),
                lambda s, w: finish_part(t, s, w, job, Part),
                registers=40,
            )  # fmt: skip
        with T.Kernel(column_blocks(dim, block_d), rows, batch, threads=threads) as (column, row, b):
            T.pdl_sync()
            T.pdl_trigger()
            merge_parts(
                D, Part, b, row, splits, BLOCK_H, column * block_d, dim, block_d, groups, unroll,
                Out, Lse, heads,
            )  # fmt: skip

    return main
