"""The parts of `_few`'s two programs: which tiles there are, and what happens to one."""

from typing import Any, NamedTuple

import tilelang.language as T
from tilelang.layout import Fragment, make_swizzled_layout

from ._grouped import ceildiv
from ._hopper import BLOCK_K, GROUP, Team, await_full, load, release, release_pair, turns

CHUNK = 16  # blocks that one thread counts


class Walk(NamedTuple):
    """Pieces of work and who takes which: a block's tile of tokens, or two, by a tile of weights.

    Block by block, all tiles of weights of one before the next.
    """

    team: Team
    tiles_n: int  # tiles of weights
    block_token: int
    block_t: int
    narrow: int
    sizes: Any  # [experts], group_sizes
    padded: Any  # [experts], group_padded_offsets
    owner: Any  # [blocks], group_idx_for_bx
    order: Any  # [room]; `list_blocks` fills it
    found: Any  # [1], likewise

    @property
    def items(self) -> Any:
        """How many pieces there are."""
        return self.found[0] * self.tiles_n

    def head(self, number: Any) -> Any:
        """The block of a piece; a pair's first."""
        return self.order[T.truncdiv(number, self.tiles_n)]

    def tile_n(self, number: Any) -> Any:
        """The tile of weights of a piece."""
        return T.truncmod(number, self.tiles_n)

    def place(self, b: Any, e: Any) -> Any:
        """Which of the blocks of its expert e block b is."""
        return T.truncdiv(b * self.block_token - self.padded[e], self.block_token)

    def turns(self, cta: Any) -> Any:
        """How many pieces fall to the team of `cta`."""
        return self.team.turns(cta, self.items)


@T.macro
def tile_of_turn(walk, cta, turn):
    """(expert, block, first row within the expert, rows, tile of weights) that `cta` works on."""
    number = walk.team.number(cta, turn)
    head = walk.head(number)
    e, b = walk.owner[head], head + walk.team.rank(cta)
    row, width = tile_of(walk, b, e)
    return e, b, row, width, walk.tile_n(number)


