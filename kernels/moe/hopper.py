"""Hopper: grouped GEMMs as persistent CTAs with written-out producers and consumers."""

from typing import Any, NamedTuple

import torch

from ..common import dialect
from ..common.schedule import note
from . import _dispatch, _few_down, _few_gate_up, _few_parts, _many, _rows, portable

MANY = {"tiles": "many", "block_t": _many.ROWS, "rows": "copy"}

_routed_plans = dialect.memo()
_layer_plans = dialect.memo()


class Experts(NamedTuple):
    """The two GEMMs of calls of one shape."""

    inner: tuple[int, int]
    """Shape of the intermediate, in tile space."""
    gate_up: _dispatch.Launch
    down: _dispatch.Launch

    def __call__(
        self,
        x: torch.Tensor,  # [rows, H]
        weights: tuple[torch.Tensor, ...],  # gate [E, I, H], up, down [E, H, I]
        route_w: torch.Tensor,  # [pairs]; read only if weighted
        groups: tuple[torch.Tensor, ...],
        out: torch.Tensor,  # [R, H] if weighted, else in tile space
        compact: tuple[int, int],  # 1 if the rows of x, and of out, stand without gaps
    ) -> None:
        """out = down(silu(gate(x)) * up(x)) row by row, times the routing weight if weighted."""
        gate_w, up_w, down_w = weights
        inner = torch.empty(self.inner, dtype=x.dtype, device=x.device)
        self.gate_up(x, gate_w, up_w, *groups, inner, compact[0])
        self.down(inner, down_w, route_w, *groups, out, compact[1])


class Layer(NamedTuple):
    """All launches of `layer` for one shape."""

    used: dict[str, dict[str, Any]]
    """Schedules by name, for the record of every call."""
    route: _dispatch.RoutePlan
    permute: _dispatch.Launch | None
    experts: Experts
    combine: _dispatch.Launch


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
    weights = (gate_w, up_w, down_w)
    if not _on_hopper():
        return portable.routed(tokens, *weights, route_w, *groups, out)
    if tokens.shape[0] == 0:
        return
    n_pairs = route_w.shape[0]
    key = (gate_w.shape, tokens.dtype, n_pairs, group_idx_for_bx.shape[0])
    plan = _routed_plans.get(key)
    if plan is None:
        used, find = _dispatch.finder()
        shape = portable.shape_of(gate_w, n_pairs)
        chosen = _fitting(find("moe/hopper/routed", **shape), group_idx_for_bx.shape[0], True)
        experts = _plan_experts(
            chosen, portable.ROUTED_BLOCK, group_idx_for_bx.shape[0], shape, tokens, True, find
        )
        plan = dialect.remember(_routed_plans, key, (used, experts))
    used, experts = plan
    note(used)
    compact = int(tokens.shape[0] == n_pairs)
    experts(tokens, weights, route_w, groups, out, (compact, compact))


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
    """Router, top-k, sort, experts, weighted sum: 5 launches for few tokens, 7 for many."""
    weights = (gate_w, up_w, down_w)
    if not _on_hopper():
        return portable.layer(hidden, router_w, *weights, out, top_k=top_k)
    if hidden.shape[0] == 0:
        return
    key = (gate_w.shape, hidden.dtype, hidden.shape[0], top_k)
    plan = _layer_plans.get(key)
    if plan is None:
        plan = _plan_layer(hidden, router_w, gate_w, top_k)
        dialect.remember(_layer_plans, key, plan)
    note(plan.used)
    routing = plan.route(hidden, router_w)
    results = torch.empty((plan.route.slots, out.shape[1]), dtype=out.dtype, device=out.device)
    source = hidden
    if plan.permute is not None:
        source = results  # `down` writes there when `gate_up` has read all of it
        plan.permute(hidden, routing.pair_row, source)
    compact = (int(plan.permute is None), 0)
    plan.experts(source, weights, hidden.view(-1), routing.groups, results, compact)
    plan.combine(results, routing.pair_row, routing.weights, out)


def _plan_layer(
    hidden: torch.Tensor,  # [T, H]
    router_w: torch.Tensor,  # [E, H]
    gate_w: torch.Tensor,  # [E, I, H]
    top_k: int,
) -> Layer:
    """What `layer` launches for tokens of this shape."""
    used, find = _dispatch.finder()
    n_tokens = hidden.shape[0]
    shape = portable.shape_of(gate_w, n_tokens * top_k)
    chosen = find("moe/hopper/layer", tokens=n_tokens, **shape)
    every = chosen["rows"] == "every"
    blocks = _dispatch.tile_count(
        n_tokens, shape["n_experts"], top_k, chosen["block_t"], every=every
    )
    chosen = _fitting(chosen, blocks, False)
    every, block_t = chosen["rows"] == "every", chosen["block_t"]
    route = _dispatch.plan_route(hidden, router_w, top_k, block_t, every, find)
    return Layer(
        used,
        route,
        None if every else _dispatch.plan_rows(_rows.permute, hidden, top_k, find),
        _plan_experts(chosen, block_t, route.slots // block_t, shape, hidden, False, find),
        _dispatch.plan_rows(_rows.combine, hidden, top_k, find),
    )


def _on_hopper() -> bool:
    """Whether these programs can run; they are TMA and wgmma through and through."""
    return dialect.current().arch.startswith("sm_90")


def _fitting(plan: dict[str, Any], n_blocks: int, weighted: bool) -> dict[str, Any]:
    """The plan, or the one that serves any number of blocks."""
    return plan if _few_parts.has_room(plan["block_t"], n_blocks, weighted) else MANY


def _plan_experts(
    chosen: dict[str, Any],  # family of programs, rows of a tile
    block_token: int,  # rows of a block of group_idx_for_bx
    n_blocks: int,
    shape: dict[str, int],
    x: torch.Tensor,
    weighted: bool,
    find: _dispatch.Find,
) -> Experts:
    """The GEMMs for this many blocks."""
    tiles, block_t = chosen["tiles"], chosen["block_t"]
    static = {
        "d_hidden": shape["d_hidden"],
        "d_expert": shape["d_expert"],
        "dtype": _dispatch.dtype_name(x),
    }
    if tiles == "few":
        programs = _few_gate_up.gate_up, _few_down.down
        # Room of the block table: powers of two, so that few sizes get compiled.
        room = max(128, 1 << (n_blocks - 1).bit_length())
        narrow = chosen.get("narrow", 0)
        static |= {"block_token": block_token, "block_t": block_t, "narrow": narrow, "room": room}
    else:
        programs = _many.gate_up, _many.down
        static["n_experts"] = shape["n_experts"]
    first = find(f"moe/hopper/{tiles}_gate_up", block_t=block_t, **shape)
    second = find(f"moe/hopper/{tiles}_down", block_t=block_t, **shape)
    return Experts(
        (n_blocks * max(block_t, block_token), shape["d_expert"]),
        programs[0].get(**static, **first),
        programs[1].get(weighted=weighted, **static, **second),
    )
