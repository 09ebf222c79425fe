"""Host side of the routing: sizes buffers from shapes alone and launches the programs."""

from __future__ import annotations

from typing import NamedTuple

import torch

from ..common.dialect import current
from ..common.schedule import schedule
from . import _router, _rows, _sort


class Routing(NamedTuple):
    """Which rows of tile space belong to whom. All tensors int32 but `weights`."""

    weights: torch.Tensor  # [T, top_k] fp32, the router's probabilities
    pair_row: torch.Tensor  # [T, top_k] tile-space row of each choice
    source_row: torch.Tensor  # [slots] token of each tile-space row; unset where there is none
    groups: tuple[torch.Tensor, ...]
    """group_sizes, group_offsets, group_padded_offsets [E], group_idx_for_bx [blocks]."""


def dtype_name(tensor: torch.Tensor) -> str:
    """How programs name the tensor's dtype; one name on the CPU, whose programs hold fp32."""
    return "float32" if current().is_cpu else str(tensor.dtype).removeprefix("torch.")


def tile_count(n_tokens: int, n_experts: int, top_k: int, block_token: int, every: bool) -> int:
    """The most tiles any routing can need: each expert in use wastes at most one tile but a row."""
    pairs = n_tokens * top_k
    used = min(n_experts, pairs)
    if every:
        return used * -(-n_tokens // block_token)
    return (pairs + (block_token - 1) * used) // block_token


def route(
    hidden: torch.Tensor,  # [T, H]
    router_w: torch.Tensor,  # [E, H]
    top_k: int,
    block_token: int,
    every: bool,
) -> Routing:
    """Choose every token's experts and sort the choices into tiles of `block_token` rows."""
    n_tokens, d_hidden = hidden.shape
    n_experts = router_w.shape[0]
    sort = schedule("moe/routing/sort", tokens=n_tokens, n_experts=n_experts)
    block_t, threads = sort["block_t"], sort["threads"]
    if every and n_tokens > block_t:
        raise ValueError(f"'every' needs all {n_tokens} tokens in one chunk, which holds {block_t}")

    def empty(*shape: int, dtype: torch.dtype = torch.int32) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device=hidden.device)

    how = schedule("moe/routing/router", tokens=n_tokens, d_hidden=d_hidden)
    logits = empty(how["slices"], n_tokens, n_experts, dtype=torch.float32)
    _router.router.get(
        n_experts=n_experts, d_hidden=d_hidden, dtype=dtype_name(hidden), **how
    )(hidden, router_w, logits)  # fmt: skip

    blocks = tile_count(n_tokens, n_experts, top_k, block_token, every)
    groups = (empty(n_experts), empty(n_experts), empty(n_experts), empty(blocks))
    weights = empty(n_tokens, top_k, dtype=torch.float32)
    pair_row, source_row = empty(n_tokens, top_k), empty(blocks * block_token)
    static = {"n_experts": n_experts, "top_k": top_k, "block_t": block_t, "threads": threads}
    if n_tokens <= block_t:
        select = _sort.select.get(block_token=block_token, every=every, **static)
        select(logits, weights, pair_row, source_row, *groups)
    else:
        chunks = -(-n_tokens // block_t)
        ids, rank = empty(n_tokens, top_k), empty(n_tokens, top_k)
        counts, totals = empty(chunks, n_experts), empty(n_experts)
        _sort.choose.get(**static)(logits, ids, weights, rank, counts)
        block_e = min(32, 1 << (n_experts - 1).bit_length())
        _sort.scan.get(n_experts=n_experts, block_e=block_e, parts=threads // block_e)(
            counts, totals
        )
        place = _sort.place.get(block_token=block_token, **static)
        place(ids, rank, counts, totals, pair_row, source_row, *groups)
    return Routing(weights, pair_row, source_row, groups)


def permuted(hidden: torch.Tensor, routing: Routing) -> torch.Tensor:
    """The tokens' rows in tile space, [slots, H]; rows that belong to no expert are left unset."""
    (n_tokens, d_hidden), top_k = hidden.shape, routing.pair_row.shape[1]
    rows = torch.empty(
        (routing.source_row.shape[0], d_hidden), dtype=hidden.dtype, device=hidden.device
    )
    how = schedule("moe/routing/rows", tokens=n_tokens, d_hidden=d_hidden)
    _rows.permute.get(d_hidden=d_hidden, top_k=top_k, dtype=dtype_name(hidden), **how)(
        hidden, routing.pair_row, rows
    )
    return rows


def combine(results: torch.Tensor, routing: Routing, out: torch.Tensor) -> None:
    """out[t] = sum of the experts' results [slots, H] of token t, weighted by the router."""
    (n_tokens, d_hidden), top_k = out.shape, routing.pair_row.shape[1]
    how = schedule("moe/routing/rows", tokens=n_tokens, d_hidden=d_hidden)
    _rows.combine.get(d_hidden=d_hidden, top_k=top_k, dtype=dtype_name(out), **how)(
        results, routing.pair_row, routing.weights, out
    )
