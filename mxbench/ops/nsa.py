"""Native sparse attention, forward: `selected` (blocks given) and `full` (all three branches)."""

from __future__ import annotations

import math
from typing import Literal

from .base import (
    ELEMENT_BYTES,
    Contract,
    Dtype,
    Operator,
    Params,
    Recipe,
    StrictTolerance,
    Work,
    is_power_of_two,
    require_positive,
)

INDEX_BYTES = 4  # of int32 block indices
FORCED_BLOCKS = 3  # of `full`: the first, the previous and the current block

Pattern = Literal[
    "random",
    "random_pinned",
    "local",
    "clustered",
    "unsorted",
    "repeated",
    "future",
    "negative",
    "none",
]
Branch = Literal["compressed", "selected", "window"]


def _check_attention(params: SelectedParams | FullParams) -> None:
    """What both contracts ask of their sizes; ValueError names the fault."""
    require_positive(params, "batch", "seqlen", "kv_heads", "q_heads", "dim", "block_size")
    if params.q_heads % params.kv_heads:
        raise ValueError(
            f"q_heads must be a multiple of kv_heads: {params.q_heads} query heads, "
            f"{params.kv_heads} KV"
        )
    if not is_power_of_two(params.block_size):
        raise ValueError(f"block_size must be a power of two, not {params.block_size}")
    scale = params.softmax_scale
    if scale is not None and not 0 < scale < math.inf:
        raise ValueError(f"softmax_scale must be a positive number, not {scale}")


def _size_label(params: SelectedParams | FullParams) -> str:
    p = params
    return f"B{p.batch}-T{p.seqlen}-H{p.kv_heads}-HQ{p.q_heads}-D{p.dim}"


