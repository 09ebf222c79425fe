"""MoE for cuda, maca and cpu: grouped GEMMs over expert tiles, routing done on the device."""

import torch

from ..common.schedule import schedule
from . import _dispatch, _grouped, _rows

ROUTED_BLOCK = 128  # rows of a block of the contest's group_idx_for_bx


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
    if tokens.shape[0] == 0:
        return
    groups = (group_sizes, group_offsets, group_padded_offsets, group_idx_for_bx)
    compact = tokens.shape[0] == route_w.shape[0]
    shape = shape_of(gate_w, route_w.shape[0])
    hidden = _gate_up(shape, tokens, gate_w, up_w, groups, groups[3], ROUTED_BLOCK, compact)
    _down(shape, hidden, down_w, route_w, groups, out, ROUTED_BLOCK, compact, weighted=True)


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
    """Router, top-k, sort, experts, weighted sum: 5 launches for few tokens, 7 or 8 for many."""
    if hidden.shape[0] == 0:
        return
    shape = shape_of(gate_w, hidden.shape[0] * top_k)
    plan = schedule("moe/portable/layer", tokens=hidden.shape[0], **shape)
    block_token, rows = plan["block_token"], plan["rows"]
    plan_route = _dispatch.plan_route(hidden, router_w, top_k, block_token, every=rows == "every")
    routing = plan_route(hidden, router_w)
    # How GEMM rows find their tokens: "every" - each expert in use takes all tokens as they lie;
    # "gather" - tile loads follow source_row; "copy" - a pass brings tokens into tile space first.
    source = hidden
    if rows == "copy":
        permute = _dispatch.plan_rows(_rows.permute, hidden, top_k)
        source = _dispatch.permuted(permute, hidden, routing)
    inner = _gate_up(
        shape, source, gate_w, up_w, routing.groups, routing.source_row, block_token,
        compact=rows == "every", gather=rows == "gather",
    )  # fmt: skip
    results = torch.empty((inner.shape[0], hidden.shape[1]), dtype=out.dtype, device=out.device)
    _down(
        shape, inner, down_w, hidden.view(-1), routing.groups, results, block_token,
        compact=False, weighted=False,
    )  # fmt: skip
    combine = _dispatch.plan_rows(_rows.combine, hidden, top_k)
    combine(results, routing.pair_row, routing.weights, out)


def shape_of(gate_w: torch.Tensor, rows: int) -> dict[str, int]:
    """What schedules are chosen by: static widths, and how many rows an expert has on average."""
    n_experts, d_expert, d_hidden = gate_w.shape
    return {
        "d_hidden": d_hidden,
        "d_expert": d_expert,
        "n_experts": n_experts,
        "rows_per_expert": -(-rows // n_experts),
    }


def _gate_up(
    shape: dict[str, int],
    x: torch.Tensor,  # [rows, H]
    gate_w: torch.Tensor,  # [E, I, H]
    up_w: torch.Tensor,  # [E, I, H]
    groups: tuple[torch.Tensor, ...],
    source_row: torch.Tensor,  # [slots]; read only with gather
    block_token: int,
    compact: bool,
    gather: bool = False,
) -> torch.Tensor:
    """silu(x @ gate) * (x @ up), [slots, I] in tile space."""
    slots = groups[3].shape[0] * block_token
    inner = torch.empty((slots, gate_w.shape[1]), dtype=x.dtype, device=x.device)
    how = schedule("moe/portable/gate_up", **shape)
    launch = _grouped.gate_up.get(
        d_hidden=shape["d_hidden"],
        d_expert=shape["d_expert"],
        dtype=_dispatch.dtype_name(x),
        block_token=block_token,
        gather=gather,
        **how,
    )
    launch(x, gate_w, up_w, *groups, source_row, inner, int(compact))
    return inner


def _down(
    shape: dict[str, int],
    inner: torch.Tensor,  # [slots, I]
    down_w: torch.Tensor,  # [E, H, I]
    route_w: torch.Tensor,  # [pairs]; read only if weighted
    groups: tuple[torch.Tensor, ...],
    out: torch.Tensor,  # [rows, H]
    block_token: int,
    compact: bool,
    weighted: bool,
) -> None:
    """out = inner @ down, times the routing weight and with zeros in padding rows if `weighted`."""
    how = schedule("moe/portable/down", **shape)
    launch = _grouped.down.get(
        d_hidden=shape["d_hidden"],
        d_expert=shape["d_expert"],
        dtype=_dispatch.dtype_name(out),
        block_token=block_token,
        weighted=weighted,
        **how,
    )
    launch(inner, down_w, route_w, *groups, out, int(compact))
