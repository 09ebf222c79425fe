"""Splits of the keys: how many there should be, and how their outputs become one."""

import functools
import math

import tilelang.language as T

from ..common.dialect import program

LOG2E = math.log2(math.e)
LOWEST = -1e30  # below any log-sum-exp but -inf
MAX_SPLITS = 128  # of which a combining CTA keeps the weights in shared memory


@functools.lru_cache(maxsize=4096)
def choose_splits(blocks, tiles, sms, *, per_sm, start_tiles, merge_tiles, max_splits):
    """The number of splits that makes a modelled run shortest; the smaller one of equals.

    The model counts in tiles, the time a CTA takes for one. `blocks` (sequences x row blocks)
    times the splits are CTAs; `per_sm` of them share each of `sms` processors, so that they run in
    waves. A CTA takes `start_tiles` for loading queries, filling its pipeline and writing its
    output, and one for each of its share of `tiles`. Combining takes `merge_tiles` a split.
    """

    def cost(splits):
        waves = math.ceil(blocks * splits / (sms * per_sm))
        merge = merge_tiles * splits if splits > 1 else 0
        return waves * (start_tiles + math.ceil(tiles / splits)) + merge

    return min(range(1, min(max_splits, MAX_SPLITS, max(tiles, 1)) + 1), key=cost)


@program(writes=("Out", "Lse"))
def combine(D, *, dim, dtype, block_d, threads, unroll):
    """Weigh the splits' outputs by their shares of the sum of exponentials.

    Partial [B, splits, Sq * Hq, dim] and PartialLse [B, splits, Hq, Sq], fp32 ->
    Out [B, Sq * Hq, dim], Lse [B, Hq, Sq]. One CTA serves `block_d` columns of one query and
    head. A split that saw no key has log-sum-exp -inf; if all have, the row is 0 and its Lse -inf.
    """
    batch, splits, rows = T.dynamic("batch"), T.dynamic("splits"), T.dynamic("rows")
    heads, q_len = T.dynamic("heads"), T.dynamic("q_len")
    block_d = math.gcd(block_d, dim)
    column_blocks = dim // block_d

    @T.prim_func
    def main(
        Partial: T.Tensor((batch, splits, rows, dim), "float32"),
        PartialLse: T.Tensor((batch, splits, heads, q_len), "float32"),
        Out: T.Tensor((batch, rows, dim), D.dtype(dtype)),
        Lse: T.Tensor((batch, heads, q_len), "float32"),
    ):
        with D.kernel(heads * column_blocks, q_len, batch, threads=threads) as (x, query, b):
            head = x // column_blocks
            column0 = x % column_blocks * block_d
            row = query * heads + head
            weight = D.alloc_shared((MAX_SPLITS,), "float32")
            acc = D.alloc_fragment((block_d,), "float32")
            top = T.alloc_local((1,), "float32")
            total = T.alloc_local((1,), "float32")
            T.clear(acc)
            for s in D.parallel(MAX_SPLITS):
                weight[s] = T.if_then_else(
                    s < splits, PartialLse[b, s, head, query], -T.infinity("float32")
                )
            top[0] = LOWEST  # finite: the difference of two -inf would be NaN
            total[0] = 0
            for s in T.serial(splits):
                top[0] = T.max(top[0], weight[s])
            for s in T.serial(splits):
                total[0] += T.exp2((weight[s] - top[0]) * LOG2E)
            # Unrolled, so that `unroll` loads are on their way at a time: there is nothing else
            # to hide their latency behind.
            for s0 in T.serial(T.ceildiv(splits, unroll)):
                for u in T.unroll(unroll):
                    if s0 * unroll + u < splits:
                        for d in D.parallel(block_d):
                            acc[d] += Partial[b, s0 * unroll + u, row, column0 + d] * T.exp2(
                                (weight[s0 * unroll + u] - top[0]) * LOG2E
                            )
            for d in D.parallel(block_d):
                acc[d] = T.if_then_else(total[0] > 0, acc[d] / total[0], 0)
            T.copy(acc, Out[b, row, column0 : column0 + block_d])
            if column0 == 0:
                Lse[b, head, query] = T.if_then_else(
                    total[0] > 0, top[0] + T.log(total[0]), -T.infinity("float32")
                )

    return main
