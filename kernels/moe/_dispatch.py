"""Host side of the routing: sizes buffers from shapes alone and launches the programs.

What a call launches depends on its shapes only, so it is looked up once for them (`plan_route` and
the like): schedules and programs by name cost Python more time than small launches take.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from ..common.dialect import Program, current
from ..common.schedule import schedule
from . import _router, _rows, _sort

Find = Callable[..., dict[str, Any]]
"""`schedule`, or something like it: program name and shape to its schedule."""
Launch = Callable[..., None]


class Routing(NamedTuple):
    """Which rows of tile space belong to whom. All tensors int32 but `weights`."""

    weights: torch.Tensor  # [T, top_k] fp32, the router's probabilities
    pair_row: torch.Tensor  # [T, top_k] tile-space row of each choice
    source_row: torch.Tensor  # [slots] token of each tile-space row; unset where there is none
    groups: tuple[torch.Tensor, ...]
    """group_sizes, group_offsets, group_padded_offsets [E], group_idx_for_bx [blocks]."""


class RoutePlan(NamedTuple):
    """Chooses every token's experts and sorts the choices into tiles, for calls of one shape."""

    logits: tuple[int, int, int]
    """Partial sums, tokens, experts."""
    pairs: tuple[int, int]
    """Tokens, choices of a token."""
    chunks: tuple[int, int]
    """CTAs that choose and sort, columns of their counts; a single CTA does both in one launch."""
    slots: int
    tables: tuple[list[int], list[int]]
    """Lengths that the buffer of all int32 tables is cut into, and which pieces are tables."""
    launches: tuple[Launch, ...]
    """router, select; or router, choose, place."""

    def __call__(self, hidden: torch.Tensor, router_w: torch.Tensor) -> Routing:
        """hidden: [T, H]; router_w: [E, H]."""
        device, fp32 = hidden.device, torch.float32
        logits = torch.empty(self.logits, dtype=fp32, device=device)
        self.launches[0](hidden, router_w, logits)
        weights = torch.empty(self.pairs, dtype=fp32, device=device)
        # Allocating takes as long as a launch does, so one buffer holds all tables.
        lengths, chosen = self.tables
        pieces = torch.empty(sum(lengths), dtype=torch.int32, device=device)
        pieces = pieces.split_with_sizes(lengths)
        sizes, offsets, padded, pair_row, source_row, owner, *more = [pieces[i] for i in chosen]
        groups, pair_row = (sizes, offsets, padded, owner), pair_row.view(self.pairs)
        if len(self.launches) == 2:
            self.launches[1](logits, weights, pair_row, source_row, *groups)
        else:
            ids, rank, counts = more
            ids, rank, counts = (
                ids.view(self.pairs),
                rank.view(self.pairs),
                counts.view(self.chunks),
            )
            _, choose, place = self.launches
            choose(logits, ids, weights, rank, counts)
            place(ids, rank, counts, pair_row, source_row, *groups)
        return Routing(weights, pair_row, source_row, groups)


def _cut(lengths: list[int]) -> tuple[list[int], list[int]]:
    """How to cut a buffer of int32 so that every piece of these lengths starts at 16 bytes."""
    cuts: list[int] = []
    chosen = []
    for length in lengths:
        chosen.append(len(cuts))
        cuts.append(length)
        if length % 4:
            cuts.append(-length % 4)
    return cuts, chosen


def finder() -> tuple[dict[str, dict[str, Any]], Find]:
    """(schedules by program name, function that looks one up and adds it there)."""
    used: dict[str, dict[str, Any]] = {}

    def find(name: str, **shape: Any) -> dict[str, Any]:
        used[name] = schedule(name, **shape)
        return used[name]

    return used, find


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


def plan_route(
    hidden: torch.Tensor,  # [T, H]
    router_w: torch.Tensor,  # [E, H]
    top_k: int,
    block_token: int,
    every: bool,
    find: Find = schedule,
) -> RoutePlan:
    """How to route tokens of this shape into tiles of `block_token` rows.

    Raises:
        ValueError: `every`, and more tokens than one CTA sorts.
    """
    (n_tokens, d_hidden), n_experts = hidden.shape, router_w.shape[0]
    sort = find("moe/routing/sort", tokens=n_tokens, n_experts=n_experts)
    block_t, threads = sort["block_t"], sort["threads"]
    if every and n_tokens > block_t:
        raise ValueError(f"'every' needs all {n_tokens} tokens in one chunk, which holds {block_t}")
    how = find("moe/routing/router", tokens=n_tokens, d_hidden=d_hidden, n_experts=n_experts)
    launches = [
        _router.router.get(
            n_experts=n_experts, d_hidden=d_hidden, dtype=dtype_name(hidden), **how
        )
    ]  # fmt: skip
    static = {"n_experts": n_experts, "top_k": top_k, "block_t": block_t, "threads": threads}
    slices, width = how["slices"], _router.padded_experts(n_experts)
    if n_tokens <= block_t:
        launches.append(
            _sort.select.get(slices=slices, block_token=block_token, every=every, **static)
        )
    else:
        launches += [
            _sort.choose.get(slices=slices, **static),
            _sort.place.get(block_token=block_token, **static),
        ]
    blocks = tile_count(n_tokens, n_experts, top_k, block_token, every)
    pairs, slots, chunks = n_tokens * top_k, blocks * block_token, -(-n_tokens // block_t)
    tables = [n_experts, n_experts, n_experts, pairs, slots, blocks]
    if chunks > 1:
        tables += [pairs, pairs, chunks * width]
    return RoutePlan(
        (slices, n_tokens, n_experts), (n_tokens, top_k), (chunks, width), slots,
        _cut(tables), tuple(launches),
    )  # fmt: skip


def plan_rows(
    program: Program,  # permute or combine, of `_rows`
    hidden: torch.Tensor,  # [T, H]
    top_k: int,
    find: Find = schedule,
) -> Launch:
    """`program` for tokens of this shape."""
    n_tokens, d_hidden = hidden.shape
    how = find("moe/routing/rows", tokens=n_tokens, d_hidden=d_hidden)
    how = _rows.fitting(how, d_hidden, top_k)
    return program.get(d_hidden=d_hidden, top_k=top_k, dtype=dtype_name(hidden), **how)


def permuted(launch: Launch, hidden: torch.Tensor, routing: Routing) -> torch.Tensor:
    """The tokens' rows in tile space, [slots, H]; rows that belong to no expert are left unset."""
    rows = hidden.new_empty((routing.source_row.shape[0], hidden.shape[1]))
    launch(hidden, routing.pair_row, rows)
    return rows
