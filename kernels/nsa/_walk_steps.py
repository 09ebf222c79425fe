"""Which tiles a CTA of `_walk` takes in turn, and which keys the steps of a tile stand for."""

from dataclasses import dataclass
from typing import Any

import tilelang.language as T

from ._dense import seen
from ._union_steps import BLOCKS, WORK

KEYS = 128  # of a step
ROWS = 64  # of a tile, for each consumer warpgroup


@dataclass
class Walk:
    """The sizes of a program: known while tracing but for the last four."""

    half: str
    group: int  # query heads of a KV head
    dim: int
    stages: int  # of the ring; a power of two
    consumers: int  # warpgroups
    sms: int
    N: Any  # tokens
    H: Any  # KV heads
    W: Any  # compressed keys
    tiles: Any  # of a sequence and KV head
    block: int = KEYS // BLOCKS  # keys of a selected block
    causal: bool = True
    window: int = 0
    kernel: int = 1
    stride: int = 1

    @property
    def queries(self):
        """Of a tile."""
        return self.consumers * self.share

    @property
    def share(self):
        """Queries of a warpgroup."""
        return ROWS // self.group

    @property
    def height(self):
        """Rows of a tile."""
        return ROWS * self.consumers

    @property
    def everyone(self):
        """Threads that consume."""
        return 128 * self.consumers

    @property
    def registers(self):
        """Of a thread that produces, and of one that consumes."""
        return (40, 232) if self.consumers == 2 else (32, 160)


@T.macro
def read(w, Works, turn, cta, work):
    """The tile that a CTA takes in its `turn`."""
    row = turn * w.sms + cta
    for column in T.vectorized(WORK // 2):
        work[column] = Works[row, column]
    for column in T.vectorized(WORK // 2):
        work[WORK // 2 + column] = Works[row, WORK // 2 + column]


def reach(w, name, t):
    """Keys before this one are in sight of query t."""
    if name == "prefix":
        return T.min(seen(t, w.kernel, w.stride), w.W)
    return T.min(t + 1, w.N) if w.causal else w.N


def first(w, name, tile):
    """The first key of a dense list."""
    if name != "window":
        return 0
    return T.max(tile * w.queries + 1 - w.window, 0) // KEYS * KEYS


def steps(w, name, tile):
    """Length of the tile's dense list."""
    keys = reach(w, name, tile * w.queries + w.queries - 1) - first(w, name, tile)
    return (keys + KEYS - 1) // KEYS


def partly(w, name, tile, n, k0, complete):
    """Whether some query of the tile does not see all keys of step n."""
    if name == "union":
        return BLOCKS * (n + 1) > complete
    unseen = k0 + KEYS > reach(w, name, tile * w.queries)
    if name == "window":
        return unseen | (k0 < (tile + 1) * w.queries - w.window)
    return unseen


def turns(w, works, cta):
    """How many of the tiles a CTA takes: every one `sms` after its last."""
    return T.truncdiv(works - cta + w.sms - 1, w.sms)


@T.macro
def begin(w, at, cta):
    """The CTA's first tile; see `advance`."""
    at[0] = cta - w.sms
    at[1] = 0
    at[2] = 0
    advance(w, at)


@T.macro
def advance(w, at):
    """From the CTA's tile to its next: at = [tile from the end, KV head, batch]."""
    at[0] += w.sms
    if at[0] >= w.tiles:  # divisions take as long as a step: only where a head is done
        at[1] += T.truncdiv(at[0], w.tiles)
        at[0] = T.truncmod(at[0], w.tiles)
        if at[1] >= w.H:
            at[2] += T.truncdiv(at[1], w.H)
            at[1] = T.truncmod(at[1], w.H)
