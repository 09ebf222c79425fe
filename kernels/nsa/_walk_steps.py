"""Which tiles a CTA of `_walk` takes in turn, and which keys the steps of a tile stand for."""

from dataclasses import dataclass
from typing import Any

import tilelang.language as T

from ._dense import seen

KEYS = 128  # of a step


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
    def height(self):
        """Rows of a tile."""
        return 64 * self.consumers

    @property
    def queries(self):
        """Of a tile."""
        return self.height // self.group

    @property
    def pair(self):
        """Blocks of a step."""
        return KEYS // self.block

    @property
    def everyone(self):
        """Threads that consume."""
        return 128 * self.consumers

    @property
    def registers(self):
        """Of a thread that produces, and of one that consumes."""
        return (40, 232) if self.consumers == 2 else (24, 160)


def steps_of(w, blocks):
    """Of a tile that walks so many selected blocks."""
    return (blocks + w.pair - 1) >> (w.pair.bit_length() - 1)


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


def start(w, name, Ids, b, h, tile, n, part=0):
    """First key of step n, or of its second block."""
    if name == "union":
        return Ids[b, h, tile, w.pair * n + part]
    return first(w, name, tile) + n * KEYS


def partly(w, name, Size, b, h, tile, n, k0):
    """Whether some query of the tile does not see all keys of step n."""
    if name == "union":
        return w.pair * n + w.pair > Size[b, h, tile, 0]
    unseen = k0 + KEYS > reach(w, name, tile * w.queries)
    if name == "window":
        return unseen | (k0 < (tile + 1) * w.queries - w.window)
    return unseen


def turns(w, works, cta):
    """How many of the tiles a CTA takes: every one `sms` after its last."""
    return T.truncdiv(works - cta + w.sms - 1, w.sms)


def place():
    """Variables for the tile that a CTA is at, with its KV head and batch."""
    return T.alloc_var("int32"), T.alloc_var("int32"), T.alloc_var("int32")


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
