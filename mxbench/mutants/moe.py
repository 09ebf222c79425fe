"""Mistakes of moe kernels: rows with the wrong expert or weight, gate and up mistaken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from ..case import Case
from ..ops.moe import LayerParams, RoutedParams
from ..reference.draw import full_precision
from ..reference.moe_routing import router_probs
from .outputs import Change, Mistake, accumulated, as_it_is, bounds, even_cuts

if TYPE_CHECKING:
    from . import Subject

PARTS = 16  # of the inner dimension, each added to a bf16 accumulator


def complete(case: Case, inputs: dict[str, Any], outputs: dict[str, torch.Tensor]) -> None:
    """The golden needs nothing of the kernel's outputs."""


def mistakes(found: Subject) -> Iterator[Mistake]:
    """Mistakes of the experts' products, then of the routing."""
    x = found.inputs
    yield "gate and up mistaken", lambda: found.golden_of(gate_w=x["up_w"], up_w=x["gate_w"])
    yield "bf16 accumulation", lambda: accumulated(parts(found, even_cuts(PARTS), as_it_is))
    if isinstance(found.case.params, RoutedParams):
        yield from _of_routed(found)
    else:
        yield from _of_layer(found)


def _of_routed(found: Subject) -> Iterator[Mistake]:
    x, sizes = found.inputs, found.inputs["group_sizes"].tolist()
    used = [e for e, size in enumerate(sizes) if size]
    yield "routing weights ignored", lambda: found.golden_of(route_w=torch.ones_like(x["route_w"]))
    if len(used) > 1:
        yield "two experts swapped", lambda: found.golden_of(**_with_experts(x, used[0], used[1]))
        yield "an expert left out", lambda: _without_expert(found, used[-1])
        yield "last row with the next expert", lambda: _last_row_wrong(found, used[0], used[1])


def _of_layer(found: Subject) -> Iterator[Mistake]:
    p, x = found.case.params, found.inputs
    assert isinstance(p, LayerParams)
    if p.n_experts > 1:
        order = torch.arange(p.n_experts)
        first, second = _most_used(found)
        order[first], order[second] = second, first
        swapped = x["router_w"][order.to(x["router_w"].device)]
        yield "two experts swapped", lambda: found.golden_of(router_w=swapped)
    if p.top_k > 1:
        yield "last choice dropped", lambda: found.golden_of(top_k=p.top_k - 1)
    if p.top_k < p.n_experts:
        yield "weights renormalised", lambda: found.golden / _chosen_weight(found)


def _with_experts(x: dict[str, Any], first: int, second: int) -> dict[str, Any]:
    """Weights as lists of experts, two of which have changed places; nothing is copied."""
    changed = {}
    for name in ("gate_w", "up_w", "down_w"):
        experts = list(x[name])
        experts[first], experts[second] = experts[second], experts[first]
        changed[name] = experts
    return changed


def _rows(found: Subject, expert: int) -> slice:
    x = found.inputs
    compact = x["tokens"].shape[0] == x["route_w"].shape[0]
    starts = x["group_offsets"] if compact else x["group_padded_offsets"]
    start = int(starts[expert])
    return slice(start, start + int(x["group_sizes"][expert]))


def _without_expert(found: Subject, expert: int) -> torch.Tensor:
    out = found.golden.clone()
    out[_rows(found, expert)] = 0
    return out


def _last_row_wrong(found: Subject, expert: int, other: int) -> torch.Tensor:
    """The last row of one expert computed with the weights of another."""
    out = found.golden.clone()
    last = _rows(found, expert).stop - 1
    swapped = found.golden_of(**_with_experts(found.inputs, expert, other))
    out[last] = swapped[last]
    return out


def _most_used(found: Subject) -> tuple[int, int]:
    """The expert most tokens choose first, and another."""
    with full_precision():
        probs = router_probs(found.inputs["hidden"], found.inputs["router_w"], torch.float32)
    first = int(probs.argmax(-1).bincount(minlength=probs.shape[1]).argmax())
    return first, (first + 1) % probs.shape[1]


def _chosen_weight(found: Subject) -> torch.Tensor:
    """Sum of the chosen experts' probabilities, [T, 1]."""
    with full_precision():
        probs = router_probs(found.inputs["hidden"], found.inputs["router_w"], torch.float32)
    return probs.topk(found.inputs["top_k"]).values.sum(-1, keepdim=True)


def parts(found: Subject, cuts: Sequence[float], change: Change) -> Iterator[torch.Tensor]:
    """Terms of `out` from one part of the inner dimension after the other.

    cuts: where the parts end, as shares of it; change: of the down weights.
    """
    down = found.inputs["down_w"]  # [E, H, I]
    for here in bounds(cuts, down.shape[-1]):
        only = torch.zeros_like(down, dtype=torch.float32)
        only[..., here] = change(down[..., here])
        yield found.golden_of(down_w=only)
