"""The consumers of `_walk`: scores, weights and sums of a tile's rows, 64 a warpgroup.

A warpgroup waits for another only for its turn to multiply, and each has its own rows from the
queries to the output. `which` is its number. All run one text: a text for each takes longer, as a
step of two of them is more than the multiprocessor keeps at hand.
"""

from dataclasses import dataclass
from typing import Any

import tilelang.language as T

from . import _tile
from ._union_steps import BLOCKS, KEY, MASK
from ._walk_ring import TILES, pass_by, phase, release, stage
from ._walk_steps import KEYS, first, partly, reach

FULL = T.GemmWarpPolicy.FullRow
TURN = 1  # named barriers: TURN + i, warpgroup i's turn to issue products
OWN = 4  # OWN + i: of warpgroup i by itself
LANES = 8  # columns after which the same threads have the next ones, in a product of wgmma


@dataclass
class Rows:
    """What the warpgroups hold of a tile's rows: fragments, but for the last."""

    scores: Any  # [rows, KEYS]
    p: Any  # [rows, KEYS]: the weights, rounded for the second product
    acc: Any  # [rows, D]
    row_max: Any  # [rows], of raw scores
    new_max: Any
    factor: Any
    row_sum: Any
    mass: Any  # [rows, LANES]: what each thread has of row_sum, added up at the end of a list
    step_mass: Any  # of a step; and before, of narrow heads, its largest scores
    where: Any  # [4], of each thread: the step, as the plan has it; see `look`


@T.macro
def allocate(w):
    scores = T.alloc_fragment((w.height, KEYS), "float32")
    p = T.alloc_fragment((w.height, KEYS), w.half)
    acc = T.alloc_fragment((w.height, w.dim), "float32")
    row_max = T.alloc_fragment((w.height,), "float32")
    new_max = T.alloc_fragment((w.height,), "float32")
    factor = T.alloc_fragment((w.height,), "float32")
    row_sum = T.alloc_fragment((w.height,), "float32")
    mass = T.alloc_fragment((w.height, LANES), "float32")
    step_mass = T.alloc_fragment((w.height, LANES), "float32")
    where = T.alloc_local((2 * BLOCKS,), "int32")
    return Rows(scores, p, acc, row_max, new_max, factor, row_sum, mass, step_mass, where)


def which():
    """The warpgroup's number among the consumers."""
    return T.get_thread_binding() // 128 - 1


@T.macro
def give_first_turn(w):
    """The last warpgroup gives the first one its turn: no products come before."""
    if which() == w.consumers - 1:
        T.named_barrier_arrive(TURN, 256)


@T.macro
def hide(rows, j0: int, j1: int, count, before: bool = False):
    """Of the scores in columns j0 to j1 - 1 only the first `count` stay; or the others, `before`.

    One bound at a time: TileLang's prover takes several times as long for two.
    """
    # In a variable, as the prover works on what `count` is made of wherever it stands.
    seen = T.alloc_var("int32", init=count)
    if (seen > 0) if before else (seen < j1 - j0):
        for i, j in T.Parallel(rows.scores.shape[0], j1 - j0):
            rows.scores[i, j0 + j] = T.if_then_else(
                (j >= seen) if before else (j < seen),
                rows.scores[i, j0 + j],
                -T.infinity("float32"),
            )


