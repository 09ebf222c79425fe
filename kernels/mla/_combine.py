"""Splits of the keys: how many there should be, and how their outputs become one."""

import functools
import math

import tilelang.language as T

LOG2E = math.log2(math.e)
# "No key seen yet" in the running maximum. Finite, so that the difference of two of them is 0 and
# not NaN; far below any score.
LOWEST = -1e30
MAX_SPLITS = 128  # of which a combining CTA keeps the weights in shared memory
ROOM = 4  # columns behind a part's row: its largest score, its sum of weights; keeps 16-byte rows


@functools.lru_cache(maxsize=4096)
def choose_splits(blocks, tiles, sms, *, per_sm, start_tiles, merge_tiles, max_splits):
    """The number of splits that makes a modelled run shortest; the smaller one of equals.

    The model counts in tiles, the time a CTA takes for one. `blocks` (sequences x row blocks)
    times the splits are CTAs; `per_sm` of them share each of `sms` processors, so that they run in
    waves. A CTA takes `start_tiles` for loading queries, filling its pipeline and writing its
    output, and one for each of its share of `tiles`. Combining takes `merge_tiles` a split.
    """

    def cost(splits):
        waves = math.ceil(blocks * splits / (sms * per_sm))
        merge = merge_tiles * splits if splits > 1 else 0
        return waves * (start_tiles + math.ceil(tiles / splits)) + merge

    return min(range(1, min(max_splits, MAX_SPLITS, max(tiles, 1)) + 1), key=cost)


def share(tiles, split, splits):
    """How many of the tiles split, split + splits, split + 2 * splits, ... lie below `tiles`."""
    return T.truncdiv(tiles - split + splits - 1, splits)


def log_sum_exp(top, total):
    """Of a row, from its largest score in base 2 and its sum of weights; -inf where no key was."""
    return T.if_then_else(total > 0, (top + T.log2(total)) / LOG2E, -T.infinity("float32"))


def column_blocks(dim, block_d):
    """How many CTAs combine a row of `dim` columns, `block_d` each.

    Raises:
        ValueError: they would leave columns out.
    """
    if block_d <= 0 or dim % block_d:
        raise ValueError(f"block_d must divide the {dim} columns of the output, not {block_d}")
    return dim // block_d


@T.macro
def merge(
    D, Part, batch, rows, splits, block_h, dim, block_d, threads, groups, unroll, Out, Lse, heads,
    early,
):  # fmt: skip
    """The launch that combines the parts of all rows: see `merge_parts`. `early`: it starts under
    the launch that makes them, and lets the next one start."""
    per_row = column_blocks(dim, block_d)
    with D.kernel(per_row, rows, batch, threads=threads) as (column, row, b):
        if early:
            D.follow()
        x = T.truncdiv(row, block_h)
        at = T.truncmod(row, block_h) * (dim + ROOM)
        merge_parts(
            D, in_splits(Part, b, x, at), b, row, splits, MAX_SPLITS, column * block_d, dim,
            block_d, groups, unroll, Out, Lse, heads,
        )  # fmt: skip


def in_splits(Part, b, x, at):
    """The row that begins at `at` of row block x, for `merge_parts`."""
    return lambda s, d: Part[b, s, x, at + d]


@T.macro
def merge_parts(
    D, part, b, row, splits, most, column0, dim, block_d, groups, unroll, Out, Lse, heads
):
    """Add up the splits' parts of one row, each weighed by its largest score.

    `part(s, d)` is column d of the row in split s, fp32: `dim` sums that are not normalised, then
    the largest score in base 2 and the sum of weights -> columns `column0` to `column0 + block_d`
    of Out [B, rows, dim], and Lse [B, Hq, Sq] unless None. There are at most `most` splits, maybe
    none. `groups` splits are loaded side by side, `unroll` times over: the loads' latency is all
    there is to hide.
    """
    if groups == 1:
        found = merge_in_turn(D, part, b, row, splits, column0, dim, block_d, unroll, Out)
    else:
        found = merge_side_by_side(
            D, part, b, row, splits, most, column0, dim, block_d, groups, unroll, Out
        )
    if Lse is not None:  # noqa: SIM102  (known while tracing; the next is not)
        if column0 == 0:
            Lse[b, T.truncmod(row, heads), T.truncdiv(row, heads)] = log_sum_exp(*found)


