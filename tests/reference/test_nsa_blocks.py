"""The index patterns of nsa `selected`."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mxbench.ops.nsa import Pattern, SelectedRecipe
from mxbench.reference.nsa_blocks import block_indices

from .plain_nsa import sizes


def drawn(pattern: Pattern, seed: int = 1, redraw: float = 0.05, **change: Any) -> torch.Tensor:
    params = sizes(**{"seqlen": 1000, "selected": 6, **change})
    recipe = SelectedRecipe(pattern=pattern, redraw=redraw)
    return block_indices(params, recipe, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("pattern", ["random", "random_pinned", "local", "clustered"])
@pytest.mark.parametrize("slots", [1, 2, 3, 6])
def test_suite_patterns_are_sorted_causal_and_without_repetition(pattern, slots):
    indices = drawn(pattern, selected=slots)  # [1, 1000, 2, slots]
    assert indices.dtype == torch.int32
    own = (torch.arange(1000) // 8).view(1, -1, 1)
    named = indices != 1000
    assert (indices[named] >= 0).all()
    assert torch.where(named, indices, 0).amax(-1).le(own).all()
    step = indices.diff(dim=-1)
    assert ((step > 0) | (indices[..., 1:] == 1000)).all()
    # As many blocks as there are to choose from
    there = {"random": own.clamp(min=1), "local": own.clamp(min=1)}.get(pattern, own + 1)
    assert (named.sum(-1) == there.clamp(max=slots)).all()


def test_random_follows_the_contests_sample():
    indices = drawn("random", batch=20)
    assert indices[0, :8, :, 0].eq(0).all()  # block 0 has no block before it and selects itself
    own = torch.arange(8, 1000) // 8
    last = torch.where(indices == 1000, -1, indices).amax(-1)[:, 8:]
    assert (last < own.unsqueeze(-1)).all()
    counts = torch.bincount(indices[:, 800:].flatten())[:100].float()
    assert counts.min() > 0.8 * counts.mean()  # every earlier block gets its turn


def test_local_is_the_blocks_right_before():
    indices = drawn("local", selected=3)
    assert indices[0, 0, 0].tolist() == [0, 1000, 1000]
    assert indices[0, 23, 0].tolist() == [0, 1, 1000]
    assert indices[0, 999, 1].tolist() == [121, 122, 123]


@pytest.mark.parametrize("pattern", ["random_pinned", "clustered"])
def test_pinned_patterns_hold_the_first_and_the_own_block(pattern):
    indices = drawn(pattern)
    own = (torch.arange(1000) // 8).view(1, -1, 1, 1)
    assert (indices == 0).any(-1).all()
    assert (indices == own).any(-1).all()


@pytest.mark.parametrize("redraw", [0.05, 0.3])
def test_clustered_keeps_its_predecessors_blocks(redraw):
    indices = drawn("clustered", seqlen=4000, selected=10, redraw=redraw)[0, :, 0]  # [4000, 10]
    later = [t for t in range(1000, 4000) if t % 8]  # where the query's own block stays
    kept = [len(set(indices[t].tolist()) & set(indices[t - 1].tolist())) for t in later]
    changed = sum(10 - n for n in kept) / len(kept) / 8
    assert changed == pytest.approx(redraw, rel=0.1)


def test_degenerate_patterns_are_what_they_say():
    own = (torch.arange(1000) // 8).view(1, -1, 1, 1)
    assert (drawn("unsorted").diff(dim=-1) < 0).any()
    repeated = drawn("repeated").sort(-1).values
    assert ((repeated.diff(dim=-1) == 0) & (repeated[..., 1:] < 1000)).any()
    future = drawn("future")
    assert ((future > own) & (future < 125)).any()
    assert ((future >= 125) & (future < 1000)).any()
    assert (drawn("negative") == -1).any() and (drawn("negative") < -1).any()
    none = drawn("none")
    nothing = ((none < 0) | (none == 1000)).all(-1)
    assert nothing[0, 0].all() and nothing[0, -1].all()
    assert 0.2 < nothing.float().mean() < 0.5
