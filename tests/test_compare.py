"""Verdicts on outputs with planted faults."""

from __future__ import annotations

import math

import msgspec
import pytest
import torch

from mxbench import compare
from mxbench.ops import contract
from mxbench.ops.base import StrictTolerance, Tolerance
from mxbench.reference.base import Expected
from mxbench.verdict import Status, Verdict

SELECTED = contract("nsa", "selected")
PAGED = contract("mla", "paged")
LOOSE = Tolerance(atol=0.1, rtol=0.1)  # as loose as a judge that passes zeros
STRICT = StrictTolerance(rms_ratio=1e-3, row_rms_ratio=3e-3)
SHAPE = (2, 5, 3, 32)  # batch, token, head, dim


def golden(scale: float = 0.01, seed: int = 0) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)) * scale


def verdict(
    out: torch.Tensor,
    wanted: torch.Tensor,
    tolerance: Tolerance = LOOSE,
    dtype: torch.dtype = torch.float16,
    problem: str | None = None,
) -> Verdict:
    found = Expected({"out": wanted}, problem)
    return compare.judge(SELECTED, tolerance, STRICT, {"out": out.to(dtype)}, found)


@pytest.mark.parametrize("scale", [1e-5, 0.01, 1.0, 1e3])
def test_rounded_golden_passes_at_any_scale(scale):
    found = verdict(golden(scale), golden(scale))
    assert (found.status, found.strict, found.reason) == (Status.PASSED, Status.PASSED, "")
    assert found.errors.matched == 1
    assert found.errors.max_abs <= scale * 6 * 2**-11 + 2**-25
    assert found.errors.cos_diff < 1e-5


def test_figures_of_a_known_error():
    wanted = torch.ones(SHAPE)
    out = torch.ones(SHAPE)
    out[1, 4, 2, 7] = 3.0
    errors = verdict(out, wanted, Tolerance(atol=0.5, rtol=0)).errors
    n = wanted.numel()
    assert errors.max_abs == 2 and errors.max_rel == 2
    assert errors.rms_ratio == pytest.approx(math.sqrt(4 / n), rel=1e-5)
    assert errors.worst_row_rms_ratio == pytest.approx(math.sqrt(4 / 32), rel=1e-5)
    assert errors.cos_diff == pytest.approx(1 - 2 * (n + 2) / (n + n + 8))
    assert errors.matched == pytest.approx(1 - 1 / n)
    assert (errors.worst_index, errors.worst_value, errors.worst_expected) == ([1, 4, 2, 7], 3, 1)


@pytest.mark.parametrize(
    "fault",
    [
        lambda out: out[1, 3, 2].zero_(),
        lambda out: out[1, 3, 2].mul_(2),
        lambda out: out[1, 3, 2].mul_(1.02),
        lambda out: out[1, 3, 2].neg_(),
        lambda out: out[1, 3, 2].copy_(out[1, 3, 1].clone()),
        lambda out: out[1, 3, 2, :4].zero_(),
    ],
)
def test_one_faulty_row_fails_strictly_where_the_official_tolerance_sees_nothing(fault):
    out = golden()
    fault(out)
    found = verdict(out, golden())
    assert found.status is Status.PASSED
    assert found.strict is Status.MISMATCH
    assert found.errors.worst_index[:3] == [1, 3, 2]
    worst = (out - golden())[1, 3, 2].abs().argmax()
    assert found.errors.worst_index[3] == worst
    assert found.reason.startswith(f"out[batch 1, token 3, head 2, dim {worst}] is ")
    assert "strict" in found.reason


@pytest.mark.parametrize("factor", [0.0, 0.98, 1.02])
def test_wrong_scale_of_everything_fails_strictly(factor):
    found = verdict(golden() * factor, golden())
    assert (found.status, found.strict) == (Status.PASSED, Status.MISMATCH)
    assert found.errors.rms_ratio == pytest.approx(abs(1 - factor), rel=0.02)


def test_swapped_heads_fail_strictly():
    found = verdict(golden()[:, :, [0, 2, 1]], golden())
    assert found.strict is Status.MISMATCH
    assert found.errors.worst_index[2] in (1, 2)


