"""How the public judge calls each operator, and which contract that is. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import MxbenchError, nearest

Sizes = Sequence[tuple[int, ...]]
"""What `getTestCaseSize` says of each argument: a tensor's shape, or () for a scalar."""


@dataclass(frozen=True)
class Signature:
    """One calling convention of the judge and the contract that it stands for."""

    op: str
    contract: str
    arguments: tuple[str, ...]
    """Of `run_kernel`, in order."""
    tensors: Mapping[str, str]
    """Contract argument -> judge argument."""
    options: Mapping[str, str]
    """Contract option -> expression over the judge's arguments."""
    unused: tuple[str, ...] = ()
    """Arguments that the contract has no use for, beside the scalars that repeat the shapes."""

    @property
    def call(self) -> str:
        """The contract's function called with the judge's arguments."""
        words = [*self.tensors.values(), *(f"{n}={text}" for n, text in self.options.items())]
        return f"{self.contract}({', '.join(words)})"


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


_ROUTED = (
    "tokens",
    "gate_w",
    "up_w",
    "down_w",
    "route_w",
    "group_sizes",
    "group_offsets",
    "group_padded_offsets",
    "group_idx_for_bx",
)

MOE = Signature("moe", "routed", (*_ROUTED, "out"), _same(*_ROUTED, "out"), {})
MOE_DRAFT = Signature(
    "moe",
    "routed",
    (
        *_ROUTED, "up_logits", "out", "group_sum", "d_hidden", "d_expert", "n_experts",
        "block_token",
    ),
    _same(*_ROUTED, "out"),
    {},
    unused=("up_logits",),
)  # fmt: skip
MLA = Signature(
    "mla",
    "dense",
    (
        "q", "q_pe", "kv", "k_pe", "output", "batch", "heads", "kv_heads", "kv_ctx", "dim",
        "pe_dim",
    ),
    {**_same("q", "q_pe", "kv", "k_pe"), "out": "output"},
    {"softmax_scale": "(dim + pe_dim) ** -0.5"},
)  # fmt: skip
NSA = Signature(
    "nsa",
    "selected",
    (
        "q", "k", "v", "block_indices", "output", "B", "seq_len", "H", "HQ", "D", "S",
        "block_size", "is_causal",
    ),
    {**_same("q", "k", "v", "block_indices"), "out": "output"},
    {
        "block_size": "block_size",
        "softmax_scale": "D ** -0.5",
        "causal": "bool(is_causal)",
    },
)  # fmt: skip

SIGNATURES = {"moe": MOE, "mla": MLA, "nsa": NSA}
"""What `export` writes for each operator."""


def signature_of(op: str) -> Signature:
    """The judge's signature of an operator; MxbenchError with the nearest name if it has none."""
    if op not in SIGNATURES:
        raise MxbenchError(f"unknown operator {op!r}", nearest(op, SIGNATURES))
    return SIGNATURES[op]


@dataclass(frozen=True)
class Known:
    """A problem's case that is one of an operator that mxbench knows."""

    signature: Signature
    params: dict[str, object]
    """Parameters of the contract, as a suite file writes them."""


def recognise(sizes: Sizes, scalars: Sequence[object] | None = None) -> Known | None:
    """The operator whose shapes these are, or None.

    `scalars` are the arguments' values where they are known, one an argument (anything for a
    tensor); of nsa only they tell the block size and whether attention is causal.
    """
    for find in (_mla, _nsa, _moe):
        known = find(sizes, scalars)
        if known is not None:
            return known
    return None


def _ranks(sizes: Sizes) -> list[int]:
    return [len(shape) for shape in sizes]


def _mla(sizes: Sizes, scalars: Sequence[object] | None) -> Known | None:
    if _ranks(sizes) != [3, 3, 4, 4, 3] + [0] * 6:
        return None
    (batch, heads, dim), (_, _, pe_dim), (_, kv_ctx, kv_heads, _) = sizes[:3]
    fits = sizes[1] == (batch, heads, pe_dim)
    fits &= sizes[2] == (batch, kv_ctx, kv_heads, dim) and sizes[4] == sizes[0]
    fits &= sizes[3] == (batch, kv_ctx, kv_heads, pe_dim)
    params = {
        "batch": batch, "kv_ctx": kv_ctx, "heads": heads, "kv_heads": kv_heads, "dim": dim,
        "pe_dim": pe_dim,
    }  # fmt: skip
    return Known(MLA, dict(params)) if fits else None


def _nsa(sizes: Sizes, scalars: Sequence[object] | None) -> Known | None:
    if _ranks(sizes) != [4] * 5 + [0] * 8:
        return None
    (batch, seqlen, q_heads, dim), (_, _, kv_heads, _) = sizes[:2]
    selected = sizes[3][3]
    fits = sizes[1] == sizes[2] == (batch, seqlen, kv_heads, dim) and sizes[4] == sizes[0]
    fits &= sizes[3] == (batch, seqlen, kv_heads, selected)
    params: dict[str, object] = {
        "batch": batch, "seqlen": seqlen, "kv_heads": kv_heads, "q_heads": q_heads, "dim": dim,
        "selected": selected,
    }  # fmt: skip
    if scalars is not None:
        params |= {"block_size": scalars[11], "causal": bool(scalars[12])}
    return Known(NSA, params) if fits else None


def _moe(sizes: Sizes, scalars: Sequence[object] | None) -> Known | None:
    ranks = [2, 3, 3, 3, 1, 1, 1, 1, 1]
    if _ranks(sizes) == [*ranks, 2]:
        signature, out = MOE, sizes[9]
    elif _ranks(sizes) == [*ranks, 2, 2, 0, 0, 0, 0, 0]:
        signature, out = MOE_DRAFT, sizes[10]
    else:
        return None
    (rows, d_hidden), (experts, d_expert, _) = sizes[:2]
    (pairs,) = sizes[4]
    fits = sizes[1] == sizes[2] == (experts, d_expert, d_hidden) and out == sizes[0]
    fits &= sizes[3] == (experts, d_hidden, d_expert)
    fits &= sizes[5] == sizes[6] == sizes[7] == (experts,)
    params: dict[str, object] = {
        "n_experts": experts,
        "d_hidden": d_hidden,
        "d_expert": d_expert,
        "layout": "compact" if rows == pairs else "padded",
        "group_sum": pairs,
    }
    return Known(signature, params) if fits else None
