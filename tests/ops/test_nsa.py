"""Sizes, work and tolerances of nsa."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import msgspec
import pytest

from mxbench.ops.nsa import (
    NSA,
    FullParams,
    FullRecipe,
    SelectedParams,
    SelectedRecipe,
    full_work,
    selected_work,
)

SELECTED = {
    "batch": 3, "seqlen": 10, "kv_heads": 2, "q_heads": 4, "dim": 2, "selected": 1, "block_size": 4
}  # fmt: skip
FULL = {
    "batch": 3, "seqlen": 23, "kv_heads": 2, "q_heads": 4, "dim": 2, "block_size": 4, "top_k": 3,
    "window": 5, "cmp_kernel": 4, "cmp_stride": 2,
}  # fmt: skip


def selected(**change: Any) -> SelectedParams:
    return msgspec.convert({**SELECTED, **change}, SelectedParams)


def full(**change: Any) -> FullParams:
    return msgspec.convert({**FULL, **change}, FullParams)


@pytest.mark.parametrize(
    "make, change, words",
    [
        (selected, {"block_size": 48}, "block_size must be a power of two, not 48"),
        (selected, {"block_size": 0}, "block_size must be at least 1, not 0"),
        (selected, {"q_heads": 5}, "q_heads must be a multiple of kv_heads: 5 query heads, 2 KV"),
        (selected, {"seqlen": -4}, "seqlen must be at least 1, not -4"),
        (selected, {"selected": 0}, "selected must be at least 1"),
        (selected, {"dim": 0}, "dim must be at least 1"),
        (selected, {"batch": 0}, "batch must be at least 1"),
        (selected, {"softmax_scale": 0.0}, "softmax_scale must be a positive number"),
        (selected, {"softmax_scale": -1.0}, "softmax_scale must be a positive number"),
        (full, {"top_k": 2}, "top_k must be at least 3, not 2"),
        (full, {"window": 0}, "window must be at least 1"),
        (full, {"cmp_stride": 0}, "cmp_stride must be at least 1"),
        (full, {"cmp_kernel": 3}, "cmp_kernel must be a multiple of cmp_stride: 3 and 2"),
        (full, {"cmp_kernel": 8, "cmp_stride": 8}, "block_size must be a multiple of cmp_stride"),
        (full, {"block_size": 6}, "block_size must be a power of two"),
        (full, {"kv_heads": 3}, "q_heads must be a multiple of kv_heads"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(make, change, words):
    with pytest.raises(msgspec.ValidationError, match=words):
        make(**change)


@pytest.mark.parametrize(
    "recipe, fields, words",
    [
        (SelectedRecipe, {"pattern": "lokal"}, "pattern"),
        (SelectedRecipe, {"redraw": 1.5}, "redraw must be a probability"),
        (SelectedRecipe, {"scale": 0.0}, "scale must be a positive number"),
        (FullRecipe, {"scale": -1.0}, "scale must be a positive number"),
        (FullRecipe, {"only": "sliding"}, "only"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(recipe, fields, words):
    with pytest.raises(msgspec.ValidationError, match=words):
        msgspec.convert(fields, recipe)


def test_scale_defaults_to_the_root_of_the_head_dim():
    assert selected(dim=64).scale == full(dim=64).scale == 0.125
    assert selected(softmax_scale=0.1).scale == 0.1


def test_labels_tell_apart_every_parameter():
    changes = [{"batch": 1}, {"seqlen": 9}, {"kv_heads": 4}, {"q_heads": 8}, {"dim": 4}]
    changes += [{"softmax_scale": 0.1}, {"block_size": 8}, {}]
    both = [[*changes, {"selected": 2}, {"causal": False}]]
    both.append([*changes, {"top_k": 4}, {"window": 6}, {"cmp_kernel": 8}, {"cmp_stride": 1}])
    for make, variants in zip((selected, full), both, strict=True):
        labels = [make(**change).label() for change in variants]
        assert len(set(labels)) == len(labels)
    assert selected().label() == "B3-T10-H2-HQ4-D2-S1-block4"
    assert full().label() == "B3-T23-H2-HQ4-D2-K3-block4-W5-cmp4x2"


def test_selected_work_by_hand():
    # Causal, one block of 4: queries 0, 1, 2 see 1, 2, 3 keys, the other seven 4: 34 keys.
    work = selected_work(selected())
    assert work.flops == 4 * 3 * 4 * 2 * 34
    # fp16: q and out 3*10*4*2 elements each, k and v 3*10*2*2; int32: 3*10*2*1 indices
    assert work.bytes == 2 * (2 * 240 + 2 * 120) + 4 * 60
    assert selected_work(selected(causal=False)).flops == 4 * 3 * 4 * 2 * 40
    # More blocks than there are: no more keys than in sight
    assert selected_work(selected(selected=9)).flops == 4 * 3 * 4 * 2 * 55
    assert selected_work(selected(selected=9, causal=False)).flops == 4 * 3 * 4 * 2 * 100


@pytest.mark.parametrize("change", [{}, {"cmp_kernel": 2}, {"seqlen": 3}, {"seqlen": 4}])
def test_full_work_counts_what_each_query_sees(change):
    p = full(**change)
    keys = 0
    for t in range(p.seqlen):
        keys += sum(i * 2 + p.cmp_kernel <= t + 1 for i in range(p.seqlen))
        keys += min(t + 1, 3 * 4) + min(t + 1, 5)
    assert full_work(p).flops == 4 * 3 * 4 * 2 * keys
    tokens = 3 * p.seqlen
    elements = 2 * tokens * 4 * 2 + 2 * tokens * 2 * 2 + 3 * tokens * 4
    assert full_work(p).bytes == 2 * elements + 4 * tokens * 2 * 3


def test_work_at_64k_is_what_public_figures_say():
    heads = {"batch": 1, "seqlen": 65536, "kv_heads": 4, "q_heads": 64, "dim": 128}
    flops = selected_work(selected(**heads, selected=16, block_size=64)).flops
    assert flops == pytest.approx(4 * 65536 * 64 * 1024 * 128, rel=0.01)
    paper = FullParams(**heads)
    assert paper.windows == 4095
    assert full_work(paper).flops == pytest.approx(2.18e12 + 4.4e12 + 1.1e12, rel=0.01)


@pytest.mark.parametrize("contract", NSA.contracts.values(), ids=lambda c: c.name)
def test_strict_tolerance_of_fp16_is_far_below_two_percent(contract):
    params = selected() if contract.name == "selected" else full()
    half, bf = (contract.strict(params, dtype) for dtype in ("float16", "bfloat16"))
    assert half.rms_ratio <= half.row_rms_ratio <= 0.005
    assert bf.rms_ratio <= bf.row_rms_ratio <= 0.03


def test_operator_is_importable_without_torch():
    code = "import sys, mxbench.ops.nsa, mxbench.verdict; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
