"""Hopper: grouped GEMMs as persistent CTAs with written-out producers and consumers."""

from typing import Any

import torch

from ..common.dialect import current
from ..common.schedule import schedule
from . import _dispatch, _few, _many, portable

MANY = {"tiles": "many", "block_t": _many.ROWS, "rows": "copy"}


def routed(
    tokens,  # [R, H]
    gate_w,  # [E, I, H]
    up_w,  # [E, I, H]
    down_w,  # [E, H, I]
    route_w,  # [group_sum]
    group_sizes,  # [E]
    group_offsets,  # [E]
    group_padded_offsets,  # [E]
    group_idx_for_bx,  # [blocks of 128 rows]
    out,  # [R, H]
):
    """Experts over rows already sorted by expert, compact or padded; two launches."""
    groups = (group_sizes, group_offsets, group_padded_offsets, group_idx_for_bx)
    if not _on_hopper():
        return portable.routed(tokens, gate_w, up_w, down_w, route_w, *groups, out)
    if tokens.shape[0] == 0:
        return
    shape = portable.shape_of(gate_w, route_w.shape[0])
    plan = _fitting(schedule("moe/hopper/routed", **shape), groups[3].shape[0])
    _experts(
        plan["tiles"], plan["block_t"], portable.ROUTED_BLOCK, shape, tokens, gate_w, up_w, down_w,
        route_w, groups, out, compact_x=tokens.shape[0] == route_w.shape[0], weighted=True,
    )  # fmt: skip


def layer(
    hidden,  # [T, H]
    router_w,  # [E, H]
    gate_w,  # [E, I, H]
    up_w,  # [E, I, H]
    down_w,  # [E, H, I]
    out,  # [T, H]
    *,
    top_k,
):
    """Router, top-k, sort, experts, weighted sum: 5 launches for few tokens, 8 for many."""
    if not _on_hopper():
        return portable.layer(hidden, router_w, gate_w, up_w, down_w, out, top_k=top_k)
    if hidden.shape[0] == 0:
        return
    shape = portable.shape_of(gate_w, hidden.shape[0] * top_k)
    plan = schedule("moe/hopper/layer", tokens=hidden.shape[0], **shape)
    blocks = _dispatch.tile_count(
        hidden.shape[0], shape["n_experts"], top_k, plan["block_t"], every=plan["rows"] == "every"
    )
    plan = _fitting(plan, blocks)
    every, block_t = plan["rows"] == "every", plan["block_t"]
    routing = _dispatch.route(hidden, router_w, top_k, block_t, every=every)
    source = hidden if every else _dispatch.permuted(hidden, routing)
    slots = routing.source_row.shape[0]
    results = torch.empty((slots, hidden.shape[1]), dtype=out.dtype, device=out.device)
    _experts(
        plan["tiles"], block_t, block_t, shape, source, gate_w, up_w, down_w,
        hidden.view(-1), routing.groups, results, compact_x=every, weighted=False,
    )  # fmt: skip
    _dispatch.combine(results, routing, out)


def _on_hopper() -> bool:
    """Whether these programs can run; they are TMA and wgmma through and through."""
    return current().arch.startswith("sm_90")


def _fitting(plan: dict[str, Any], n_blocks: int) -> dict[str, Any]:
    """The plan, or the one that serves any number of blocks."""
    return plan if _few.has_room(plan["block_t"], n_blocks) else MANY


def _experts(
    tiles: str,  # "many" or "few", the family of programs
    block_t: int,  # rows of a tile
    block_token: int,  # rows of a block of group_idx_for_bx
    shape: dict[str, int],
    x: torch.Tensor,  # [rows, H]
    gate_w: torch.Tensor,  # [E, I, H]
    up_w: torch.Tensor,  # [E, I, H]
    down_w: torch.Tensor,  # [E, H, I]
    route_w: torch.Tensor,  # [pairs]; read only if weighted
    groups: tuple[torch.Tensor, ...],
    out: torch.Tensor,  # [R, H] if weighted, else [blocks * block_t, H] in tile space
    compact_x: bool,
    weighted: bool,
) -> None:
    """out = down(silu(gate(x)) * up(x)) row by row, times the routing weight if `weighted`."""
    n_blocks = groups[3].shape[0]
    static = {
        "d_hidden": shape["d_hidden"],
        "d_expert": shape["d_expert"],
        "dtype": _dispatch.dtype_name(x),
    }
    if tiles == "few":
        family = _few
        # Room of the block table: powers of two, so that few sizes get compiled.
        room = max(128, 1 << (n_blocks - 1).bit_length())
        static |= {"block_token": block_token, "block_t": block_t, "room": room}
    else:
        family = _many
    inner = torch.empty(
        (n_blocks * max(block_t, block_token), shape["d_expert"]), dtype=x.dtype, device=x.device
    )
    how = schedule(f"moe/hopper/{tiles}_gate_up", block_t=block_t, **shape)
    first = family.gate_up.get(**static, **how)
    how = schedule(f"moe/hopper/{tiles}_down", block_t=block_t, **shape)
    second = family.down.get(weighted=weighted, **static, **how)
    first(x, gate_w, up_w, *groups, inner, int(compact_x))
    second(inner, down_w, route_w, *groups, out, int(compact_x and weighted))
