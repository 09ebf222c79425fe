"""Who goes to which expert, and where its row lies: the routing part of the MoE inputs."""

from __future__ import annotations

import torch

from ..ops.moe import BLOCK_ROWS, RoutedParams, RoutedRecipe, padded_size
from .draw import POISON, full_precision, generator, slab

HOT_SHARE = 0.75  # of the rows, to the hot expert


def skew_tokens(hidden: torch.Tensor, router_w: torch.Tensor, skew: float) -> torch.Tensor:
    """`hidden` moved along the first expert's router row until its logit is `skew` higher.

    hidden: [T, H]; router_w: [E, H]. The contract has no router bias, so the tokens carry it.
    """
    if skew == 0:
        return hidden
    first = router_w[0].float()
    return (hidden.float() + first * (skew / first.square().sum())).to(hidden.dtype)


def router_probs(hidden: torch.Tensor, router_w: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """softmax(hidden @ router_w.T) over the experts, [T, E] in `dtype`."""
    weight = router_w.to(dtype).T
    rows = slab(hidden.shape[1] * dtype.itemsize, hidden.shape[0])
    return torch.cat([(part.to(dtype) @ weight).softmax(-1) for part in hidden.split(rows)])


def near_ties(hidden: torch.Tensor, router_w: torch.Tensor, top_k: int) -> torch.Tensor:
    """Indices of tokens whose choice depends on how a kernel rounds.

    The gap between the k-th and the next logit must exceed what rounding both logits to the
    case's dtype, and then both probabilities, can move: kernels may do both, as the contest
    sample does.
    """
    if top_k == router_w.shape[0]:
        return torch.empty(0, dtype=torch.int64, device=hidden.device)
    with full_precision():
        weight = router_w.float().T
        rows = slab(hidden.shape[1] * 4, len(hidden))
        pairs = [(part.float() @ weight).topk(top_k + 1).values for part in hidden.split(rows)]
    last, following = torch.cat(pairs)[:, -2:].unbind(1)
    step = torch.finfo(hidden.dtype).eps
    largest = torch.maximum(last.abs(), following.abs())
    return (last - following <= step * (1 + largest)).nonzero().flatten()


def split_rows(params: RoutedParams, recipe: RoutedRecipe, seed: int) -> list[int]:
    """Rows of each expert; drawn on the CPU, so that every device gets the same split."""
    if params.group_sizes is not None:
        return list(params.group_sizes)
    experts, rows = params.n_experts, params.rows
    if recipe.routing == "even":
        return [rows // experts + (e < rows % experts) for e in range(experts)]
    share = torch.ones(experts)
    fixed = torch.zeros(experts, dtype=torch.int64)
    if recipe.routing == "empty":
        share[1::2] = 0
    if recipe.routing == "hot" and experts > 1:
        hot = experts // 2
        share[hot] = 0
        # A token goes to an expert once at most, so rows from tokens cap the hot expert.
        fixed[hot] = min(int(rows * HOT_SHARE), params.tokens or rows)
    rest = rows - int(fixed.sum())
    drawn = torch.zeros(experts, dtype=torch.int64)
    if rest:
        source = generator(seed, torch.device("cpu"))
        draws = torch.multinomial(share, rest, replacement=True, generator=source)
        drawn = draws.bincount(minlength=experts)
    sizes: list[int] = (fixed + drawn).tolist()
    return sizes


def metadata(
    sizes: list[int], params: RoutedParams, device: torch.device
) -> dict[str, torch.Tensor]:
    """Where each expert's rows are: three [E] tables and the expert of each row block, int32.

    Blocks past the last expert's padded end repeat the last expert; kernels find out that they
    are empty by testing rows against `group_sizes`.
    """
    size = torch.tensor(sizes)
    padded = torch.tensor([padded_size(n) for n in sizes])
    ends = padded.cumsum(0)
    owner = torch.repeat_interleave(torch.arange(len(sizes)), padded // BLOCK_ROWS)
    blocks = torch.full((params.blocks,), len(sizes) - 1)
    blocks[: len(owner)] = owner
    tables = {
        "group_sizes": size,
        "group_offsets": size.cumsum(0) - size,
        "group_padded_offsets": ends - padded,
        "group_idx_for_bx": blocks,
    }
    return {name: table.to(device, torch.int32) for name, table in tables.items()}


def pad(rows: torch.Tensor, sizes: list[int]) -> torch.Tensor:
    """Compact rows [G, H] moved to the experts' padded starts; NaN in between."""
    padded = [padded_size(size) for size in sizes]
    out = rows.new_full((sum(padded), rows.shape[1]), POISON)
    start = 0
    for part, length in zip(rows.split(sizes), padded, strict=True):
        out[start : start + len(part)] = part
        start += length
    return out
