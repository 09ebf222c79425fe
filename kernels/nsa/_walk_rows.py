"""The consumers of `_walk`: scores, weights and sums of a tile's rows, 64 a warpgroup.

A warpgroup waits for another only for its turn to multiply, and each has its own rows from the
queries to the output. `which` is its number. All run one text: a text for each takes longer, as a
step of two of them is more than the multiprocessor keeps at hand.
"""

from dataclasses import dataclass
from typing import Any

import tilelang.language as T

from . import _tile
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
    step_mass: Any
    where: Any  # [4], of each thread: first keys and masks of the step's blocks; see `look`


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
    where = T.alloc_local((4,), "int32")
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
        for part in w.parts:
            end = reach(w, name, t) - rows.where[part]
            chosen = (rows.where[2 + part] >> mine) & 1
            block = part * w.block
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
    T.reduce_max(rows.scores, rows.new_max, dim=1, clear=False)
    for i in T.Parallel(height):
        rows.factor[i] = T.exp2((rows.row_max[i] - rows.new_max[i]) * scale)
    for i, j in T.Parallel(height, KEYS):
        rows.scores[i, j] = T.exp2(rows.scores[i, j] * scale - rows.new_max[i] * scale)
    # Columns 8 apart are one thread's, so no thread waits for another.
    T.reduce_sum(T.reshape(rows.scores, (height, KEYS // LANES, LANES)), rows.step_mass, dim=1)
    for i, j in T.Parallel(height, LANES):
        rows.mass[i, j] = rows.mass[i, j] * rows.factor[i] + rows.step_mass[i, j]
    T.copy(rows.new_max, rows.row_max)


@T.macro
def look(w, name: str, rows, tile, n, h, b, Ids, Masks):
    """Which keys step n stands for; early, so that nobody waits for it later."""
    if name == "union":
        for part in w.parts:
            rows.where[part] = Ids[b, h, tile, w.pair * n + part]
            rows.where[2 + part] = Masks[b, h, tile, w.pair * n + part]
    else:
        rows.where[0] = first(w, name, tile) + n * KEYS


@T.macro
def weights(w, name: str, rows, tile, n, complete, scale):
    unseen = partly(w, name, tile, n, rows.where[0], complete)
    # In a variable, as TileLang's prover works on what a condition is made of wherever it stands.
    some = T.alloc_var("int32", init=T.cast(unseen, "int32"))
    if some > 0:
        mask(w, name, rows, tile)
    weigh(rows, scale)


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
def walk(w, name: str, ring, rows, turn, count, part, tile, h, b, Ids, Masks, complete, scale):
    """The tile's attention over a list, not yet divided by row_sum, into acc.

    `turn` numbers the CTA's tiles, `count` the steps before this list.
    """
    T.fill(rows.row_max, _tile.FLOOR)
    T.fill(rows.mass, 0)
    T.fill(rows.acc, 0)
    if part.count > 0:
        n0 = part.at(0)
        s0 = stage(w, count + n0)
        if part.passes:
            pass_by(w, ring.k_full, ring.k_empty, count, 0, n0)
            pass_by(w, ring.v_full, ring.v_empty, count, 0, n0)
        look(w, name, rows, tile, n0, h, b, Ids, Masks)
        T.mbarrier_wait_parity(ring.k_full[s0], phase(w, count + n0))
        multiply_keys(ring, rows, turn, s0)
        T.wait_wgmma(0)
        release(ring.k_empty, s0)
        weights(w, name, rows, tile, n0, complete, scale)
        T.copy(rows.scores, rows.p)
        for m in T.serial(1, part.count):
            n = part.at(m)
            s = stage(w, count + n)
            n1 = part.at(m - 1)  # the step before
            s1 = stage(w, count + n1)
            look(w, name, rows, tile, n, h, b, Ids, Masks)
            if part.passes:
                pass_by(w, ring.k_full, ring.k_empty, count, n1 + 1, n)
            T.mbarrier_wait_parity(ring.k_full[s], phase(w, count + n))
            if part.in_turn(m):
                T.sync_threads(TURN + which(), 256)
            multiply_keys(ring, rows, turn, s)
            T.mbarrier_wait_parity(ring.v_full[s1], phase(w, count + n1))
            T.wgmma_gemm(rows.p, ring.v[s1, :, :], rows.acc, policy=FULL)
            if part.in_turn(m):
                T.named_barrier_arrive(TURN + T.truncmod(which() + 1, w.consumers), 256)
            T.wait_wgmma(1)
            release(ring.k_empty, s)
            weights(w, name, rows, tile, n, complete, scale)
            T.wait_wgmma(0)
            release(ring.v_empty, s1)
            if part.passes:
                pass_by(w, ring.v_full, ring.v_empty, count, n1 + 1, n)
            for i, j in T.Parallel(w.height, w.dim):
                rows.acc[i, j] *= rows.factor[i]
            T.copy(rows.scores, rows.p)
        if name != "prefix":
            release(ring.q_empty, turn % TILES)
        n2 = part.at(part.count - 1)
        s2 = stage(w, count + n2)
        if part.passes:
            pass_by(w, ring.k_full, ring.k_empty, count, n2 + 1, part.total)
        T.mbarrier_wait_parity(ring.v_full[s2], phase(w, count + n2))
        T.wgmma_gemm(rows.p, ring.v[s2, :, :], rows.acc, policy=FULL)
        T.wait_wgmma(0)
        release(ring.v_empty, s2)
        if part.passes:
            pass_by(w, ring.v_full, ring.v_empty, count, n2 + 1, part.total)
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
