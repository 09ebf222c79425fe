"""The parts of `_few`'s two programs: which tiles there are, and what happens to one."""

from typing import NamedTuple

import tilelang.language as T
from tilelang.layout import Fragment, make_swizzled_layout

from ._grouped import ceildiv
from ._hopper import (
    BLOCK_K,
    BOTH,
    GROUP,
    await_full,
    load,
    release,
    release_pair,
    turns,
)

CHUNK = 16  # blocks that one thread counts


@T.macro
def multiply(
    w, x, first_acc, second_acc, full, empty, count, steps: int, row: int, second: int,
    stages: int, pair: bool = False,
):  # fmt: skip
    """w[:, row:row+64] @ x.T and w[:, second:second+64] @ x.T over `steps` stages.

    The accumulators have as many columns as the tile has tokens.
    """
    width = first_acc.shape[1]
    T.clear(first_acc)
    T.clear(second_acc)
    for k in T.serial(steps):
        s = T.truncmod(count + k, stages)
        await_full(full, count + k, stages)
        T.wgmma_gemm(w[s, row : row + GROUP, :], x[s, 0:width, :], first_acc, transpose_B=True)
        T.wgmma_gemm(
            w[s, second : second + GROUP, :], x[s, 0:width, :], second_acc, transpose_B=True
        )
        T.wait_wgmma(0)
        if pair:
            release_pair(empty, count + k, stages)
        else:
            release(empty, count + k, stages)


@T.macro
def load_rows(x, start, wide, at, tile, s, full, narrow: int, mask=None):
    """The producer loads the tile's rows of `x`: all that `tile` has room for, or `narrow`."""
    block_t = tile.shape[1]
    if not narrow or wide:
        load(x[start : start + block_t, at : at + BLOCK_K], tile[s, :, :], full, s, mask)
    else:
        load(x[start : start + narrow, at : at + BLOCK_K], tile[s, 0:narrow, :], full, s, mask)


