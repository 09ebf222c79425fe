"""What the warpgroups of `_paired` share, hold and are told to do: memory, barriers, registers."""

from dataclasses import dataclass
from typing import Any

import tilelang.language as T

BLOCK_H = 64
BLOCK_N = 64
GROUP = 128  # threads of a warpgroup
LOADERS = 32
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
    weights: Any  # the same, as the own ones are multiplied
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
    return t, (sums(dim // 2, dtype), sums(dim // 2, dtype))


@T.macro
def sums(half, dtype):
    scores = T.alloc_fragment((BLOCK_H, BLOCK_N), "float32")
    weights = T.alloc_fragment((BLOCK_H, BLOCK_N), dtype)
    acc = T.alloc_fragment((BLOCK_H, half), "float32")
    tile_sum = T.alloc_fragment((BLOCK_H,), "float32")
    total = T.alloc_fragment((BLOCK_H,), "float32")
    top = T.alloc_fragment((BLOCK_H,), "float32")
    before = T.alloc_fragment((BLOCK_H,), "float32")
    fade = T.alloc_fragment((BLOCK_H,), "float32")
    seen = T.alloc_fragment((BLOCK_H,), "int32")
    return Sums(scores, weights, acc, tile_sum, total, top, before, fade, seen)
