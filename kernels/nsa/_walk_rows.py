"""The consumers of `_walk`: scores, weights and sums of a tile's rows, 64 a warpgroup."""

from dataclasses import dataclass
from typing import Any

import tilelang.language as T

from . import _tile
from ._walk_ring import phase, release, stage
from ._walk_steps import KEYS, partly, reach, start

FULL = T.GemmWarpPolicy.FullRow
BOTH, TURN = 1, 3  # named barriers; TURN + i: warpgroup i's turn to issue products


@dataclass
class Rows:
    """What the consumers hold of a tile's rows: fragments, but for the last."""

    scores: Any  # [rows, KEYS]
    p: Any  # [rows, KEYS]: the weights, rounded for the second product
    acc: Any  # [rows, D]
    row_max: Any  # [rows], of raw scores
    new_max: Any
    factor: Any
    row_sum: Any
    tile_sum: Any
    low: Any  # [rows]: keys of the step that a row sees
    high: Any
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
    tile_sum = T.alloc_fragment((w.height,), "float32")
    low = T.alloc_fragment((w.height,), "int32")
    high = T.alloc_fragment((w.height,), "int32")
    where = T.alloc_local((4,), "int32")
    return Rows(scores, p, acc, row_max, new_max, factor, row_sum, tile_sum, low, high, where)


@T.macro
def give_first_turn(w):
    """The last warpgroup gives the first one its turn: no products come before."""
    if T.get_thread_binding() >= w.everyone:
        T.named_barrier_arrive(TURN, 256)


@T.macro
def hide(w, rows, j0: int, count):
    """Of a block's scores, from column j0 on, only the first `count` stay."""
    # In a variable, as TileLang's prover works on what `count` is made of wherever it stands.
    left = T.alloc_var("int32", init=count)
    if left < w.block:
        for i, j in T.Parallel(w.height, w.block):
            rows.scores[i, j0 + j] = T.if_then_else(
                j < left, rows.scores[i, j0 + j], -T.infinity("float32")
            )