@T.macro
def multiply(
    w, x, first_acc, second_acc, full, empty, count, steps: int, row: int, second: int,
    stages: int, pair: bool,
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
def load_rows(x, start, wide, at, tile, s, full, narrow: int):
    """The producer loads the tile's rows of `x`: all that `tile` has room for, or `narrow`."""
    block_t = tile.shape[1]
    if not narrow or wide:
        load(x[start : start + block_t, at : at + BLOCK_K], tile[s, :, :], full, s)
    else:
        load(x[start : start + narrow, at : at + BLOCK_K], tile[s, 0:narrow, :], full, s)


def bursts(burst: int, block_n: int, steps: int):
    """Which stages are filled together, and by which pieces of their `block_n` rows of weights.

    Stage by stage without a burst, or where no pairs of them make up the `steps`.
    """
    if not burst or steps % 2:
        return (0,), ((0, block_n),)
    assert block_n % burst == 0
    return (0, 1), tuple((row, row + burst) for row in range(0, block_n, burst))


def part_of(block_t: int, passes: int) -> int:
    """Tokens that leave at a time, in 16s as stmatrix takes them; the last pass may have fewer."""
    return ceildiv(ceildiv(block_t, passes), 16) * 16


def staging(groups: int, part: int, dtype: str):
    """Shared memory that results leave through: `part` tokens x 64 weights for each consumer."""
    pieces = tuple(T.alloc_shared((part, GROUP), dtype) for _ in range(groups))
    T.annotate_layout({piece: make_swizzled_layout(piece) for piece in pieces})
    return pieces


@T.macro
def store(acc, scale, piece, out, which: int, row, col, valid, inside: bool):
    """out[row + j, col + i] = scale[which, j] * acc[i, j] for j < valid, if there is a scale.

    A part of j at a time, through `piece`. `inside` says that `out` has all of the columns.
    """
    part, width = int(piece.shape[0]), int(acc.shape[1])
    whole = width // part * part
    for p in T.unroll(width // part):
        if p * part < valid:
            _store_part(p * part, 0, acc, scale, piece, out, which, row, col, valid, inside)
    if whole < width and whole < valid:
        first = width - part
        _store_part(first, whole - first, acc, scale, piece, out, which, row, col, valid, inside)


@T.macro
def _store_part(
    first, known: int, acc, scale, piece, out, which: int, row, col, valid, inside: bool
):
    """The same for the part that begins with j = `first`; its first `known` rows are in `out`.

    Eight threads store the 64 weights of a token, 128 bytes side by side. (Where a warp stores just
    the 16 weights it has, no warp waits for another, but pieces of 32 bytes take longer.)

    The copy is of all of `piece`, since TileLang 0.1.15 makes nothing of one to some of its rows.
    """
    part = int(piece.shape[0])
    turned = T.alloc_fragment((part, GROUP), piece.dtype)
    T.annotate_layout({turned: _turned_layout(part)})
    for i, j in T.Parallel(GROUP, part):
        if scale is None:
            turned[j, i] = acc[i, first + j]
        else:
            turned[j, i] = acc[i, first + j] * scale[which, first + j]
    T.sync_threads(1 + which, 128)  # all have read the part before
    T.copy(turned, piece)  # stmatrix, transposing 8 x 8 at a time
    T.sync_threads(1 + which, 128)
    i = T.get_thread_binding() % 8 * 8
    for r in T.unroll(known // 16, part // 16):
        j = r * 16 + T.truncdiv(T.get_thread_binding(), 8) % 16
        if first + j < valid and (inside or col + i < out.shape[1]):
            for v in T.vectorized(8):
                out[row + first + j, col + i + v] = piece[j, i + v]


def _turned_layout(part: int):
    """Where a consumer's threads hold [part, 64] elements: as wgmma leaves [64, part].

    A warp has 16 of the 64, a thread two neighbouring tokens of every 8 x 8.
    """
    return Fragment(
        (part, GROUP),
        forward_thread_fn=lambda j, i: i // 16 * 32 + i % 8 * 4 + j % 8 // 2,
        forward_index_fn=lambda j, i: j // 8 * 4 + i % 16 // 8 * 2 + j % 2,
    )


@T.macro
def clear_padding(walk, cta, blocks, rows, out):
    """Rows of the padded layout that belong to no expert become 0, by the idle warps."""
    sms, block_token, d_hidden = walk.team.sms, walk.block_token, out.shape[1]
    lane = T.get_thread_binding() - 32
    for turn in T.serial(turns(cta, sms, blocks * 4)):
        slot = T.truncdiv(cta + turn * sms, 4) * block_token
        e = walk.owner[T.truncdiv(slot, block_token)]
        first = slot + T.truncmod(cta + turn * sms, 4) * (block_token // 4)
        used = T.max(walk.padded[e] + walk.sizes[e], first)
        last = T.min(first + block_token // 4, rows)
        for n in T.serial(T.max(last - used, 0)):
            for c in T.serial(ceildiv(d_hidden // 8, 96)):
                if lane + c * 96 < d_hidden // 8:
                    for v in T.vectorized(8):
                        out[used + n, (lane + c * 96) * 8 + v] = 0


def has_room(block_t: int, n_blocks: int, weighted: bool) -> bool:
    """Whether a table of the blocks fits beside the stages (few rows mean few blocks, mostly)."""
    return n_blocks <= (1024 if block_t <= 160 else 256 if weighted else 512)


def variable(value):
    """`value`, kept in a variable, which to TileLang's simplifier is a number like any other.

    Else it puts what `value` is made of, loads and divisions, wherever it is used, and its prover
    works on that time and again: a wide program took more than twice as long to lower.
    """
    return T.alloc_var("int32", init=value)


def tile_of(walk: Walk, b, e):
    """(first row within expert e, rows) of the tile that its block b stands for.

    An expert's rows are dealt out evenly to as few tiles as can hold them, so the `narrow` ones
    may do.
    """
    width = walk.block_t
    if walk.narrow:
        tiles = T.max(T.truncdiv(walk.sizes[e] + walk.block_t - 1, walk.block_t), 1)
        even = T.truncdiv(walk.sizes[e] + tiles - 1, tiles)
        width = T.if_then_else(even <= walk.narrow, walk.narrow, walk.block_t)
    return walk.place(b, e) * width, width


@T.macro
def list_blocks(walk, blocks, threads: int):
    """order = the blocks whose tiles have rows, in order; found[0] = how many there are.

    For pairs, only the first, third, ... of an expert: the next one is the other CTA's.
    """
    order, found = walk.order, walk.found
    (room,) = order.shape
    sums = T.alloc_shared((room // CHUNK,), "int32", scope="shared")
    place = T.alloc_local((ceildiv(room, threads),), "int32")
    for turn in T.serial(ceildiv(room, threads)):
        b = turn * threads + T.get_thread_binding()
        if b < room:
            order[b] = 0
            if b < blocks:
                e = variable(walk.owner[b])
                row, _ = tile_of(walk, b, e)
                order[b] = T.if_then_else(walk.sizes[e] > row, 1, 0)
                if walk.team.pair and T.truncmod(walk.place(b, e), 2) > 0:
                    order[b] = 0
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