@T.macro
def merge_in_turn(D, part, b, row, splits, column0, dim, block_d, unroll, Out):
    """For few splits: every thread finds the weights itself and adds up its columns of all splits,
    `unroll` at a time. Nothing goes through other threads, so that one trip to memory is all.

    Returns the row's largest score and its sum of weights.
    """
    loaded = D.alloc_fragment((unroll, block_d), "float32")
    sums = D.alloc_fragment((block_d,), "float32")
    top = T.alloc_local((unroll,), "float32")
    mass = T.alloc_local((unroll,), "float32")
    # So far: the largest score, the sum of weights, and what the next ones make of both.
    so_far = T.alloc_local((3,), "float32")
    so_far[0] = LOWEST
    so_far[1] = 0
    T.clear(sums)
    for s0 in T.serial(T.ceildiv(splits, unroll)):
        for u in T.unroll(unroll):
            s = T.min(s0 * unroll + u, splits - 1)
            top[u] = part(s, dim)
            mass[u] = part(s, dim + 1)
        for u, d in D.parallel(unroll, block_d):
            s = T.min(s0 * unroll + u, splits - 1)
            loaded[u, d] = part(s, column0 + d)
        so_far[2] = so_far[0]
        for u in T.unroll(unroll):
            so_far[2] = T.max(so_far[2], top[u])
        fade = T.exp2(so_far[0] - so_far[2])
        so_far[1] = so_far[1] * fade
        for d in D.parallel(block_d):
            sums[d] = sums[d] * fade
        so_far[0] = so_far[2]
        for u in T.unroll(unroll):
            # Splits past the last weigh nothing.
            top[u] = T.if_then_else(s0 * unroll + u < splits, T.exp2(top[u] - so_far[0]), 0)
            so_far[1] += top[u] * mass[u]
            for d in D.parallel(block_d):
                sums[d] += top[u] * loaded[u, d]
    for d in D.parallel(block_d):
        sums[d] = T.if_then_else(so_far[1] > 0, sums[d] / so_far[1], 0)
    T.copy(sums, Out[b, row, column0 : column0 + block_d])
    return so_far[0], so_far[1]


@T.macro
def merge_side_by_side(D, part, b, row, splits, most, column0, dim, block_d, groups, unroll, Out):
    """For many splits: groups of threads take turns, and find the weights together.

    Returns the row's largest score and its sum of weights.
    """
    loaded = D.alloc_fragment((unroll, groups, block_d), "float32")
    top = D.alloc_fragment((1, most), "float32")
    mass = D.alloc_fragment((1, most), "float32")
    peak = D.alloc_fragment((1,), "float32")
    total = D.alloc_fragment((1,), "float32")
    weight = D.alloc_shared((most,), "float32")
    sums = D.alloc_fragment((groups, block_d), "float32")
    across = D.alloc_shared((groups, block_d), "float32")
    out = D.alloc_fragment((block_d,), "float32")
    for i, s in D.parallel(1, most):
        top[i, s] = T.if_then_else(s < splits, part(s, dim), LOWEST)
        mass[i, s] = T.if_then_else(s < splits, part(s, dim + 1), 0)
    # Under way while the weights are found. No guard, so that all loads go out at once: splits past
    # the last weigh nothing.
    for u, g, d in D.parallel(unroll, groups, block_d):
        loaded[u, g, d] = part(T.min(u * groups + g, splits - 1), column0 + d)
    D.reduce_max(top, peak)
    for i, s in D.parallel(1, most):
        top[i, s] = T.exp2(top[i, s] - peak[i])
        mass[i, s] = mass[i, s] * top[i, s]
    D.reduce_sum(mass, total)
    for i, s in D.parallel(1, most):
        weight[s] = top[i, s]
    T.clear(sums)
    for s0 in T.serial(T.ceildiv(splits, groups * unroll)):
        for u in T.unroll(unroll):
            for g, d in D.parallel(groups, block_d):
                s = (s0 * unroll + u) * groups + g
                sums[g, d] += loaded[u, g, d] * weight[T.min(s, most - 1)]
        if (s0 + 1) * unroll * groups < splits:
            for u, g, d in D.parallel(unroll, groups, block_d):
                s = ((s0 + 1) * unroll + u) * groups + g
                loaded[u, g, d] = part(T.min(s, splits - 1), column0 + d)
    for g, d in D.parallel(groups, block_d):
        across[g, d] = sums[g, d]
    for d in D.parallel(block_d):
        out[d] = across[0, d]
        for g in range(1, groups):
            out[d] += across[g, d]
        out[d] = T.if_then_else(total[0] > 0, out[d] / total[0], 0)
    T.copy(out, Out[b, row, column0 : column0 + block_d])
    return peak[0], total[0]
