"""How important blocks are to queries, and whether a kernel chose the most important ones."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..ops.nsa import FullParams

# Relative difference within which two blocks tie: 2 eps of the inputs' dtype. Half-precision
# kernels may round the compressed keys and the probabilities. With 256 windows and head dims 64 and
# 128 that moved importances by at most (fp16; bf16 is 8 times as much)
#   4.8e-4 for inputs of N(0, 0.125), 4.7e-4 for N(0, 1), 1.0e-3 for N(0, 2)  with 1 head a group,
#   1.9e-4,                           1.3e-4,             3.8e-4              with 16.
# A query's 16th and 17th best blocks are 1e-3 apart (median, N(0, 1), 16 heads), so a wrong
# ranking does not hide behind it for long.
SLACK = {torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


def importance(probs: torch.Tensor, params: FullParams) -> torch.Tensor:
    """Importance of every block to every query of one KV head, [n, blocks].

    probs: [n, G, windows], the probabilities of the compressed keys, perhaps without the last,
    unseen ones. A window's probability counts once for every cmp_stride tokens that it shares with
    the block, and the heads add up (the paper's equations 9 and 10): 1, 2, 2, 2, 1 for windows of
    32 tokens, 16 apart, and blocks of 64.
    """
    p = params
    units = -(-p.seqlen // p.block_size) * (p.block_size // p.cmp_stride)
    mass = probs.sum(1)  # [n, windows]
    # Window i covers the cmp_stride-token units i .. i + cmp_kernel / cmp_stride - 1.
    unit = mass.new_zeros(len(mass), units)
    for shift in range(p.cmp_kernel // p.cmp_stride):
        unit[:, shift : shift + mass.shape[1]] += mass
    return unit.view(len(mass), -1, p.block_size // p.cmp_stride).sum(-1)


class Choices:
    """Judges `chosen` slab by slab; `problem` is the first fault found.

    A query whose own block is number c must choose min(top_k, c + 1) distinct blocks of 0 .. c, in
    any order, and -1 in the other places: the blocks 0, c - 1 and c always, and of the others none
    that is less important than one left out, except by rounding.
    """

    def __init__(self, params: FullParams, dtype: torch.dtype) -> None:
        """dtype: of the kernel's inputs."""
        self.params = params
        self.slack = SLACK[dtype]
        self.problem: str | None = None

    def judge(
        self, chosen: torch.Tensor, importance: torch.Tensor, place: tuple[int, int, int]
    ) -> None:
        """Judge the queries of one slab.

        chosen: [n, top_k] int; importance: [n, blocks], the golden; place: the slab's batch, first
        token and KV head.
        """
        if self.problem is not None:
            return
        n, blocks = importance.shape
        device = importance.device
        token = torch.arange(place[1], place[1] + n, device=device)
        own = (token // self.params.block_size).unsqueeze(1)  # [n, 1]
        chosen = chosen.long()
        valid = (chosen >= 0) & (chosen <= own)
        times = torch.zeros(n, blocks, dtype=torch.int64, device=device)  # each block is named
        times.scatter_add_(1, chosen.clamp(0, blocks - 1), valid.long())
        block = torch.arange(blocks, device=device)
        forced = (block == 0) | (block == own - 1) | (block == own)  # [n, blocks]
        count, right = valid.sum(1), (own[:, 0] + 1).clamp(max=self.params.top_k)
        candidate = (block <= own) & ~forced
        least = importance.masked_fill(~(candidate & (times > 0)), torch.inf).min(1)
        most = importance.masked_fill(~(candidate & (times == 0)), -torch.inf).max(1)
        less = most.values * (1 - self.slack) > least.values
        faults: list[tuple[torch.Tensor, Callable[[int], str]]] = [
            ((~valid & (chosen != -1)).any(1), lambda i: _outside(chosen[i], int(own[i]))),
            ((times > 1).any(1), lambda i: f"names block {int(times[i].argmax())} twice"),
            (
                (forced & (times == 0)).any(1),
                lambda i: (
                    f"lacks block {int((forced[i] & (times[i] == 0)).byte().argmax())}, "
                    "which is always chosen"
                ),
            ),
            (count != right, lambda i: f"has {int(count[i])} blocks instead of {int(right[i])}"),
            (less, lambda i: f"has {_weighed(least, i)} instead of {_weighed(most, i)}"),
        ]
        if not torch.stack([mask for mask, _ in faults]).any():
            return
        mask, explain = next(fault for fault in faults if fault[0].any())
        i = int(mask.byte().argmax())
        batch, start, head = place
        self.problem = f"chosen[batch {batch}, token {start + i}, KV head {head}] {explain(i)}"


def _outside(chosen: torch.Tensor, own: int) -> str:
    """chosen: [top_k], of a query whose own block is number `own`."""
    wrong = next(block for block in chosen.tolist() if block != -1 and not 0 <= block <= own)
    return f"holds {wrong}, neither -1 nor one of the blocks 0 to {own} that it may choose"


def _weighed(found: torch.return_types.min | torch.return_types.max, query: int) -> str:
    block, value = int(found.indices[query]), float(found.values[query])
    return f"block {block} of importance {value:.6g}"