class SelectedParams(Params, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Sizes of a `selected` call: each query attends to the blocks it is given."""

    batch: int
    seqlen: int
    kv_heads: int
    q_heads: int
    dim: int
    selected: int
    """S, the width of `block_indices`: blocks a query and KV head may name."""
    block_size: int
    """Tokens of a block; a power of two."""
    causal: bool = True
    softmax_scale: float | None = None
    """Null for dim ** -0.5; the contest's sample uses 0.1."""

    def __post_init__(self) -> None:
        _check_attention(self)
        require_positive(self, "selected")

    @property
    def scale(self) -> float:
        return self.softmax_scale or self.dim**-0.5

    @property
    def group(self) -> int:
        """Query heads that share a KV head and its selection."""
        return self.q_heads // self.kv_heads

    def label(self) -> str:
        parts = [f"{_size_label(self)}-S{self.selected}-block{self.block_size}"]
        if not self.causal:
            parts.append("noncausal")
        if self.softmax_scale is not None:
            parts.append(f"scale{self.softmax_scale:g}")
        return "-".join(parts)


class FullParams(Params, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Sizes of a `full` call; the defaults are the paper's."""

    batch: int
    seqlen: int
    kv_heads: int
    q_heads: int
    dim: int
    block_size: int = 64
    """Tokens of a selection block; a power of two and a multiple of cmp_stride."""
    top_k: int = 16
    """Blocks a query attends to, the three forced ones included."""
    window: int = 512
    """Tokens of the sliding window, the current one included."""
    cmp_kernel: int = 32
    """Tokens averaged into one compressed key and value; a multiple of cmp_stride."""
    cmp_stride: int = 16
    """Tokens from one compression window to the next."""
    softmax_scale: float | None = None
    """Null for dim ** -0.5."""

    def __post_init__(self) -> None:
        _check_attention(self)
        require_positive(self, "top_k", "window", "cmp_kernel", "cmp_stride")
        if self.top_k < FORCED_BLOCKS:
            raise ValueError(
                f"top_k must be at least {FORCED_BLOCKS}, not {self.top_k}: "
                "the first, the previous and the current block are always chosen"
            )
        for name in ("cmp_kernel", "block_size"):
            if getattr(self, name) % self.cmp_stride:
                raise ValueError(
                    f"{name} must be a multiple of cmp_stride: "
                    f"{getattr(self, name)} and {self.cmp_stride}"
                )

    @property
    def scale(self) -> float:
        return self.softmax_scale or self.dim**-0.5

    @property
    def group(self) -> int:
        """Query heads that share a KV head and its choice of blocks."""
        return self.q_heads // self.kv_heads

    @property
    def windows(self) -> int:
        """Compressed keys of a sequence."""
        return max(0, (self.seqlen - self.cmp_kernel) // self.cmp_stride + 1)

    def label(self) -> str:
        parts = [
            f"{_size_label(self)}-K{self.top_k}-block{self.block_size}-W{self.window}"
            f"-cmp{self.cmp_kernel}x{self.cmp_stride}"
        ]
        if self.softmax_scale is not None:
            parts.append(f"scale{self.softmax_scale:g}")
        return "-".join(parts)


def _check_scale(recipe: SelectedRecipe | FullRecipe) -> None:
    if not 0 < recipe.scale < math.inf:
        raise ValueError(f"scale must be a positive number, not {recipe.scale}")


class SelectedRecipe(Recipe, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Normal draws times `scale`, and which blocks the queries select.

    Patterns of whole suites (ascending, empty places at the end hold `seqlen`):

    * `random`: blocks before the query's own, drawn without repetition; block 0 selects itself
      (the contest's sample);
    * `random_pinned`: the first block, the query's own, and random ones between;
    * `local`: the blocks right before the query's own; block 0 selects itself (the judge);
    * `clustered`: the first block, the query's own, and blocks between that each stay from one
      query to the next unless redrawn (probability `redraw`), as trained models select.

    Patterns for edges, each starting from `random_pinned`:

    * `unsorted`: in any order, empty places in between;
    * `repeated`: some blocks named twice or more;
    * `future`: some places name blocks after the query or past the end;
    * `negative`: some places are negative;
    * `none`: a third of the queries, the first and the last among them, select nothing.
    """

    scale: float = 1.0
    """1 in the contest's sample, 0.125 in its judge."""
    pattern: Pattern = "random"
    redraw: float = 0.05
    """Of `clustered`: the probability that a block changes from one query to the next."""

    def __post_init__(self) -> None:
        _check_scale(self)
        if not 0 <= self.redraw <= 1:
            raise ValueError(f"redraw must be a probability in [0, 1], not {self.redraw}")


class FullRecipe(Recipe, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Normal draws times `scale`; gates are sigmoids of normal draws, as a model's are."""

    scale: float = 1.0
    only: Branch | None = None
    """Close the other two gates, so that a fault of this branch stands alone."""

    def __post_init__(self) -> None:
        _check_scale(self)


def _visible(seqlen: int, most: int, causal: bool = True) -> int:
    """Keys that all queries of a sequence meet: `most` each, or all in sight if they are fewer.

    A causal query t sees t + 1 keys, any other all of them.
    """
    most = min(most, seqlen)
    if not causal:
        return seqlen * most
    return most * (most + 1) // 2 + (seqlen - most) * most


def _visible_windows(params: FullParams) -> int:
    """Compressed keys that all queries of a sequence see: those whose window has ended.

    Query t sees (t + 1 - cmp_kernel) // cmp_stride + 1 of them, so window i is seen by the
    seqlen - cmp_kernel + 1 - i * cmp_stride queries from its last token on.
    """
    p, count = params, params.windows
    return count * (p.seqlen - p.cmp_kernel + 1) - p.cmp_stride * (count * (count - 1) // 2)


def selected_work(params: SelectedParams) -> Work:
    """Least work of `selected`.

    FLOPs: 4 * B * HQ * D * (keys the queries meet), 2 for the scores and 2 for the weighted sum.
    A query meets S * block_size keys, or all in sight if they are fewer, so a long sequence has
    the usual 4 * B * T * HQ * S * block_size * D but for its first few rows (0.8 % at 64K with
    1024 keys). Indices that name nothing are counted: the work does not depend on the draw.
    Bytes: q, k, v, block_indices and out once.
    """
    p = params
    keys = _visible(p.seqlen, p.selected * p.block_size, p.causal)
    return Work(flops=4 * p.batch * p.q_heads * p.dim * keys, bytes=selected_footprint(p))


def selected_footprint(params: SelectedParams) -> int:
    """Bytes of all tensors of one call, each of which is read or written once."""
    p = params
    tokens = p.batch * p.seqlen
    elements = tokens * p.dim * 2 * (p.q_heads + p.kv_heads)
    return elements * ELEMENT_BYTES + tokens * p.kv_heads * p.selected * INDEX_BYTES


def full_work(params: FullParams) -> Work:
    """Least work of `full`.

    FLOPs: 4 * B * HQ * D * keys for each branch: compression over the windows that have ended,
    selection over top_k * block_size keys, the sliding window over `window` (the last two, or all
    in sight if they are fewer). Averaging K and V is no matrix product and not counted.
    Bytes: q, k, v, gates, out and chosen once; compressed keys and values need not be stored.
    """
    p = params
    keys = (
        _visible_windows(p)
        + _visible(p.seqlen, p.top_k * p.block_size)
        + _visible(p.seqlen, p.window)
    )
    return Work(flops=4 * p.batch * p.q_heads * p.dim * keys, bytes=full_footprint(p))


def full_footprint(params: FullParams) -> int:
    """Bytes of all tensors of one call; compressed keys and values are a kernel's own."""
    p = params
    tokens = p.batch * p.seqlen
    elements = tokens * (p.dim * 2 * (p.q_heads + p.kv_heads) + 3 * p.q_heads)
    return elements * ELEMENT_BYTES + tokens * p.kv_heads * p.top_k * INDEX_BYTES


def strict(params: SelectedParams | FullParams, dtype: Dtype) -> StrictTolerance:
    """Limits about three times an honest half-precision kernel's error.

    Simulated: fp32 scores and sums, probabilities rounded before the second product (normalised or
    not), output rounded; for `full` also compressed keys and values and each branch's output.
    Head dims 32 to 128, 16 to 1024 keys, inputs of N(0, 0.125) to N(0, 2), scale 0.1 and D**-0.5:

                     whole output   worst row
    selected  fp16   2.3 to 3.0e-4  5.9e-4
    full      fp16   3.1 to 3.9e-4  8.1e-4
    selected  bf16   1.8 to 2.4e-3  4.8e-3
    full      bf16   2.5 to 3.0e-3  6.2e-3

    The error hardly depends on the sizes, so neither do the limits.
    """
    if dtype == "float16":
        return StrictTolerance(rms_ratio=1e-3, row_rms_ratio=2.5e-3)
    return StrictTolerance(rms_ratio=8e-3, row_rms_ratio=2e-2)


SELECTED = Contract(
    op="nsa",
    name="selected",
    tensors=("q", "k", "v", "block_indices", "out"),
    outputs=("out",),
    options=("block_size", "softmax_scale", "causal"),
    params=SelectedParams,
    recipe=SelectedRecipe,
    work=selected_work,
    footprint=selected_footprint,
    dynamic=("batch", "seqlen", "kv_heads"),
    row_axes={"out": ("batch", "token", "head", "dim")},
    strict=strict,
)

FULL = Contract(
    op="nsa",
    name="full",
    tensors=("q", "k", "v", "g_cmp", "g_slc", "g_swa", "out", "chosen"),
    outputs=("out", "chosen"),
    options=("block_size", "top_k", "window", "cmp_kernel", "cmp_stride", "softmax_scale"),
    params=FullParams,
    recipe=FullRecipe,
    work=full_work,
    footprint=full_footprint,
    dynamic=("batch", "seqlen", "kv_heads"),
    row_axes={
        "out": ("batch", "token", "head", "dim"),
        "chosen": ("batch", "token", "KV head", "choice"),
    },
    strict=strict,
)

NSA = Operator(
    name="nsa",
    title="Native sparse attention (forward)",
    contracts={"selected": SELECTED, "full": FULL},
)