@T.macro
def mask(w, name: str, rows, tile):
    """Scores of keys that a row does not see become -inf; a warp's rows belong to one query."""
    mine = (T.get_thread_binding() // 32 - 4) * 16 // w.group
    t = tile * w.queries + mine
    if name == "union":
        for i in (0, 1):  # a tuple: known while tracing
            end = reach(w, name, t) - rows.where[KEY + i]
            chosen = (rows.where[MASK + i] >> mine) & 1
            block = i * w.block
            hide(rows, block, block + w.block, T.if_then_else(chosen > 0, end, 0))
    else:
        hide(rows, 0, KEYS, reach(w, name, t) - rows.where[0])
        if name == "window":
            hide(rows, 0, KEYS, t + 1 - w.window - rows.where[0], before=True)


@T.macro
def weigh(rows, scale):
    """Scores become weights; `factor` is for the sums of the steps before."""
    height = rows.scores.shape[0]
    T.copy(rows.row_max, rows.new_max)
    # Columns 8 apart are one thread's.
    pieces = T.reshape(rows.scores, (height, KEYS // LANES, LANES))
    if rows.acc.shape[1] <= 64:  # four chains instead of two: a wait where products are few
        T.reduce_max(pieces, rows.step_mass, dim=1)
        T.reduce_max(rows.step_mass, rows.new_max, dim=1, clear=False)
    else:
        T.reduce_max(rows.scores, rows.new_max, dim=1, clear=False)
    for i in T.Parallel(height):
        rows.factor[i] = T.exp2((rows.row_max[i] - rows.new_max[i]) * scale)
    for i, j in T.Parallel(height, KEYS):
        rows.scores[i, j] = T.exp2(rows.scores[i, j] * scale - rows.new_max[i] * scale)
    T.reduce_sum(pieces, rows.step_mass, dim=1)
    for i, j in T.Parallel(height, LANES):
        rows.mass[i, j] = rows.mass[i, j] * rows.factor[i] + rows.step_mass[i, j]
    T.copy(rows.new_max, rows.row_max)


@T.macro
def look(w, name: str, rows, tile, n, h, b, Steps):
    """Which keys step n stands for; early, so that nobody waits for it later."""
    if name == "union":
        for i in T.vectorized(2 * BLOCKS):
            rows.where[i] = Steps[b, h, tile, n, i]
    else:
        rows.where[0] = first(w, name, tile) + n * KEYS


@T.macro
def hide_unseen(w, name: str, rows, tile, n, complete):
    unseen = partly(w, name, tile, n, rows.where[0], complete)
    # In a variable, as TileLang's prover works on what a condition is made of wherever it stands.
    some = T.alloc_var("int32", init=T.cast(unseen, "int32"))
    if some > 0:
        mask(w, name, rows, tile)


@T.macro
def multiply_keys(ring, rows, turn, s):
    """Start the scores of the step in stage s."""
    T.wgmma_gemm(
        ring.q[turn % TILES, :, :],
        ring.k[s, :, :],
        rows.scores,
        transpose_B=True,
        policy=FULL,
        clear_accum=True,
    )


@T.macro
def walk(w, name: str, ring, rows, turn, count, part, tile, h, b, Steps, complete, scale):
    """The tile's attention over a list, not yet divided by row_sum, into acc.

    `turn` numbers the CTA's tiles, `count` the steps before this list.
    """
    T.fill(rows.row_max, _tile.FLOOR)
    T.fill(rows.mass, 0)
    T.fill(rows.acc, 0)
    if part.count > 0:
        here = T.alloc_var("int32", init=part.at(0))
        before = T.alloc_var("int32")
        s_first = stage(w, count + here)
        if part.passes:
            pass_by(w, ring.k_full, ring.k_empty, count, 0, here)
            pass_by(w, ring.v_full, ring.v_empty, count, 0, here)
        look(w, name, rows, tile, here, h, b, Steps)
        T.mbarrier_wait_parity(ring.k_full[s_first], phase(w, count + here))
        multiply_keys(ring, rows, turn, s_first)
        T.wait_wgmma(0)
        release(ring.k_empty, s_first)
        hide_unseen(w, name, rows, tile, here, complete)
        ahead = T.alloc_var("int32", init=part.at(T.min(1, part.count - 1)))
        look(w, name, rows, tile, ahead, h, b, Steps)
        weigh(rows, scale)
        T.copy(rows.scores, rows.p)
        for m in T.serial(1, part.count):
            before = here
            here = ahead
            s, s_before = stage(w, count + here), stage(w, count + before)
            if part.passes:
                pass_by(w, ring.k_full, ring.k_empty, count, before + 1, here)
            T.mbarrier_wait_parity(ring.k_full[s], phase(w, count + here))
            if part.in_turn(m):
                T.sync_threads(TURN + which(), 256)
            multiply_keys(ring, rows, turn, s)
            T.mbarrier_wait_parity(ring.v_full[s_before], phase(w, count + before))
            T.wgmma_gemm(rows.p, ring.v[s_before, :, :], rows.acc, policy=FULL)
            if part.in_turn(m):
                T.named_barrier_arrive(TURN + T.truncmod(which() + 1, w.consumers), 256)
            T.wait_wgmma(1)
            release(ring.k_empty, s)
            hide_unseen(w, name, rows, tile, here, complete)
            # What the next step is comes to be known under this one's weights.
            ahead = part.at(T.min(m + 1, part.count - 1))
            look(w, name, rows, tile, ahead, h, b, Steps)
            weigh(rows, scale)
            T.wait_wgmma(0)
            release(ring.v_empty, s_before)
            if part.passes:
                pass_by(w, ring.v_full, ring.v_empty, count, before + 1, here)
            for i, j in T.Parallel(w.height, w.dim):
                rows.acc[i, j] *= rows.factor[i]
            T.copy(rows.scores, rows.p)
        if name != "prefix":
            release(ring.q_empty, turn % TILES)
        if part.passes:
            pass_by(w, ring.k_full, ring.k_empty, count, here + 1, part.total)
        s_last = stage(w, count + here)
        T.mbarrier_wait_parity(ring.v_full[s_last], phase(w, count + here))
        T.wgmma_gemm(rows.p, ring.v[s_last, :, :], rows.acc, policy=FULL)
        T.wait_wgmma(0)
        release(ring.v_empty, s_last)
        if part.passes:
            pass_by(w, ring.v_full, ring.v_empty, count, here + 1, part.total)
    elif name == "union":
        release(ring.q_empty, turn % TILES)
        pass_by(w, ring.k_full, ring.k_empty, count, 0, part.total)
        pass_by(w, ring.v_full, ring.v_empty, count, 0, part.total)
    T.reduce_sum(rows.mass, rows.row_sum, dim=1)


@T.macro
def finish(w, rows, tile, h, b, Gate):
    """acc becomes the attention output, times the gate unless None."""
    for i in T.Parallel(w.height):
        rows.factor[i] = 1.0 / T.max(rows.row_sum[i], _tile.TINY)
    if Gate is not None:
        for i in T.Parallel(w.height):
            t = T.min(tile * w.queries + i // w.group, w.N - 1)
            rows.factor[i] *= T.cast(Gate[b, t, h * w.group + i % w.group], "float32")
    for i, j in T.Parallel(w.height, w.dim):
        rows.acc[i, j] *= rows.factor[i]


@T.macro
def stash(rows, out_s):
    """Put acc into out_s, once the warpgroup's rows there have been stored."""
    T.tma_store_wait(0)
    T.sync_threads(OWN + which(), 128)
    T.copy(rows.acc, out_s)


@T.macro
def save(w, rows, out_s, tile, h, b, Out):
    """Write acc to the tile's queries, through shared memory; who waits is the next tile."""
    stash(rows, out_s)
    T.fence_proxy_async()
    T.sync_threads(OWN + which(), 128)
    for i in T.unroll(w.share):
        mine = which() * w.share + i
        t = tile * w.queries + mine
        if t < w.N:
            for c in T.unroll(w.dim // 64):
                T.tma_copy(
                    out_s[mine * w.group : mine * w.group + w.group, c * 64 : c * 64 + 64],
                    Out[b, t, h * w.group : h * w.group + w.group, c * 64 : c * 64 + 64],
                    leader_scope_threads=128,
                )
