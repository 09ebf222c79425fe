"""The goldens of nsa against plain loops, their memory, their tolerances, and the inputs."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from mxbench import compare
from mxbench.ops.nsa import FullRecipe, Pattern, SelectedRecipe
from mxbench.reference import make_inputs, make_outputs, nsa
from mxbench.verdict import Status

from .plain_nsa import CPU, case, full_sizes, golden, plain_full, plain_selected, sizes

# ---- selected ----


@pytest.mark.parametrize(
    "change, pattern",
    [
        ({}, "random"),
        ({"batch": 2, "q_heads": 2}, "local"),
        ({"kv_heads": 1, "q_heads": 16}, "random_pinned"),
        ({"selected": 5, "softmax_scale": 0.1}, "clustered"),
        ({"selected": 12}, "unsorted"),
        ({"batch": 2, "selected": 4}, "repeated"),
        ({}, "future"),
        ({"causal": False}, "future"),
        ({"causal": False, "selected": 1}, "local"),
        ({"batch": 2}, "negative"),
        ({}, "none"),
        ({"seqlen": 1}, "random"),
        ({"seqlen": 16}, "random"),
    ],
)
def test_selected_golden_equals_plain_loops(change, pattern):
    some = case(sizes(**change), SelectedRecipe(pattern=pattern))
    inputs = make_inputs(some, CPU)
    plain = plain_selected(some.params, inputs)
    torch.testing.assert_close(golden(some, inputs).tensors["out"], plain, rtol=1e-12, atol=1e-12)
    single = golden(some, inputs, "fp32").tensors["out"]
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), plain, rtol=1e-5, atol=1e-5)


def test_selected_golden_of_a_query_that_selects_nothing_is_zero():
    some = case(sizes(), SelectedRecipe(pattern="none"))
    inputs = make_inputs(some, CPU)
    out = golden(some, inputs).tensors["out"]
    assert not out[:, 0].any() and not out[:, -1].any()
    assert out.any()


def test_selected_golden_counts_a_repeated_block_as_often_as_it_stands():
    some = case(sizes(seqlen=16, kv_heads=1, q_heads=1, selected=3))
    inputs = make_inputs(some, CPU)
    inputs["q"].zero_()  # every key weighs the same
    inputs["block_indices"][0, 15, 0] = torch.tensor([0, 1, 1])
    v = inputs["v"][0, :, 0].double()
    wanted = (v[:8].sum(0) + 2 * v[8:16].sum(0)) / 24
    torch.testing.assert_close(golden(some, inputs).tensors["out"][0, 15, 0], wanted)


def test_goldens_do_not_depend_on_the_size_of_a_slab(monkeypatch):
    some, full = case(sizes()), case(full_sizes(seqlen=45))
    inputs = make_inputs(full, CPU)
    chosen = plain_full(full.params, inputs)[1]
    whole = golden(some, make_inputs(some, CPU)).tensors["out"]
    whole_full = golden(full, inputs, chosen=chosen)
    monkeypatch.setattr("mxbench.reference.draw.SLAB_BYTES", 200_000)
    split = golden(some, make_inputs(some, CPU)).tensors["out"]
    torch.testing.assert_close(split, whole, rtol=1e-13, atol=1e-13)
    split_full = golden(full, inputs, chosen=chosen)
    assert whole_full.problem is None and split_full.problem is None
    torch.testing.assert_close(
        split_full.tensors["out"], whole_full.tensors["out"], rtol=1e-13, atol=1e-13
    )
    chosen[0, 40, 1, 0] = -1  # places are right in every slab
    assert "token 40, KV head 1]" in golden(full, inputs, chosen=chosen).problem


@pytest.mark.parametrize("contract", ["selected", "full"])
def test_goldens_score_no_more_than_a_slab_at_once(contract, monkeypatch):
    if contract == "selected":
        some = case(sizes(seqlen=2048, kv_heads=1, q_heads=2), SelectedRecipe(pattern="local"))
    else:
        some = case(full_sizes(seqlen=2048, kv_heads=1, q_heads=2))
    scored = []

    def watched(q, k, v, visible, scale):
        scored.append(4 * (q.shape[0] * q.shape[1] * k.shape[-2] + k.numel()))
        return attend(q, k, v, visible, scale)

    attend = nsa.attend
    monkeypatch.setattr(nsa, "attend", watched)
    monkeypatch.setattr("mxbench.reference.draw.SLAB_BYTES", 1 << 20)
    inputs = make_inputs(some, CPU)
    chosen = torch.zeros(1, 2048, 1, 4, dtype=torch.int32)
    golden(some, inputs, "fp32", chosen=chosen)
    assert len(scored) > 2
    assert max(scored) <= 1 << 20  # 2048 x 2048 fp32 scores would be 16 times that


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("scale", [0.125, 1.0])
def test_strict_tolerance_passes_rounding_and_catches_small_faults(dtype, scale, monkeypatch):
    """Faults of one query that the contest's tolerance (0.01) does not see at the judge's scale."""
    params = sizes(seqlen=150, dim=32, selected=6, q_heads=8)
    some = case(params, SelectedRecipe(pattern="random_pinned", scale=scale), dtype)
    half = getattr(torch, dtype)
    inputs = make_inputs(some, CPU)
    wanted = golden(some, inputs, "fp32")
    plain = nsa.attend

    def rounding(q, k, v, visible, softmax_scale):
        _, probs = plain(q, k, v, visible, softmax_scale)
        return probs.to(half).float() @ v, probs

    monkeypatch.setattr(nsa, "attend", rounding)

    def verdict(out: torch.Tensor):
        limits = some.spec.strict(some.params, some.dtype)
        return compare.judge(some.spec, some.tolerance, limits, {"out": out.to(half)}, wanted)

    honest = golden(some, inputs, "fp32").tensors["out"]
    assert verdict(honest).passed

    def ignored_block():
        less = {**inputs, "block_indices": inputs["block_indices"].clone()}
        less["block_indices"][0, 140, 1, 2] = 150
        return golden(some, less, "fp32").tensors["out"]

    def dropped_tile():
        less = {**inputs, "v": inputs["v"].clone()}
        less["v"][0, 64:72, 1] = 0
        return golden(some, less, "fp32").tensors["out"]

    def zero_head():
        out = honest.clone()
        out[0, 77, 5] = 0
        return out

    def exchanged_heads():  # of two KV heads: at scale 0.125 those of one put out nearly the same
        out = honest.clone()
        out[0, 77, [3, 4]] = honest[0, 77, [4, 3]]
        return out

    for fault in (ignored_block, dropped_tile, zero_head, exchanged_heads):
        found = verdict(fault())
        assert found.strict is Status.MISMATCH, fault.__name__
        assert found.errors.worst_row_rms_ratio > 5 * some.spec.strict(None, dtype).row_rms_ratio
    if dtype == "float16":
        assert verdict(honest * 1.02).strict is Status.MISMATCH


# ---- full ----


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"batch": 2, "kv_heads": 1, "q_heads": 16, "seqlen": 33},
        {"q_heads": 2, "cmp_kernel": 8, "cmp_stride": 8, "window": 1},
        {"top_k": 3, "softmax_scale": 1.5},
        {"top_k": 12, "cmp_kernel": 12, "cmp_stride": 4, "window": 200},
        {"seqlen": 3},  # shorter than one compression window
    ],
)
def test_full_golden_equals_plain_loops(change):
    some = case(full_sizes(**change))
    inputs = make_inputs(some, CPU)
    plain, chosen = plain_full(some.params, inputs)
    found = golden(some, inputs, chosen=chosen)
    assert found.problem is None
    assert set(found.tensors) == {"out"}
    torch.testing.assert_close(found.tensors["out"], plain, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("only, gate", [("compressed", "g_cmp"), ("window", "g_swa")])
def test_recipe_closes_the_other_gates(only, gate):
    inputs = make_inputs(case(full_sizes(), FullRecipe(only=only)), CPU)
    assert {name for name in ("g_cmp", "g_slc", "g_swa") if inputs[name].any()} == {gate}


# ---- inputs ----


@pytest.mark.parametrize("pattern", get_args(Pattern))
def test_inputs_are_a_function_of_the_seed(pattern):
    recipe = SelectedRecipe(pattern=pattern, scale=0.125)
    first, again = (make_inputs(case(sizes(), recipe), CPU) for _ in range(2))
    other = make_inputs(case(sizes(), recipe, seed=4), CPU)
    for name in ("q", "k", "v", "block_indices"):
        assert torch.equal(first[name], again[name])
    assert not torch.equal(first["q"], other["q"])
    if pattern != "local":
        assert not torch.equal(first["block_indices"], other["block_indices"])
    assert first["q"].float().std() == pytest.approx(0.125, rel=0.1)


@pytest.mark.parametrize("some", [case(sizes()), case(full_sizes(), dtype="bfloat16")])
def test_inputs_and_outputs_are_the_contracts_arguments(some):
    inputs = make_inputs(some, CPU)
    outputs = make_outputs(some, inputs, CPU)
    spec = some.spec
    assert set(inputs) == {*spec.tensors, *spec.options} - set(spec.outputs)
    assert set(outputs) == set(spec.outputs)
    tensors = [inputs.get(name, outputs.get(name)) for name in spec.tensors]
    assert sum(x.numel() * x.element_size() for x in tensors) == some.footprint
    assert all(x.is_contiguous() for x in tensors)
    assert outputs["out"].isnan().all()
    assert inputs["softmax_scale"] == pytest.approx(8**-0.5)