@T.macro
def _store_elements(acc, scale, out_tile, out, which: int, row, col, valid, own):
    """out[row + j, col + i] = scale[which, j] * acc[i, j] for j < valid, if there is a scale.

    A part of j at a time, through the two halves of out_tile. Where the tile has rows of `out` to
    itself (`own`), rows past the valid ones take what is in `acc`.
    """
    part = out_tile.shape[2]
    width = out.shape[1]
    for p in T.unroll(acc.shape[1] // part):
        if p * part < valid:
            # The part before the last has left its half of out_tile; at first all have.
            if p == 0:
                T.tma_store_wait(0)
            else:
                T.tma_store_wait(1)
            T.sync_threads(1 + which, 128)
            for i, j in T.Parallel(GROUP, part):
                if scale is None:
                    out_tile[which, p % 2, j, i] = acc[i, p * part + j]
                else:
                    out_tile[which, p % 2, j, i] = acc[i, p * part + j] * scale[which, p * part + j]
            T.fence_proxy_async()
            T.sync_threads(1 + which, 128)
            first = row + p * part
            if T.Or(own, (p + 1) * part <= valid):
                T.tma_copy(
                    out_tile[which, p % 2, :, :], out[first : first + part, col : col + GROUP]
                )
            else:
                for j, i in T.Parallel(part, GROUP):
                    if p * part + j < valid and col + i < width:
                        out[first + j, col + i] = out_tile[which, p % 2, j, i]


@T.macro
def _store_piece(p, acc, scale, turned, piece, out, which: int, row, col, valid, own):
    """Part p of `_store_matrices`, through `piece`."""
    part = piece.shape[0]
    width = out.shape[1]
    if p * part < valid:
        # The part before the last has left its piece; at first all have.
        if p == 0:
            T.tma_store_wait(0)
        else:
            T.tma_store_wait(1)
        T.sync_threads(1 + which, 128)
        for i, j in T.Parallel(GROUP, part):
            if scale is None:
                turned[j, i] = acc[i, p * part + j]
            else:
                turned[j, i] = acc[i, p * part + j] * scale[which, p * part + j]
        T.copy(turned, piece)
        T.fence_proxy_async()
        T.sync_threads(1 + which, 128)
        start = row + p * part
        if T.Or(own, (p + 1) * part <= valid):
            T.tma_copy(piece, out[start : start + part, col : col + GROUP])
        else:
            for j, i in T.Parallel(part, GROUP):
                if p * part + j < valid and col + i < width:
                    out[start + j, col + i] = piece[j, i]


@T.macro
def _store_matrices(acc, scale, pieces, out, which: int, row, col, valid, own):
    """The same by stmatrix, which transposes 8 x 8 elements at a time on their way to memory."""
    part = pieces[0].shape[0]
    turned = T.alloc_fragment((part, GROUP), pieces[0].dtype)
    T.annotate_layout({turned: _turned_layout(int(part))})
    parts = int(acc.shape[1]) // int(part)
    if parts % 2:
        _store_piece(0, acc, scale, turned, pieces[1], out, which, row, col, valid, own)
    for h in T.unroll(parts // 2):
        p = 2 * h + parts % 2
        _store_piece(p, acc, scale, turned, pieces[0], out, which, row, col, valid, own)
        _store_piece(p + 1, acc, scale, turned, pieces[1], out, which, row, col, valid, own)


def _turned_layout(part: int):
    """Where a consumer's threads hold [part, 64] elements, transposed, for stmatrix.

    As wgmma leaves its result: a warp has 16 of the 64, a thread two neighbours of every 8 x 8.
    """
    return Fragment(
        (part, GROUP),
        forward_thread_fn=lambda j, i: (i // 16) * 32 + (i % 8) * 4 + (j % 8) // 2,
        forward_index_fn=lambda j, i: j % 2 + 2 * ((i % 16) // 8) + 4 * (j // 8),
    )


def store(acc, scale, out_tile, out, which: int, row, col, valid, own):
    """`_store_elements`, or `_store_matrices` where the staging is made for it."""
    if isinstance(out_tile, tuple):
        return _store_matrices(acc, scale, out_tile[which], out, which, row, col, valid, own)
    return _store_elements(acc, scale, out_tile, out, which, row, col, valid, own)


def staging(groups: int, part: int, dtype: str, matrices: bool):
    """Shared memory that results leave through: two pieces for each consumer."""
    if not matrices:
        return T.alloc_shared((groups, 2, part, GROUP), dtype)
    pieces = tuple(
        tuple(T.alloc_shared((part, GROUP), dtype) for _ in range(2)) for _ in range(groups)
    )
    T.annotate_layout({p: make_swizzled_layout(p) for two in pieces for p in two})
    return pieces


class Share(NamedTuple):
    """Which tiles a CTA takes: block by block, all columns of a block side by side.

    In pairs (`pair`), the two CTAs of a cluster take neighbouring columns of the same block.
    """

    sms: int
    tiles_n: int
    pair: bool

    @property
    def span(self) -> int:
        return 2 if self.pair else 1

    @property
    def mask(self):
        return BOTH if self.pair else None

    def turns(self, cta, blocks):
        if self.pair:
            return turns(T.truncdiv(cta, 2), self.sms // 2, blocks * (self.tiles_n // 2))
        return turns(cta, self.sms, blocks * self.tiles_n)

    def block(self, cta, turn):
        """Number of the block in the list of those with rows."""
        if self.pair:
            return T.truncdiv(T.truncdiv(cta, 2) + turn * (self.sms // 2), self.tiles_n // 2)
        return T.truncdiv(cta + turn * self.sms, self.tiles_n)

    def column(self, cta, turn):
        """Number of the tile within the block."""
        if self.pair:
            at = T.truncmod(T.truncdiv(cta, 2) + turn * (self.sms // 2), self.tiles_n // 2)
            return at * 2 + T.truncmod(cta, 2)
        return T.truncmod(cta + turn * self.sms, self.tiles_n)

    def empty(self, warps: int, stages: int):
        """Barriers by which consumer warps give stages back, in pairs to both CTAs."""
        if self.pair:
            return T.alloc_cluster_barrier([2 * warps] * stages)
        return T.alloc_barrier([warps] * stages)


def order_of_k(k, cta, steps: int, turned: bool):
    """Step k of a tile; `turned`, CTAs start at different ones."""
    return T.truncmod(k + T.truncmod(cta, 16) * (steps // 16), steps) if turned else k


def has_room(block_t: int, n_blocks: int, weighted: bool) -> bool:
    """Whether a table of the blocks fits beside the stages (few rows mean few blocks, mostly)."""
    return n_blocks <= (1024 if block_t <= 160 else 256 if weighted else 512)


def tile_of(b, e, sizes, padded, block_token: int, block_t: int, narrow: int):
    """(first row within expert e, rows) of the tile that its block b stands for.

    An expert's rows are dealt out evenly to as few tiles as can hold them, so the `narrow` ones
    may do.
    """
    width = block_t
    if narrow:
        tiles = T.max(T.truncdiv(sizes[e] + block_t - 1, block_t), 1)
        even = T.truncdiv(sizes[e] + tiles - 1, tiles)
        width = T.if_then_else(even <= narrow, narrow, block_t)
    return T.truncdiv(b * block_token - padded[e], block_token) * width, width


@T.macro
def list_blocks(
    order, found, owner, sizes, padded, blocks, block_token: int, block_t: int, narrow: int,
    threads: int,
):  # fmt: skip
    """order = the blocks whose tiles have rows, in order; found[0] = how many there are."""
    (room,) = order.shape
    sums = T.alloc_shared((room // CHUNK,), "int32", scope="shared")
    place = T.alloc_local((ceildiv(room, threads),), "int32")
    for turn in T.serial(ceildiv(room, threads)):
        b = turn * threads + T.get_thread_binding()
        if b < room:
            order[b] = 0
            if b < blocks:
                e = owner[b]
                row, _ = tile_of(b, e, sizes, padded, block_token, block_t, narrow)
                order[b] = T.if_then_else(sizes[e] > row, 1, 0)
    T.sync_threads()
    if T.get_thread_binding() < room // CHUNK:
        sums[T.get_thread_binding()] = 0
        for q in T.serial(CHUNK):
            sums[T.get_thread_binding()] += order[T.get_thread_binding() * CHUNK + q]
    T.sync_threads()
    for turn in T.unroll(ceildiv(room, threads)):
        b = turn * threads + T.get_thread_binding()
        place[turn] = -1
        if b < blocks and order[T.min(b, room - 1)] > 0:
            place[turn] = 0
            for q in T.serial(T.truncdiv(b, CHUNK)):
                place[turn] += sums[q]
            for q in T.serial(T.truncmod(b, CHUNK)):
                place[turn] += order[b - T.truncmod(b, CHUNK) + q]
    if T.get_thread_binding() == 0:
        found[0] = 0
        for q in T.serial(room // CHUNK):
            found[0] += sums[q]
    T.sync_threads()
    for turn in T.unroll(ceildiv(room, threads)):
        if place[turn] >= 0:
            order[place[turn]] = turn * threads + T.get_thread_binding()
    T.sync_threads()
