"""The space of the mixture of experts: groups around row blocks, empty, hot and single ones."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import strategies as st

from ..case import Case
from ..ops.moe import BLOCK_ROWS, RoutedParams
from .space import Limits, Strategy, near_edges, scales

STEPS = (16, 64, BLOCK_ROWS)
WIDTHS = (64, 128, 192, 256, 320, 448, 512)  # multiples of the least tile


def static_of(case: Case) -> tuple[tuple[str, Any], ...]:
    """The parameters that a case's program is compiled for."""
    names = ["n_experts", "d_hidden", "d_expert"]
    if not isinstance(case.params, RoutedParams):
        names.append("top_k")
    return tuple((name, getattr(case.params, name)) for name in names)


def draw_static(contract: str, draw: random.Random) -> dict[str, Any]:
    """Some static parameters out of all that make sense."""
    experts = draw.choice((1, 2, 3, 8, 16, 60, 128))
    static = {
        "n_experts": experts,
        "d_hidden": draw.choice(WIDTHS),
        "d_expert": draw.choice(WIDTHS),
    }
    if contract == "layer":
        static["top_k"] = draw.randint(1, min(experts, 10))
    return static


def dynamic(contract: str, static: dict[str, Any], limits: Limits) -> Strategy:
    """(params, recipe) with these static parameters."""
    width = static["d_hidden"] * static["d_expert"]
    rows = max(1, min(limits.elements // static["d_hidden"], limits.flops // (6 * width)))
    if contract == "layer":
        return _layer(static, max(1, rows // static["top_k"]))
    return _routed(static, rows)


@st.composite
def _layer(draw: Any, static: dict[str, Any], most: int) -> Any:
    tokens = draw(near_edges(most, *STEPS))
    batch = draw(st.sampled_from([b for b in (1, 2, 3) if tokens % b == 0]))
    values = draw(st.sampled_from(("normal", "normal", "equal")))
    # Denormal inner rows lose bits in every kernel that keeps them in half precision. Small scales
    # of gate and up make them; and where all weights of gate and of up are equal, so does a token
    # whose elements add up to nearly nothing. A large scale of down then shows what is lost.
    down = (static["d_hidden"] ** -0.5, 1e-6, *(() if values == "equal" else (1.0,)))
    recipe = {
        "hidden": draw(scales(1.0, 4.0, 0.5)),
        "gate_up": draw(scales(static["d_expert"] ** -0.5, 0.02)),
        "down": draw(scales(*down)),
        "skew": draw(scales(0.0, 4.0, 30.0)),
        "values": values,
    }
    return {**static, "batch": batch, "seqlen": tokens // batch}, recipe


@st.composite
def _routed(draw: Any, static: dict[str, Any], most: int) -> Any:
    params = {**static, "layout": draw(st.sampled_from(("compact", "padded")))}
    recipe = {
        "tokens": draw(scales(1.0, 1e-6, 0.02, 8.0)),
        "down": draw(scales(static["d_hidden"] ** -0.5, 1e-6)),
        "route_w": draw(st.sampled_from(("router", "uniform"))),
        "values": draw(st.sampled_from(("normal", "normal", "equal"))),
    }
    experts = static["n_experts"]
    if draw(st.booleans()):
        size = near_edges(max(1, most // experts), *STEPS)
        sizes = draw(st.lists(st.one_of(st.just(0), size), min_size=experts, max_size=experts))
        if draw(st.booleans()) or not any(sizes):  # one group may be large, and one is not empty
            sizes[draw(st.integers(0, experts - 1))] = draw(near_edges(most, *STEPS))
        return params | {"group_sizes": sizes}, recipe
    recipe["routing"] = draw(st.sampled_from(("uniform", "even", "hot", "empty")))
    return params | {"group_sum": draw(near_edges(most, *STEPS))}, recipe
