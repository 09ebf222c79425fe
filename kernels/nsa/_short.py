"""Attention of tokens that select few keys: a warp each, and all of it in registers.

Where a token has few keys, reading q and writing the output are the work, and the time goes into
waiting. So nothing passes through shared memory and no warp waits for another: every lane loads and
stores 16 bytes at a time, straight to and from where the tensor core has them. That is possible
because a sum over columns may take them in any order, and because it is free which columns of the
output a lane comes to have.

Of a 16 x 8 x 16 product, lane 4 g + m (m < 4) holds rows g and g + 8 of the left side and of the
result, and column g of the right side; along the sum, places 2 m, 2 m + 1, 2 m + 8 and 2 m + 9 of
each side, and of the result columns 2 m and 2 m + 1.

- q k^T sums over columns. Lane m takes 8 neighbouring ones as its places in two such products.
- p v sums over keys. A lane loads `wide` neighbouring columns of its four keys' rows; the i-th of
  them are the right side's column g in the i-th product. So in its rows of the result lane m has
  the columns that lanes g = 2 m and g = 2 m + 1 loaded. Which those are is chosen so that four
  lanes store 64 neighbouring bytes.
"""

import tilelang.language as T

from ..common.dialect import program
from . import _tile

HEADS = 16  # of a group: the rows that a tensor core takes
STEP = 16  # keys, or columns of q and k, that it sums over
MOST_KEYS = 2 * STEP  # of a token; with more, warps that share them are faster
ABBREVIATIONS = {"float16": "fp16", "bfloat16": "bf16"}  # as T.ptx_mma names them
# Every access below is inside its tensor, but TileLang cannot see that and would check it.
UNCHECKED = {**_tile.FAST_MATH, "tl.disable_safe_memory_legalize": True}


@T.macro
def _multiply(dtype: str, left, left_at, right, right_at, out, out_at):
    """out[out_at:][:4] += left[left_at:][:8] @ right[right_at:][:4], each spread over a warp."""
    half = ABBREVIATIONS[dtype]
    T.ptx_mma(
        "float32", "m16n8k16", "row", "col", half, half, "fp32",
        left.data, left_at, right.data, right_at, out.data, out_at, T.bool(False),
    )  # fmt: skip


