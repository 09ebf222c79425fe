"""Tiles of keys and the online softmax over them, shared by every attention program of nsa.

Scores are in base 2: callers pass softmax_scale * LOG2E, and exp2 replaces exp. The running
maximum starts at a finite floor instead of -inf: a row that has seen no key yet then keeps the
weights exp2(-inf - FLOOR) = 0 rather than exp2(-inf + inf) = NaN, and its output is 0.
"""

import math
from dataclasses import dataclass
from typing import Any

import tilelang.language as T

from ..common.dialect import BY_ALL

# exp2 and / as single instructions: their 2 ulp are far below the rounding to half precision.
FAST_MATH = {**BY_ALL, "tl.enable_fast_math": True}

LOG2E = 1.4426950408889634
FLOOR = -1e30  # below every score that finite half-precision q and k can produce
TINY = 1e-30  # divisor in place of an empty sum: 0 / TINY = 0


def names_block(x, limit, block, there=None):
    """Whether x, an entry of a token's list, is a block with keys before key `limit`.

    there: what must hold besides, and before.
    """
    some = x >= 0 if there is None else there & (x >= 0)
    return some & (x < T.ceildiv(limit, block))


@dataclass
class State:
    """The running softmax of M rows: fragments of one program."""

    row_max: Any  # [M], so far
    new_max: Any  # [M], scratch of `absorb`
    row_sum: Any  # [M], of weights so far
    tile_sum: Any  # [M], scratch of `absorb`
    acc: Any  # [M, D], weights @ V so far


@T.macro
def allocate(D, rows, dim):
    """The State of `rows` rows. (Only what a macro assigns by name has a name in device code.)"""
    row_max = D.alloc_fragment((rows,), "float32")
    new_max = D.alloc_fragment((rows,), "float32")
    row_sum = D.alloc_fragment((rows,), "float32")
    tile_sum = D.alloc_fragment((rows,), "float32")
    acc = D.alloc_fragment((rows, dim), "float32")
    return State(row_max, new_max, row_sum, tile_sum, acc)


@T.macro
def clear(state):
    """Before the first tile: no key seen."""
    T.fill(state.row_max, FLOOR)
    T.fill(state.row_sum, 0)
    T.fill(state.acc, 0)


@T.macro
def absorb(D, state, scores):
    """Take in one tile: scores [M, N] (base 2, -inf where masked) become weights.

    What the state holds is rescaled to the new maximum; the caller then adds weights @ V to acc.
    """
    rows, keys = scores.shape
    dim = state.acc.shape[1]
    T.copy(state.row_max, state.new_max)
    D.reduce_max(scores, state.new_max, clear=False)
    for i, j in D.parallel(rows, keys):
        scores[i, j] = T.exp2(scores[i, j] - state.new_max[i])
    D.reduce_sum(scores, state.tile_sum)
    for i in D.parallel(rows):
        state.row_max[i] = T.exp2(state.row_max[i] - state.new_max[i])  # now the rescaling factor
        state.row_sum[i] = state.row_sum[i] * state.row_max[i] + state.tile_sum[i]
    for i, j in D.parallel(rows, dim):
        state.acc[i, j] *= state.row_max[i]
    T.copy(state.new_max, state.row_max)


@T.macro
def absorb_raw(D, state, scores, scale):
    """`absorb` for scores that are yet to be multiplied by `scale` > 0, as row_max then is too.

    The factor joins the subtraction of the maximum in one instruction.
    """
    rows, keys = scores.shape
    dim = state.acc.shape[1]
    T.copy(state.row_max, state.new_max)
    D.reduce_max(scores, state.new_max, clear=False)
    for i in D.parallel(rows):
        state.row_max[i] = T.exp2((state.row_max[i] - state.new_max[i]) * scale)
    for i, j in D.parallel(rows, keys):
        scores[i, j] = T.exp2(scores[i, j] * scale - state.new_max[i] * scale)
    D.reduce_sum(scores, state.tile_sum)
    for i in D.parallel(rows):
        state.row_sum[i] = state.row_sum[i] * state.row_max[i] + state.tile_sum[i]
    for i, j in D.parallel(rows, dim):
        state.acc[i, j] *= state.row_max[i]
    T.copy(state.new_max, state.row_max)


@T.macro
def finish(D, state):
    """After the last tile: acc becomes the attention output; 0 where no key was seen."""
    rows, dim = state.acc.shape
    for i, j in D.parallel(rows, dim):
        state.acc[i, j] /= T.max(state.row_sum[i], TINY)


def log_sum(state, i, scale=1.0):
    """Base-2 log-sum-exp of row i's scores; far below every score where no key was seen.

    scale: the one of `absorb_raw`, if that took the scores in.
    """
    return state.row_max[i] * scale + T.log2(T.max(state.row_sum[i], TINY))


def whole_passes(D, rows, dim, threads):
    """`rows` rounded up so that all threads have equal shares when they load [rows, dim].

    Only then are the loads 16 bytes wide.
    """
    if D.is_cpu:
        return rows
    share = threads * 8 // math.gcd(threads * 8, dim)  # rows
    return -(-rows // share) * share


@T.macro
def load(K, V, k_s, v_s, b, k0, h):
    """Keys and values from row k0 on into k_s, v_s [N, D]; rows past the last become 0.

    K, V: [B, T, H, D].
    """
    keys = k_s.shape[0]
    # The loop makes both one group of asynchronous copies. As two groups, TileLang 0.1.15 fails
    # to lower the drain of a pipeline whose length is dynamic.
    for _ in T.serial(1):
        T.copy(K[b, k0 : k0 + keys, h, :], k_s)
        T.copy(V[b, k0 : k0 + keys, h, :], v_s)
