"""Which tiles a CTA of `_walk` takes in turn, and which keys the steps of a tile stand for."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import tilelang.language as T

from ._dense import seen

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
    block: int = KEYS  # keys of a selected block
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
    def pair(self):
        """Blocks of a step."""
        return KEYS // self.block

    @property
    def height(self):
        """Rows of a tile."""
        return ROWS * self.consumers

    @property
    def everyone(self):
        """Threads that consume."""
        return 128 * self.consumers

    @property
    def parts(self):
        """The blocks of a step, to be looped over while tracing."""
        return tuple(range(self.pair))

    @property
    def registers(self):
        """Of a thread that produces, and of one that consumes."""
        return (40, 232) if self.consumers == 2 else (32, 160)


class Part(NamedTuple):
    """The steps of a tile that a warpgroup takes: all, or not those of the other one of two.

    Then those before `until` are both's, and they take them in turn; behind them a step of the
    first warpgroup alone and one of the second's alternate for as long as there are both.
    """

    count: Any
    until: Any = None
    which: Any = 0
    others: Any = 0
    """Steps that are the other warpgroup's alone."""

    @property
    def passes(self) -> bool:
        """Whether some steps may be the other warpgroup's."""
        return self.until is not None

    def at(self, m: Any) -> Any:
        """The m-th step."""
        if not self.passes:
            return m
        passed = T.min(m - self.until + self.which, self.others)
        return m + T.if_then_else(m >= self.until, passed, 0)

    def in_turn(self, m: Any) -> Any:
        """Whether the m-th step is taken in turn."""
        return m < self.until if self.passes else True

    @property
    def total(self) -> Any:
        """Steps of the tile."""
        return self.count + self.others


# Columns of the plan's list of tiles. Of which; how many blocks every query sees whole; and steps:
# of both halves of the queries, of the first half alone, and of the second.
TILE, HEAD, BATCH, COMPLETE, SHARED, FIRST, SECOND = range(7)
WORK = 8
# Of the steps that one half has alone, so many more than the other has. A warpgroup passes them by
# before it multiplies what it holds, so with four the other one may wait for a stage for ever.
MOST_MORE = 2


def part_of(work, which=0):
    """The steps of a listed tile that warpgroup `which` of two takes."""
    own = T.if_then_else(which == 0, work[FIRST], work[SECOND])
    return Part(work[SHARED] + own, work[SHARED], which, work[FIRST] + work[SECOND] - own)


@T.macro
def read(w, Works, turn, count, cta, work):
    """The tile that a CTA takes in its `turn`, of `count`; the last one again after it."""
    row = T.max(T.min(turn, count - 1), 0) * w.sms + cta
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
        return w.pair * n + w.pair > complete
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