def test_official_mismatch_names_the_element_furthest_out_of_tolerance():
    wanted, out = golden(1.0), golden(1.0)
    out[0, 1, 2, 3] += 0.5
    out[1, 0, 0, 5] += 3.0
    found = verdict(out, wanted)
    assert found.status is Status.MISMATCH and found.strict is Status.MISMATCH
    assert found.errors.worst_index == [1, 0, 0, 5]
    value = float(out[1, 0, 0, 5].half())
    assert found.errors.worst_value == value
    assert found.reason == (
        f"out[batch 1, token 0, head 0, dim 5] is {value:.6g} instead of "
        f"{float(wanted[1, 0, 0, 5]):.6g}; 0.21% of out is out of tolerance (atol 0.1, rtol 0.1)"
    )


def test_allowed_share_of_mismatches():
    out = golden(1.0)
    one_percent = Tolerance(atol=0.1, rtol=0.1, max_mismatched_ratio=0.01)
    out.view(-1)[:9] += 5  # of 960 elements
    assert verdict(out, golden(1.0), one_percent).status is Status.PASSED
    out.view(-1)[9] += 5
    assert verdict(out, golden(1.0), one_percent).status is Status.MISMATCH


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_non_finite_element_fails_both(value):
    out = golden()
    out[0, 2, 1, 9] = value
    found = verdict(out, golden())
    assert (found.status, found.strict) == (Status.NON_FINITE, Status.NON_FINITE)
    assert found.errors.worst_index == [0, 2, 1, 9]
    assert found.errors.worst_value is None
    assert found.reason.startswith(f"out[batch 0, token 2, head 1, dim 9] is {value:g} instead of")
    assert "; 1 elements of out are NaN or infinite" in found.reason


def test_unwritten_output_counts_as_zeros_in_the_figures_which_stay_numbers():
    found = verdict(torch.full(SHAPE, math.nan), golden())
    assert found.status is Status.NON_FINITE
    assert found.errors.matched == 0
    assert found.errors.rms_ratio == pytest.approx(1)
    assert msgspec.json.decode(msgspec.json.encode(found), type=Verdict) == found


def test_figures_stay_numbers_for_bf16_beyond_the_range_of_fp32_squares():
    out = torch.full(SHAPE, -3e38)
    found = verdict(out, torch.full(SHAPE, 3e38), dtype=torch.bfloat16)
    assert found.status is Status.MISMATCH
    assert msgspec.json.decode(msgspec.json.encode(found), type=Verdict) == found


def lse_verdict(lse: torch.Tensor, wanted: torch.Tensor) -> Verdict:
    """out is right; lse: [1, 2, 3]."""
    out = torch.ones(1, 3, 2, 4)
    found = Expected({"out": out, "lse": wanted})
    return compare.judge(PAGED, LOOSE, STRICT, {"out": out.half(), "lse": lse}, found)


def test_shared_infinities_agree():
    wanted = torch.tensor([[[-math.inf, 2.0, 3.0], [4.0, 5.0, -math.inf]]])
    assert lse_verdict(wanted.clone(), wanted).passed
    short = wanted.clone()
    short[0, 0, 0] = -1e30
    found = lse_verdict(short, wanted)
    assert found.status is Status.NON_FINITE
    assert (found.errors.worst_output, found.errors.worst_index) == ("lse", [0, 0, 0])
    assert (found.errors.worst_value, found.errors.worst_expected) == (pytest.approx(-1e30), None)
    opposite = wanted.clone()
    opposite[0, 1, 2] = math.inf
    assert lse_verdict(opposite, wanted).reason.startswith("lse[batch 0, head 1, query 2] is inf")


def test_fault_in_the_second_output_decides():
    wanted = torch.full((1, 2, 3), 7.0)
    lse = wanted.clone()
    lse[0, 1, 2] = 7.05
    found = lse_verdict(lse, wanted)
    assert (found.status, found.strict) == (Status.PASSED, Status.MISMATCH)
    assert (found.errors.worst_output, found.errors.worst_index) == ("lse", [0, 1, 2])


# ---- small and empty rows ----


