"""A stable counting sort of the (token, choice) pairs by expert, on the device.

It yields the metadata of the `routed` contract, for tiles of `block_token` rows, and
`pair_row[t, k]`, the tile-space row of token t's k-th choice. No atomics: an expert's rows stand
in token order whatever the scheduling, so results repeat bit for bit. No launch depends on a
value, so the host never waits and the whole may be captured in a CUDA graph.
"""

import tilelang.language as T

from ..common.dialect import Dialect, program
from ._router import choose_experts, padded_experts

BUNCH = 16  # experts
AHEAD = 8  # loads of a thread under way
VECTOR = 4  # int32 of one load


def _whole_tiles(rows, block_token: int):
    return T.truncdiv(rows + block_token - 1, block_token) * block_token


@T.macro
def _number(D, taken, parts: int):
    """taken[i, j] becomes how many of tokens 0..i chose expert j.

    `parts` threads an expert, each with a stretch of tokens, and `parts * width` is the whole CTA:
    of a smaller fragment TileLang gives an element to several threads, and here one of them would
    read what another has already overwritten.
    """
    block_t, width = taken.shape
    so_far = D.alloc_fragment((parts, width), "int16")
    sums = D.alloc_shared((parts, width), "int16")
    T.clear(so_far)
    for p, j in D.parallel(parts, width):
        for i in T.unroll(block_t // parts):
            so_far[p, j] += taken[p * (block_t // parts) + i, j]
    T.copy(so_far, sums)
    T.clear(so_far)
    for p, j in D.parallel(parts, width):
        for q in T.serial(parts):
            if q < p:
                so_far[p, j] += sums[q, j]
    for p, j in D.parallel(parts, width):
        for i in T.unroll(block_t // parts):  # a chain through registers: loads need not wait
            so_far[p, j] += taken[p * (block_t // parts) + i, j]
            taken[p * (block_t // parts) + i, j] = so_far[p, j]


def _parts(block_t: int, width: int, threads: int) -> int:
    """Threads that number the tokens of one expert."""
    parts = max(1, threads // width)
    assert block_t % parts == 0, "the CTA has more threads than tokens to number"
    return parts


@T.macro
def _starts(D, sizes, offsets, padded, block_token: int):
    """Exclusive sums of the sizes, plain and rounded up to whole tiles, all shared [width].

    Each expert adds up the bunches before its own and its predecessors there: some 20 steps in
    parallel.
    """
    (width,) = sizes.shape
    plain = D.alloc_fragment((width,), "int32")
    rounded = D.alloc_fragment((width,), "int32")
    plain_sum = D.alloc_fragment((width // BUNCH,), "int32")
    rounded_sum = D.alloc_fragment((width // BUNCH,), "int32")
    plain_sums = D.alloc_shared((width // BUNCH,), "int32")
    rounded_sums = D.alloc_shared((width // BUNCH,), "int32")
    # One by one: TileLang 0.1.9 takes no loop over buffers.
    T.clear(plain)
    T.clear(rounded)
    T.clear(plain_sum)
    T.clear(rounded_sum)
    for c in D.parallel(width // BUNCH):
        for q in T.serial(BUNCH):
            plain_sum[c] += sizes[c * BUNCH + q]
            rounded_sum[c] += _whole_tiles(sizes[c * BUNCH + q], block_token)
    T.copy(plain_sum, plain_sums)
    T.copy(rounded_sum, rounded_sums)
    for j in D.parallel(width):
        for c in T.serial(T.truncdiv(j, BUNCH)):
            plain[j] += plain_sums[c]
            rounded[j] += rounded_sums[c]
        for q in T.serial(T.truncmod(j, BUNCH)):
            plain[j] += sizes[j - T.truncmod(j, BUNCH) + q]
            rounded[j] += _whole_tiles(sizes[j - T.truncmod(j, BUNCH) + q], block_token)
    T.copy(plain, offsets)
    T.copy(rounded, padded)


@T.macro
def _publish(
    D, sizes, offsets, padded, group_sizes, group_offsets, group_padded_offsets, group_idx_for_bx,
    block_token: int,
):  # fmt: skip
    """Write the metadata of the `routed` contract; blocks past the last tile name expert E-1."""
    n_experts = group_sizes.shape[0]
    blocks = group_idx_for_bx.shape[0]
    for j in D.parallel(n_experts):
        group_sizes[j] = sizes[j]
        group_offsets[j] = offsets[j]
        group_padded_offsets[j] = padded[j]
        first = T.truncdiv(padded[j], block_token)
        tiles = T.truncdiv(sizes[j] + block_token - 1, block_token)
        for b in T.serial(T.if_then_else(j == n_experts - 1, blocks - first, tiles)):
            group_idx_for_bx[first + b] = j


@program(writes=(
    "weights", "pair_row", "source_row", "group_sizes", "group_offsets", "group_padded_offsets",
    "group_idx_for_bx",
))  # fmt: skip
def select(
    D: Dialect, *, n_experts: int, top_k: int, slices: int, block_token: int, every: bool,
    block_t: int, threads: int,
):  # fmt: skip
    """Top-k and the whole sort in one CTA, for at most `block_t` tokens.

    With `every`, an expert that any token chose gets all tokens as its rows, in token order and
    starting at row 0 of the input (`group_offsets` is 0). With few tokens its tile has room for
    them anyway, and rows that need no gathering can be loaded as one block.
    """
    tokens = T.dynamic("tokens")
    blocks, slots = T.dynamic("blocks"), T.dynamic("slots")
    width = padded_experts(n_experts)
    parts = _parts(block_t, width, threads)

    @T.prim_func
    def moe_select(
        logits: T.Tensor((slices, tokens, n_experts), "float32"),
        weights: T.Tensor((tokens, top_k), "float32"),
        pair_row: T.Tensor((tokens, top_k), "int32"),
        source_row: T.Tensor((slots,), "int32"),
        group_sizes: T.Tensor((n_experts,), "int32"),
        group_offsets: T.Tensor((n_experts,), "int32"),
        group_padded_offsets: T.Tensor((n_experts,), "int32"),
        group_idx_for_bx: T.Tensor((blocks,), "int32"),
    ):
        with D.kernel(1, threads=threads) as chunk:
            probs = D.alloc_fragment((block_t, width), "float32")
            ids = D.alloc_shared((block_t, top_k), "int32")
            best = D.alloc_shared((block_t, top_k), "float32")
            taken = D.alloc_shared((block_t, width), "int16")
            sizes = D.alloc_shared((width,), "int32")
            offsets = D.alloc_shared((width,), "int32")
            padded = D.alloc_shared((width,), "int32")

            D.follow()
            choose_experts(D, logits, chunk, probs, ids, best, taken, tokens, n_experts, top_k)
            _number(D, taken, parts)
            for j in D.parallel(width):
                sizes[j] = taken[block_t - 1, j]
                if every:
                    sizes[j] = T.if_then_else(sizes[j] > 0, tokens, 0)
            _starts(D, sizes, offsets, padded, block_token)
            if every:
                T.clear(offsets)
            _publish(
                D, sizes, offsets, padded, group_sizes, group_offsets, group_padded_offsets,
                group_idx_for_bx, block_token,
            )  # fmt: skip
            for i, k in D.parallel(block_t, top_k):
                if i < tokens:
                    weights[i, k] = best[i, k]
                    if every:
                        pair_row[i, k] = padded[ids[i, k]] + i
                    else:
                        row = padded[ids[i, k]] + taken[i, ids[i, k]] - 1
                        pair_row[i, k] = row
                        source_row[row] = i

    return moe_select


@program(writes=("ids", "weights", "rank", "counts"))
def choose(D: Dialect, *, n_experts: int, top_k: int, slices: int, block_t: int, threads: int):
    """Top-k of many tokens; pairs are numbered per expert within each chunk of `block_t` tokens."""
    tokens, chunks = T.dynamic("tokens"), T.dynamic("chunks")
    width = padded_experts(n_experts)
    parts = _parts(block_t, width, threads)

    @T.prim_func
    def moe_choose(
        logits: T.Tensor((slices, tokens, n_experts), "float32"),
        ids: T.Tensor((tokens, top_k), "int32"),
        weights: T.Tensor((tokens, top_k), "float32"),
        rank: T.Tensor((tokens, top_k), "int32"),
        counts: T.Tensor((chunks, width), "int32"),
    ):
        with D.kernel(chunks, threads=threads) as chunk:
            probs = D.alloc_fragment((block_t, width), "float32")
            own = D.alloc_shared((block_t, top_k), "int32")
            best = D.alloc_shared((block_t, top_k), "float32")
            taken = D.alloc_shared((block_t, width), "int16")

            D.follow()
            choose_experts(D, logits, chunk, probs, own, best, taken, tokens, n_experts, top_k)
            _number(D, taken, parts)
            for j in D.parallel(width):
                counts[chunk, j] = taken[block_t - 1, j]
            for i, k in D.parallel(block_t, top_k):
                if chunk * block_t + i < tokens:
                    ids[chunk * block_t + i, k] = own[i, k]
                    weights[chunk * block_t + i, k] = best[i, k]
                    rank[chunk * block_t + i, k] = taken[i, own[i, k]] - 1

    return moe_choose


@T.macro
def _sum_chunks(D, counts, chunk, sizes, before, parts: int):
    """sizes[e] = pairs of expert e in all chunks, before[e] = those in chunks before `chunk`.

    Both shared [width]. Every CTA reads all counts, `parts` rows at a time and `AHEAD` times that
    under way; a launch that did it once for all would be waited for twice.
    """
    chunks, width = counts.shape
    every = D.alloc_fragment((parts, width), "int32")
    early = D.alloc_fragment((parts, width), "int32")
    every_part = D.alloc_shared((parts, width), "int32")
    early_part = D.alloc_shared((parts, width), "int32")
    size = D.alloc_fragment((width,), "int32")
    earlier = D.alloc_fragment((width,), "int32")
    T.clear(every)
    T.clear(early)
    T.clear(size)
    T.clear(earlier)
    for n in T.serial(T.ceildiv(chunks, parts * AHEAD)):
        for u in T.unroll(AHEAD):
            for p, j in D.parallel(parts, width):
                c = (n * AHEAD + u) * parts + p
                # Past the end the last chunk is read and not counted: no load waits for a branch.
                there = counts[T.min(c, chunks - 1), j]
                every[p, j] += T.if_then_else(c < chunks, there, 0)
                early[p, j] += T.if_then_else(c < chunk, there, 0)
    T.copy(every, every_part)
    T.copy(early, early_part)
    for j in D.parallel(width):
        for p in T.serial(parts):
            size[j] += every_part[p, j]
            earlier[j] += early_part[p, j]
    T.copy(size, sizes)
    T.copy(earlier, before)


@program(writes=(
    "pair_row", "source_row", "group_sizes", "group_offsets", "group_padded_offsets",
    "group_idx_for_bx",
))  # fmt: skip
def place(
    D: Dialect, *, n_experts: int, top_k: int, block_token: int, block_t: int, threads: int
):  # fmt: skip
    """Give every pair its row in tile space: its expert's start + earlier chunks' pairs + rank."""
    tokens, chunks = T.dynamic("tokens"), T.dynamic("chunks")
    blocks, slots = T.dynamic("blocks"), T.dynamic("slots")
    width = padded_experts(n_experts)
    parts = max(1, VECTOR * threads // width)

    @T.prim_func
    def moe_place(
        ids: T.Tensor((tokens, top_k), "int32"),
        rank: T.Tensor((tokens, top_k), "int32"),
        counts: T.Tensor((chunks, width), "int32"),
        pair_row: T.Tensor((tokens, top_k), "int32"),
        source_row: T.Tensor((slots,), "int32"),
        group_sizes: T.Tensor((n_experts,), "int32"),
        group_offsets: T.Tensor((n_experts,), "int32"),
        group_padded_offsets: T.Tensor((n_experts,), "int32"),
        group_idx_for_bx: T.Tensor((blocks,), "int32"),
    ):
        with D.kernel(chunks, threads=threads) as chunk:
            sizes = D.alloc_shared((width,), "int32")
            before = D.alloc_shared((width,), "int32")
            offsets = D.alloc_shared((width,), "int32")
            padded = D.alloc_shared((width,), "int32")
            pair_expert = D.alloc_fragment((block_t, top_k), "int32")
            pair_rank = D.alloc_fragment((block_t, top_k), "int32")
            D.follow()
            for i, k in D.parallel(block_t, top_k):  # on their way while chunks are added up
                pair_expert[i, k] = ids[T.min(chunk * block_t + i, tokens - 1), k]
                pair_rank[i, k] = rank[T.min(chunk * block_t + i, tokens - 1), k]
            _sum_chunks(D, counts, chunk, sizes, before, parts)
            _starts(D, sizes, offsets, padded, block_token)
            if chunk == 0:
                _publish(
                    D, sizes, offsets, padded, group_sizes, group_offsets, group_padded_offsets,
                    group_idx_for_bx, block_token,
                )  # fmt: skip
            for i, k in D.parallel(block_t, top_k):
                token = chunk * block_t + i
                if token < tokens:
                    e = pair_expert[i, k]
                    row = padded[e] + before[e] + pair_rank[i, k]
                    pair_row[token, k] = row
                    source_row[row] = token

    return moe_place