@T.macro
def mask(w, name: str, rows, tile, k0, k1, bits0, bits1):
    """Scores of keys that a row does not see become -inf."""
    if name == "union":
        # A warp's 16 rows belong to one query: mostly it sees all keys of a block or none.
        mine = (T.get_thread_binding() // 32 - 4) * 16 // w.group
        end = reach(w, name, tile * w.queries + mine)
        hide(w, rows, 0, T.if_then_else(((bits0 >> mine) & 1) > 0, end - k0, 0))
        if w.pair == 2:
            hide(w, rows, w.block, T.if_then_else(((bits1 >> mine) & 1) > 0, end - k1, 0))
    else:
        for i in T.Parallel(w.height):
            rows.low[i] = tile * w.queries + i // w.group + 1 - w.window - k0
            rows.high[i] = reach(w, name, tile * w.queries + i // w.group) - k0
        for i, j in T.Parallel(w.height, KEYS):
            visible = j < rows.high[i]
            if name == "window":
                visible = visible & (j >= rows.low[i])
            rows.scores[i, j] = T.if_then_else(visible, rows.scores[i, j], -T.infinity("float32"))


@T.macro
def weigh(rows, scale):
    """Scores become weights; `factor` is for the sums of the steps before."""
    height, keys = rows.scores.shape
    T.copy(rows.row_max, rows.new_max)
    T.reduce_max(rows.scores, rows.new_max, dim=1, clear=False)
    for i in T.Parallel(height):
        rows.factor[i] = T.exp2((rows.row_max[i] - rows.new_max[i]) * scale)
    for i, j in T.Parallel(height, keys):
        rows.scores[i, j] = T.exp2(rows.scores[i, j] * scale - rows.new_max[i] * scale)
    T.reduce_sum(rows.scores, rows.tile_sum, dim=1)
    for i in T.Parallel(height):
        rows.row_sum[i] = rows.row_sum[i] * rows.factor[i] + rows.tile_sum[i]
    T.copy(rows.new_max, rows.row_max)


@T.macro
def look(w, name: str, rows, tile, n, h, b, Ids, Masks):
    """Which keys step n stands for; early, so that nobody waits for it later."""
    rows.where[0] = start(w, name, Ids, b, h, tile, n)
    if name == "union":
        rows.where[1] = Ids[b, h, tile, w.pair * n + w.pair - 1]
        rows.where[2] = Masks[b, h, tile, w.pair * n]
        rows.where[3] = Masks[b, h, tile, w.pair * n + w.pair - 1]


@T.macro
def weights(w, name: str, rows, tile, n, h, b, Size, scale):
    if partly(w, name, Size, b, h, tile, n, rows.where[0]):
        mask(w, name, rows, tile, rows.where[0], rows.where[1], rows.where[2], rows.where[3])
    weigh(rows, scale)


@T.macro
def multiply_keys(ring, rows, s):
    """Start the scores of the step in stage s."""
    T.wgmma_gemm(
        ring.q, ring.k[s, :, :], rows.scores, transpose_B=True, policy=FULL, clear_accum=True
    )


@T.macro
def walk(w, name: str, ring, rows, count, total, tile, h, b, Ids, Masks, Size, scale):
    """The tile's attention over a list, not yet divided by row_sum, into acc."""
    which = T.get_thread_binding() // 128 - 1
    T.fill(rows.row_max, _tile.FLOOR)
    T.fill(rows.row_sum, 0)
    T.fill(rows.acc, 0)
    if total > 0:
        s0 = stage(w, count)
        look(w, name, rows, tile, 0, h, b, Ids, Masks)
        T.mbarrier_wait_parity(ring.k_full[s0], phase(w, count))
        multiply_keys(ring, rows, s0)
        T.wait_wgmma(0)
        release(ring.k_empty, s0)
        weights(w, name, rows, tile, 0, h, b, Size, scale)
        T.copy(rows.scores, rows.p)
        for n in T.serial(1, total):
            s = stage(w, count + n)
            s1 = stage(w, count + n - 1)  # of the step before
            look(w, name, rows, tile, n, h, b, Ids, Masks)
            T.mbarrier_wait_parity(ring.k_full[s], phase(w, count + n))
            T.sync_threads(TURN + which, 256)
            multiply_keys(ring, rows, s)
            T.mbarrier_wait_parity(ring.v_full[s1], phase(w, count + n - 1))
            T.wgmma_gemm(rows.p, ring.v[s1, :, :], rows.acc, policy=FULL)
            T.named_barrier_arrive(TURN + T.truncmod(which + 1, w.consumers), 256)
            T.wait_wgmma(1)
            release(ring.k_empty, s)
            weights(w, name, rows, tile, n, h, b, Size, scale)
            T.wait_wgmma(0)
            release(ring.v_empty, s1)
            for i, j in T.Parallel(w.height, w.dim):
                rows.acc[i, j] *= rows.factor[i]
            T.copy(rows.scores, rows.p)
        if name != "prefix":
            release(ring.q_empty, 0)
        s2 = stage(w, count + total - 1)
        T.mbarrier_wait_parity(ring.v_full[s2], phase(w, count + total - 1))
        T.wgmma_gemm(rows.p, ring.v[s2, :, :], rows.acc, policy=FULL)
        T.wait_wgmma(0)
        release(ring.v_empty, s2)
    elif name == "union":
        release(ring.q_empty, 0)


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
def save(w, rows, out_s, tile, h, b, Out):
    """Write acc to the tile's queries, through shared memory."""
    T.sync_threads(BOTH, w.everyone)  # nobody reads out_s any longer
    T.copy(rows.acc, out_s)
    T.sync_threads(BOTH, w.everyone)
    for i, j in T.Parallel(w.height, w.dim):
        if tile * w.queries + i // w.group < w.N:
            Out[b, tile * w.queries + i // w.group, h * w.group + i % w.group, j] = out_s[i, j]
