"""The space of sparse attention: every index pattern, lengths around blocks, windows and tiles."""

from __future__ import annotations

import random
from typing import Any, get_args

from hypothesis import strategies as st

from ..case import Case
from ..ops.nsa import Branch, FullParams, Pattern
from .space import Limits, near_edges, scales

LOGITS = 32.0  # standard deviation up to which fp32 scores tell neighbours apart
SELECTED = ("dim", "selected", "block_size", "causal")
FULL = ("dim", "block_size", "top_k", "window", "cmp_kernel", "cmp_stride")


def static_of(case: Case) -> tuple[tuple[str, Any], ...]:
    """The parameters that a case's program is compiled for; `group` stands for the heads."""
    p = case.params
    names = FULL if isinstance(p, FullParams) else SELECTED
    group: int = p.group  # type: ignore[attr-defined]  # both have it
    return (("group", group), *((name, getattr(p, name)) for name in names))


def draw_static(contract: str, draw: random.Random) -> dict[str, Any]:
    """Some static parameters out of all that make sense."""
    static = {"group": draw.choice((1, 2, 4, 16, 32, 64)), "dim": draw.choice((32, 64, 128))}
    block = draw.choice((16, 32, 64, 128))
    if contract == "selected":
        count = draw.randint(1, 16)
        return {**static, "selected": count, "block_size": block, "causal": draw.random() < 0.7}
    stride = draw.choice((8, 16))
    return {
        **static,
        "block_size": block,
        "top_k": draw.randint(3, 16),
        "window": draw.choice((1, 7, 64, 100, 512)),
        "cmp_kernel": stride * draw.randint(1, 3),
        "cmp_stride": stride,
    }


@st.composite
def dynamic(draw: Any, contract: str, static: dict[str, Any], limits: Limits) -> Any:
    """(params, recipe) with these static parameters."""
    fixed = {name: value for name, value in static.items() if name != "group"}
    if contract == "selected":
        keys = static["selected"] * static["block_size"]
    else:
        keys = static["top_k"] * static["block_size"] + static["window"]
    each = static["group"] * static["dim"]  # of one token and KV head
    most = max(1, min(limits.elements // each, limits.flops // (4 * each * keys)))
    kv_heads = draw(st.integers(1, min(4, most)))
    batch = draw(st.integers(1, max(1, min(3, most // kv_heads))))
    tokens = draw(near_edges(max(1, most // kv_heads // batch), static["block_size"], 16, 128))
    scale = draw(st.one_of(st.none(), scales(0.1, 1.0, 0.001)))
    drawn = draw(scales(1.0, 0.125, 1e-3, 1e-6, 4.0))
    values = draw(st.sampled_from(("normal", "normal", "normal", "equal")))
    sharpness = drawn**2 * static["dim"] ** 0.5 * (scale or static["dim"] ** -0.5)
    if values == "equal":
        sharpness *= static["dim"] ** 0.5
    # Compressed keys are kept in the dtype. Where their branch stands alone, a quarter of the range
    # lets that rounding alone reach 2.5 % of a row in bf16, of 2 % allowed; this much, 1.4 %.
    most_sharp = LOGITS if contract == "selected" else LOGITS / 8
    if sharpness > most_sharp:
        drawn *= (most_sharp / sharpness) ** 0.5
    params = {
        **fixed,
        "batch": batch,
        "seqlen": tokens,
        "kv_heads": kv_heads,
        "q_heads": kv_heads * static["group"],
        "softmax_scale": scale,
    }
    recipe = {"scale": float(f"{drawn:.3g}"), "values": values}
    if contract == "selected":
        recipe["pattern"] = draw(st.sampled_from(get_args(Pattern)))
    else:
        recipe["only"] = draw(st.sampled_from((None, *get_args(Branch))))
    return params, recipe
