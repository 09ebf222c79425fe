"""MLA inputs and goldens."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

from mxbench import reference
from mxbench.case import Case
from mxbench.compare import judge
from mxbench.ops.mla import SPARE_PAGES
from mxbench.reference import Expected, draw
from mxbench.verdict import Status

DENSE = {"batch": 2, "heads": 4, "kv_ctx": 37, "dim": 32, "pe_dim": 8}
RAGGED = {"batch": 8, "heads": 3, "kv_ctx": 40, "page_size": 8, "lengths": "ragged"}
Make = Callable[..., Case]


def golden(case: Case, inputs: dict[str, Any], precision: str = "fp64") -> dict[str, torch.Tensor]:
    outputs = reference.make_outputs(case, inputs, "cpu")
    return reference.expected(case, inputs, outputs, precision).tensors


def attend(q: torch.Tensor, keys: list[torch.Tensor], v_dim: int, scale: float) -> tuple:
    """One query over a list of keys, in plain fp64: the output and the log-sum-exp."""
    if not keys:
        return torch.zeros(v_dim, dtype=torch.float64), -math.inf
    power = [math.exp(float((q.double() * k.double()).sum()) * scale) for k in keys]
    total = sum(power)
    out = sum(p / total * k[:v_dim].double() for p, k in zip(power, keys, strict=True))
    return out, math.log(total)


def naive_paged(inputs: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """`out` and `lse` of `paged`, a query and a key at a time."""
    q, cache = inputs["q"], inputs["kv_cache"]
    batch, q_len, heads, _ = q.shape
    page = cache.shape[1]
    out = torch.empty(batch, q_len, heads, 512, dtype=torch.float64)
    lse = torch.empty(batch, heads, q_len, dtype=torch.float64)
    for b, length in enumerate(inputs["cache_seqlens"].tolist()):
        for i in range(q_len):
            seen = length - q_len + 1 + i if inputs["causal"] else length
            table = inputs["block_table"][b].tolist()
            keys = [cache[table[j // page], j % page, 0] for j in range(max(0, seen))]
            for h in range(heads):
                out[b, i, h], lse[b, h, i] = attend(q[b, i, h], keys, 512, inputs["softmax_scale"])
    return out, lse


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("extra", [{}, {"kv_heads": 2}, {"softmax_scale": 0.7}, {"kv_ctx": 1}])
def test_dense_golden_equals_the_key_by_key_sum(make_case: Make, extra: dict, dtype: str) -> None:
    case = make_case("mla", "dense", {**DENSE, **extra}, dtype=dtype)
    inputs = reference.make_inputs(case, "cpu")
    q = torch.cat([inputs["q"], inputs["q_pe"]], -1)
    k = torch.cat([inputs["kv"], inputs["k_pe"]], -1)
    group = q.shape[1] // k.shape[2]
    naive = torch.stack(
        [
            torch.stack(
                [
                    attend(q[b, h], list(k[b, :, h // group]), 32, inputs["softmax_scale"])[0]
                    for h in range(q.shape[1])
                ]
            )
            for b in range(q.shape[0])
        ]
    )
    torch.testing.assert_close(golden(case, inputs)["out"], naive, rtol=1e-10, atol=1e-10)
    fp32 = golden(case, inputs, "fp32")["out"]
    assert fp32.dtype == torch.float32
    torch.testing.assert_close(fp32.double(), naive, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(("q_len", "causal"), [(1, False), (1, True), (2, False), (2, True)])
def test_paged_golden_equals_the_key_by_key_sum(
    make_case: Make, q_len: int, causal: bool, dtype: str
) -> None:
    params = {**RAGGED, "q_len": q_len, "causal": causal}
    case = make_case("mla", "paged", params, dtype=dtype)
    inputs = reference.make_inputs(case, "cpu")
    out, lse = naive_paged(inputs)
    tensors = golden(case, inputs)
    torch.testing.assert_close(tensors["out"], out, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(tensors["lse"], lse, rtol=1e-10, atol=1e-10)
    fp32 = golden(case, inputs, "fp32")
    torch.testing.assert_close(fp32["out"].double(), out, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fp32["lse"].double(), lse, rtol=1e-5, atol=1e-5)


def test_queries_that_see_nothing_give_zero_and_minus_infinity(make_case: Make) -> None:
    case = make_case("mla", "paged", {**RAGGED, "q_len": 2, "causal": True})
    inputs = reference.make_inputs(case, "cpu")
    lengths = inputs["cache_seqlens"].tolist()
    tensors = golden(case, inputs, "fp32")
    blind = [(1, 0), (1, 1), (4, 0)]  # length 0: both queries; length 1: the first one
    assert lengths[1] == 0 and lengths[4] == 1
    for b in range(8):
        for i in range(2):
            dark = (b, i) in blind
            assert bool((tensors["out"][b, i] == 0).all()) == dark
            assert bool((tensors["lse"][b, :, i] == -math.inf).all()) == dark


@pytest.mark.parametrize("contract", ["dense", "paged"])
def test_slabs_do_not_change_the_golden(
    make_case: Make, contract: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = DENSE if contract == "dense" else {**RAGGED, "q_len": 2, "causal": True}
    case = make_case("mla", contract, params)
    inputs = reference.make_inputs(case, "cpu")
    whole = golden(case, inputs)
    monkeypatch.setattr(draw, "SLAB_BYTES", 700)  # two or three queries, one or two keys
    for name, tensor in golden(case, inputs).items():
        torch.testing.assert_close(tensor, whole[name], rtol=1e-10, atol=1e-10)


def test_nan_fills_exactly_the_slots_no_sequence_owns(make_case: Make) -> None:
    case = make_case("mla", "paged", RAGGED)
    inputs = reference.make_inputs(case, "cpu")
    cache, table = inputs["kv_cache"], inputs["block_table"]
    owned = torch.zeros(cache.shape[:2], dtype=torch.bool)
    for b, length in enumerate(inputs["cache_seqlens"].tolist()):
        for j in range(length):
            owned[table[b, j // 8], j % 8] = True
    assert int(owned.sum()) == int(inputs["cache_seqlens"].sum())  # no page is shared
    assert cache[owned].isfinite().all() and cache[~owned].isnan().all()
    assert int((~owned).all(1).sum()) == SPARE_PAGES
    pages = (inputs["cache_seqlens"] + 7) // 8
    assert ((table >= 0).sum(1) == pages).all()
    assert (table[table < 0] == -1).all() and (table < len(cache)).all()


def test_pages_are_shuffled(make_case: Make) -> None:
    case = make_case("mla", "paged", {**RAGGED, "lengths": "full"})
    table = reference.make_inputs(case, "cpu")["block_table"].flatten()
    assert not torch.equal(table, table.sort().values)
    assert len(table.unique()) == len(table)


@pytest.mark.parametrize("contract", ["dense", "paged"])
def test_inputs_are_exactly_the_contracts_arguments(make_case: Make, contract: str) -> None:
    params = DENSE if contract == "dense" else {**RAGGED, "q_len": 2}
    case = make_case("mla", contract, params, dtype="bfloat16")
    inputs = reference.make_inputs(case, "cpu")
    outputs = reference.make_outputs(case, inputs, "cpu")
    assert {*inputs, *outputs} == {*case.spec.tensors, *case.spec.options}
    assert tuple(outputs) == case.spec.outputs
    assert all(output.isnan().all() for output in outputs.values())
    for name, axes in case.spec.row_axes.items():
        assert outputs[name].ndim == len(axes)
        assert outputs[name].shape == golden(case, inputs)[name].shape
    tensors = [x for x in [*inputs.values(), *outputs.values()] if torch.is_tensor(x)]
    assert all(tensor.is_contiguous() for tensor in tensors)
    assert case.footprint == sum(x.numel() * x.element_size() for x in tensors)


def test_scales_are_the_recipes(make_case: Make) -> None:
    params = {**DENSE, "kv_ctx": 500}
    inputs = reference.make_inputs(make_case("mla", "dense", params, {"kv": 0.125}), "cpu")
    assert inputs["kv"].float().std() == pytest.approx(0.125, rel=0.05)
    assert inputs["k_pe"].float().std() == pytest.approx(0.125, rel=0.05)
    assert inputs["q"].float().std() == pytest.approx(1.0, rel=0.15)


@pytest.mark.parametrize("contract", ["dense", "paged"])
def test_the_seed_decides_the_inputs(make_case: Make, contract: str) -> None:
    params = DENSE if contract == "dense" else RAGGED
    first, again, other = (
        reference.make_inputs(make_case("mla", contract, params, seed=seed), "cpu")
        for seed in (3, 3, 4)
    )
    for name, value in first.items():
        if torch.is_tensor(value):
            torch.testing.assert_close(value, again[name], rtol=0, atol=0, equal_nan=True)
            # Lengths are the parameters', so that the work is known without a seed.
            assert torch.equal(value, other[name]) == (name == "cache_seqlens"), name


@pytest.mark.parametrize(
    ("dtype", "scale"), [("float16", 1.0), ("float16", 0.125), ("bfloat16", 0.125)]
)
def test_leaving_out_64_of_65536_keys_fails_strictly(
    make_case: Make, dtype: str, scale: float
) -> None:
    params = {"batch": 1, "heads": 2, "kv_ctx": 65536}
    case = make_case("mla", "dense", params, {"q": scale, "kv": scale}, dtype=dtype)
    inputs = reference.make_inputs(case, "cpu")
    whole = golden(case, inputs, "fp32")
    short = {name: inputs[name][:, :-64] for name in ("kv", "k_pe")}
    limits = case.spec.strict(case.params, case.dtype)

    def strictly(tensors: dict[str, torch.Tensor]) -> Status | None:
        outputs = {"out": tensors["out"].to(inputs["q"].dtype)}
        return judge(case.spec, case.tolerance, limits, outputs, Expected(whole)).strict

    assert strictly(whole) is Status.PASSED
    assert strictly(golden(case, {**inputs, **short}, "fp32")) is Status.MISMATCH


MEMORY = """
import msgspec, resource, torch
from mxbench.case import Case
from mxbench import reference
from mxbench.ops import contract
from mxbench.ops.base import Tolerance
from mxbench.reference import draw
torch.set_num_threads(1)
draw.SLAB_BYTES, draw._DRAW_ELEMENTS = 1 << 20, 1 << 16
def case(**params):
    spec = contract("mla", "dense")
    return Case("mla", "t", "t", "dense", msgspec.convert(params, spec.params), "float16", 0,
                spec.recipe(), Tolerance(atol=0, rtol=0))
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
def run(one):
    inputs = reference.make_inputs(one, "cpu")
    before = peak()
    reference.expected(one, inputs, {}, "fp64")
    return peak() - before
run(case(batch=1, heads=4, kv_ctx=64))  # loads what BLAS loads
print(run(case(batch=4, heads=16, kv_ctx=16384)))
"""


def test_golden_never_widens_all_keys_at_once() -> None:
    pytest.importorskip("resource", reason="peak memory is read with resource.getrusage")
    run = [sys.executable, "-c", MEMORY]
    extra = float(subprocess.run(run, check=True, capture_output=True, text=True).stdout)
    # In fp64 the keys take 288 MiB, one sequence's 72; its half-precision copy takes 18.
    assert extra < 60
