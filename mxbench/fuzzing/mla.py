"""The space of multi-head latent attention: lengths around pages and splits, sharp softmaxes."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import strategies as st

from ..case import Case
from ..ops.mla import QK_DIM, V_DIM, DenseParams
from .space import Limits, near_edges, scales

LOGITS = 32.0  # standard deviation up to which fp32 scores tell neighbours apart
STEPS = (16, 64, 128, 512)


def static_of(case: Case) -> tuple[tuple[str, Any], ...]:
    """The parameters that a case's program is compiled for."""
    p = case.params
    dense = isinstance(p, DenseParams)
    names = ["heads", "kv_heads", "dim", "pe_dim"] if dense else ["heads", "q_len", "page_size"]
    return tuple((name, getattr(p, name)) for name in names)


def draw_static(contract: str, draw: random.Random) -> dict[str, Any]:
    """Some static parameters out of all that make sense."""
    heads = draw.choice((1, 2, 5, 8, 16, 24, 32, 48, 64, 128))
    if contract == "dense":
        return {"heads": heads, "kv_heads": 1, "dim": V_DIM, "pe_dim": QK_DIM - V_DIM}
    return {
        "heads": heads,
        "q_len": draw.randint(1, 4),
        "page_size": draw.choice((16, 32, 64, 128)),
    }


@st.composite
def dynamic(draw: Any, contract: str, static: dict[str, Any], limits: Limits) -> Any:
    """(params, recipe) with these static parameters."""
    rows = static["heads"] * static.get("q_len", 1)
    most = min(limits.elements // QK_DIM, limits.flops // (2 * rows * (QK_DIM + V_DIM)))
    most = max(1, most)
    steps = (static.get("page_size", 64), *STEPS)
    if draw(st.booleans()):  # whichever is drawn first may be large
        batch = draw(near_edges(min(most, 70), 8, 33))
        context = draw(near_edges(max(1, most // batch), *steps))
    else:
        context = draw(near_edges(most, *steps))
        batch = draw(near_edges(max(1, min(most // context, 70)), 8, 33))
    scale = draw(st.one_of(st.none(), scales(0.1, 0.001, 1.0)))
    params = {**static, "batch": batch, "kv_ctx": context, "softmax_scale": scale}
    if contract == "paged":
        params |= {
            "lengths": draw(st.sampled_from(("full", "ragged"))),
            "causal": draw(st.booleans()),
        }
    q, kv = draw(scales(1.0, 0.125, 1e-3, 1e-6, 8.0)), draw(scales(1.0, 0.125, 1e-6, 4.0))
    values = draw(st.sampled_from(("normal", "normal", "normal", "equal")))
    sharpness = q * kv * QK_DIM**0.5 * (scale or QK_DIM**-0.5)
    if values == "equal":
        sharpness *= QK_DIM**0.5
    if sharpness > LOGITS:
        q *= LOGITS / sharpness
    return params, {"q": float(f"{q:.3g}"), "kv": kv, "values": values}