@T.macro
def _load_row(x, at, X, b, t, h, m):
    """x[at:] = lane m's columns of row (b, t, h): of every 32, the 8 from m * 8 on."""
    for c in T.unroll(X.shape[3] // 32):
        for i in T.vectorized(8):
            x[at + c * 8 + i] = X[b, t, h, c * 32 + m * 8 + i]


@T.macro
def _score(dtype: str, scores, n, q, k, left):
    """The n-th 16 keys' scores. q, k: two rows as `_load_row` gives them."""
    row = q.shape[0] // 2
    for at in T.unroll(row // 4):
        for i in T.unroll(2):
            left[i] = q[at * 4 + i]
            left[2 + i] = q[row + at * 4 + i]
            left[4 + i] = q[at * 4 + 2 + i]
            left[6 + i] = q[row + at * 4 + 2 + i]
        for r in T.unroll(2):
            _multiply(dtype, left, 0, k, r * row + at * 4, scores, n * 8 + r * 4)


@T.macro
def _weigh(scores, weights, factor, first, limit, scale, m):
    """weights = exp2(scale * scores - their row's maximum), 0 for keys that are not in sight.

    factor: 1 / the sum of each row. first: of every 16 keys.
    """
    row_max = T.alloc_local((2,), "float32")
    T.fill(row_max, _tile.FLOOR)
    T.fill(factor, 0)
    for n, r, i, j in T.grid(first.shape[0], 2, 2, 2):
        at = n * 8 + r * 4 + i * 2 + j
        scores[at] = T.if_then_else(
            first[n] + r * 8 + m * 2 + j < limit, scores[at] * scale, -T.infinity("float32")
        )
        row_max[i] = T.max(row_max[i], scores[at])
    for i in T.unroll(2):  # the four lanes of a row
        row_max[i] = T.max(row_max[i], T.shfl_xor(row_max[i], 1))
        row_max[i] = T.max(row_max[i], T.shfl_xor(row_max[i], 2))
    for n, r, i, j in T.grid(first.shape[0], 2, 2, 2):
        at = n * 8 + r * 4 + i * 2 + j
        scores[at] = T.exp2(scores[at] - row_max[i])
        factor[i] += scores[at]
        weights[at] = T.cast(scores[at], weights.dtype)
    for i in T.unroll(2):
        factor[i] += T.shfl_xor(factor[i], 1)
        factor[i] += T.shfl_xor(factor[i], 2)
        factor[i] = 1.0 / T.max(factor[i], _tile.TINY)


@program(writes=("Out",), pass_configs=UNCHECKED)
def attend(D, *, dtype, dim, block, count, causal, warps, turns):
    """Out[b, t, g] = softmax(scale * q k^T) v over the blocks of (b, t, head g's group).

    (Q [B, N, HQ, dim], K, V [B, N, H, dim], Blocks [B, N, H, count] int32, Out like Q, scale), with
    HQ / H = 16, dim 32, 64 or 128 and at most MOST_KEYS keys. As `_selected.attend`. A warp takes
    `turns` tokens, and knows the next one's blocks before it needs them.
    """
    half = D.dtype(dtype)
    parts = block // STEP
    pieces = count * parts
    wide = min(dim // 8, 8)  # columns that a lane loads of a row of v
    strips = dim // (8 * wide)  # such loads
    B, N, H, HQ = (T.dynamic(name) for name in ("batch", "seqlen", "kv_heads", "q_heads"))

    @T.macro
    def add_values(acc, weights, V, b, h, first, limit, lane):
        """acc += weights @ v; rows that are not in sight count as 0, whatever they hold."""
        v = T.alloc_local((4 * wide,), half)
        right = T.alloc_local((4,), half)
        g = T.truncdiv(lane, 4)
        column = (T.truncmod(g, 2) * 4 + T.truncdiv(g, 2) if wide == 8 else g) * wide
        for n in T.unroll(pieces):
            for s in T.unroll(strips):
                for r in T.unroll(4):
                    key = first[n] + r // 2 * 8 + lane % 4 * 2 + r % 2
                    for i in T.vectorized(wide):
                        v[r * wide + i] = T.if_then_else(
                            key < limit, V[b, key, h, s * 8 * wide + column + i], T.cast(0, half)
                        )
                for i in T.unroll(wide):
                    for r in T.unroll(4):
                        right[r] = v[r * wide + i]
                    _multiply(dtype, weights, n * 8, right, 0, acc, (s * wide + i) * 4)

    @T.macro
    def write(Out, b, t, head, acc, factor, m):
        """Out = factor * acc, the rows of heads `head` and `head` + 8, 8 columns at a time."""
        part = T.alloc_local((8,), half)
        for s in T.unroll(strips):
            for r in T.unroll(2):
                for c in T.unroll(wide // 4):
                    for i in T.unroll(8):
                        j, e = (i, c) if wide == 8 else (i % 4, i // 4)
                        at = (s * wide + j) * 4 + r * 2 + e
                        part[i] = T.cast(acc[at] * factor[r], half)
                    for i in T.vectorized(8):
                        Out[b, t, head + r * 8, s * 8 * wide + (c * 4 + m) * 8 + i] = part[i]

    @T.prim_func
    def selected_short(
        Q: T.Tensor((B, N, HQ, dim), half),
        K: T.Tensor((B, N, H, dim), half),
        V: T.Tensor((B, N, H, dim), half),
        Blocks: T.Tensor((B, N, H, count), "int32"),
        Out: T.Tensor((B, N, HQ, dim), half),
        scale: T.float32,
    ):
        with D.kernel(T.ceildiv(N, warps * turns), H, B, threads=32 * warps) as (tile, h, b):
            q = T.alloc_local((dim // 2,), half)
            k = T.alloc_local((dim // 2,), half)
            left = T.alloc_local((8,), half)
            scores = T.alloc_local((pieces * 8,), "float32")
            weights = T.alloc_local((pieces * 8,), half)
            acc = T.alloc_local((dim // 2,), "float32")
            factor = T.alloc_local((2,), "float32")
            blocks = T.alloc_local((count,), "int32")
            following = T.alloc_local((count,), "int32")
            first = T.alloc_local((pieces,), "int32")
            lane = T.get_thread_binding() % 32
            g, m = T.truncdiv(lane, 4), T.truncmod(lane, 4)
            start = tile * warps * turns + T.truncdiv(T.get_thread_binding(), 32)
            D.follow()
            for i in T.unroll(count):
                following[i] = Blocks[b, T.min(start, N - 1), h, i]
            for turn in T.serial(turns):
                t = start + turn * warps
                limit = t + 1 if causal else N
                for i in T.unroll(count):
                    blocks[i] = following[i]
                    following[i] = Blocks[b, T.min(t + warps, N - 1), h, i]
                if t < N:
                    for r in T.unroll(2):
                        _load_row(q, r * (dim // 4), Q, b, t, h * HEADS + r * 8 + g, m)
                    for n in T.unroll(pieces):
                        named = _tile.names_block(blocks[n // parts], limit, block)
                        first[n] = T.if_then_else(
                            named, blocks[n // parts] * block + n % parts * STEP, N
                        )
                    T.clear(scores)
                    for n in T.unroll(pieces):
                        for r in T.unroll(2):
                            row = T.min(first[n] + r * 8 + g, N - 1)
                            _load_row(k, r * (dim // 4), K, b, row, h, m)
                        _score(dtype, scores, n, q, k, left)
                    _weigh(scores, weights, factor, first, limit, scale, m)
                    T.clear(acc)
                    add_values(acc, weights, V, b, h, first, limit, lane)
                    write(Out, b, t, h * HEADS + g, acc, factor, m)

    return selected_short