def test_row_that_should_be_zero_must_be():
    wanted = golden()
    wanted[1, 2, 0] = 0
    assert verdict(wanted.clone(), wanted).passed
    out = wanted.clone()
    out[1, 2, 0, 11] = 2e-6  # far below any tolerance, and the other rows' 1e-2
    found = verdict(out, wanted)
    assert found.strict is Status.MISMATCH
    assert found.errors.worst_row_rms_ratio == 1
    assert found.errors.worst_index == [1, 2, 0, 11]


def test_golden_of_zeros():
    zero = torch.zeros(SHAPE)
    assert verdict(zero, zero).passed
    found = verdict(golden(), zero)
    assert found.strict is Status.MISMATCH and found.errors.rms_ratio == 1


def test_small_row_is_held_to_an_eighth_of_the_typical_row():
    wanted = golden()
    wanted[1, 2, 0] /= 100
    noise = torch.randn(32, generator=torch.Generator().manual_seed(9)) * 0.01 * 1e-4
    out = wanted.clone()
    out[1, 2, 0] += noise  # 1 % of the small row, as an honest sum that cancels has
    assert verdict(out, wanted).passed
    out[1, 2, 0] = 0
    assert verdict(out, wanted).strict is Status.MISMATCH


def test_rounding_of_subnormal_rows_is_free():
    wanted = golden()
    wanted[0, 0, 0] = golden(2e-7)[0, 0, 0]  # a few of fp16's smallest numbers
    assert verdict(wanted, wanted).passed
    everything = golden(2e-7)
    assert verdict(everything, everything).passed


def test_three_branches_and_their_sum_may_be_rounded_below_the_normal_range():
    smallest = 2.0**-24
    branch = torch.full(SHAPE, 40.49 * smallest)
    kept = 3 * branch.half().float()
    assert verdict(kept, 3 * branch).strict is Status.PASSED
    assert verdict(kept - smallest, 3 * branch).strict is Status.MISMATCH


def test_few_giant_rows_do_not_shelter_the_others():
    wanted = golden()
    wanted[0, 0, 0] *= 1000
    out = wanted.clone()
    out[1, 2, 0] *= 1.02
    found = verdict(out, wanted)
    assert found.strict is Status.MISMATCH and found.errors.worst_index[:3] == [1, 2, 0]


# ---- choices, slabs, misuse ----


def test_invalid_choice_is_a_mismatch_however_well_the_rest_agrees():
    found = verdict(golden(), golden(), problem="chosen[batch 0, ...] lacks block 0")
    assert (found.status, found.strict) == (Status.MISMATCH, Status.MISMATCH)
    assert found.reason == "chosen[batch 0, ...] lacks block 0"
    both = verdict(golden() * math.nan, golden(), problem="chosen is wrong")
    assert both.status is Status.NON_FINITE
    assert both.reason.startswith("chosen is wrong; out[")


def test_slabs_do_not_change_the_verdict(monkeypatch):
    wanted, out = golden(1.0), golden(1.0)
    out[1, 4, 2, 3] = math.nan
    out[0, 3, 1] *= 1.5
    whole = verdict(out, wanted)
    monkeypatch.setattr(compare, "SLAB_ELEMENTS", 96)
    split = verdict(out, wanted)
    assert split.reason == whole.reason
    assert split.errors.worst_index == whole.errors.worst_index == [1, 4, 2, 3]
    for name in ("max_abs", "max_rel", "rms_ratio", "worst_row_rms_ratio", "cos_diff", "matched"):
        assert getattr(split.errors, name) == pytest.approx(getattr(whole.errors, name))


def test_comparison_with_nothing_is_refused():
    with pytest.raises(ValueError, match="no golden for any of the outputs out"):
        compare.judge(SELECTED, LOOSE, STRICT, {}, Expected({}))
    with pytest.raises(ValueError, match="its golden"):
        verdict(golden()[:1], golden())


@pytest.mark.parametrize(
    "parts",
    [
        {"status": Status.PASSED},
        {"status": Status.CRASHED},
        {"status": Status.TIMEOUT, "strict": Status.PASSED, "reason": "late"},
        {"status": Status.PASSED, "strict": Status.MISMATCH},
        {"status": Status.PASSED, "strict": Status.SKIPPED, "reason": "?"},
    ],
)
def test_verdict_with_missing_or_contradictory_parts_is_refused(parts):
    with pytest.raises(ValueError):
        Verdict(**parts)
