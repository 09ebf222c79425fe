"""MLA parameters, counts, labels and sequence lengths."""

from __future__ import annotations

import msgspec
import pytest

from mxbench.ops.mla import (
    MLA,
    SPARE_PAGES,
    DenseParams,
    MlaRecipe,
    PagedParams,
    dense_footprint,
    dense_work,
    paged_footprint,
    paged_work,
)

DENSE = {"batch": 2, "heads": 16, "kv_ctx": 100}
PAGED = {"batch": 8, "heads": 16, "kv_ctx": 300}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"batch": 0}, "batch must be at least 1, not 0"),
        ({"kv_ctx": -1}, "kv_ctx must be at least 1, not -1"),
        ({"heads": 6, "kv_heads": 4}, "heads must be a multiple of kv_heads: 6 heads, 4 KV"),
        ({"kv_heads": 0}, "kv_heads must be at least 1"),
        ({"dim": 0}, "dim must be at least 1"),
        ({"softmax_scale": 0.0}, "softmax_scale must be a positive number"),
        ({"q_len": 2}, "q_len"),
    ],
)
def test_dense_refuses_impossible_sizes(fields: dict, message: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert({**DENSE, **fields}, DenseParams)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"heads": 0}, "heads must be at least 1"),
        ({"q_len": 0}, "q_len must be at least 1"),
        ({"page_size": 48}, "page_size must be a power of two, not 48"),
        ({"page_size": 0}, "page_size must be a power of two"),
        ({"lengths": "short"}, "lengths"),
        ({"softmax_scale": -1}, "softmax_scale must be a positive number"),
    ],
)
def test_paged_refuses_impossible_sizes(fields: dict, message: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert({**PAGED, **fields}, PagedParams)


@pytest.mark.parametrize("value", [0, -0.125])
def test_recipe_scales_are_positive(value: float) -> None:
    with pytest.raises(msgspec.ValidationError, match="kv must be a positive number"):
        msgspec.convert({"kv": value}, MlaRecipe)


def test_the_default_scale_is_that_of_the_whole_query_width() -> None:
    assert DenseParams(**DENSE).scale == 576**-0.5
    assert PagedParams(**PAGED).scale == 576**-0.5
    assert DenseParams(**DENSE, dim=64, pe_dim=36).scale == 0.1
    assert PagedParams(**PAGED, softmax_scale=0.5).scale == 0.5


def test_dense_work_by_hand() -> None:
    work = dense_work(DenseParams(**DENSE))
    assert work.flops == 2 * 2 * 16 * 100 * (576 + 512)
    assert work.bytes == 2 * (2 * 100 * 576 + 2 * 16 * 576 + 2 * 16 * 512)
    assert dense_footprint(DenseParams(**DENSE)) == work.bytes


def test_dense_flops_are_those_of_the_public_comparisons() -> None:
    # FIELD: 64 x 8192 with 128 heads in 238.5 us is 612 TFLOP/s.
    flops = dense_work(DenseParams(batch=64, heads=128, kv_ctx=8192)).flops
    assert flops / 238.5e-6 / 1e12 == pytest.approx(612, abs=1)


def test_paged_work_by_hand() -> None:
    params = PagedParams(batch=1, heads=4, kv_ctx=100)
    work = paged_work(params)
    assert work.flops == 2 * 4 * 100 * (576 + 512)
    assert work.bytes == 2 * (100 * 576 + 4 * 576 + 4 * 512) + 4 * 4 + (2 + 1) * 4
    unread = 2 * 576 * (SPARE_PAGES * 64 + 28)
    assert paged_footprint(params) == work.bytes + unread


def test_causal_queries_see_fewer_keys() -> None:
    params = PagedParams(batch=2, heads=1, kv_ctx=10, q_len=3, causal=True)
    assert paged_work(params).flops == 2 * (8 + 9 + 10) * 2 * (576 + 512)


def test_a_causal_query_before_the_first_key_costs_nothing() -> None:
    params = PagedParams(batch=1, heads=1, kv_ctx=1, q_len=3, causal=True)
    assert paged_work(params).flops == 2 * 1 * (576 + 512)


def test_ragged_lengths_hold_every_edge() -> None:
    lengths = PagedParams(**PAGED, lengths="ragged").cache_seqlens
    assert lengths[:6] == (300, 0, 65, 63, 1, 64)
    assert len(lengths) == 8 and all(1 <= length <= 300 for length in lengths[6:])
    assert PagedParams(**PAGED, lengths="ragged").pages == SPARE_PAGES + sum(
        -(-length // 64) for length in lengths
    )


def test_ragged_lengths_stay_within_a_short_context() -> None:
    params = PagedParams(batch=9, heads=1, kv_ctx=10, lengths="ragged")
    assert max(params.cache_seqlens) == 10 and params.max_pages == 1


def test_full_lengths_are_all_the_context() -> None:
    assert PagedParams(**PAGED).cache_seqlens == (300,) * 8


def test_labels_tell_cases_apart() -> None:
    dense = [{}, {"kv_heads": 2}, {"dim": 256}, {"softmax_scale": 0.1}]
    labels = [DenseParams(**DENSE, **form).label() for form in dense]
    assert len(set(labels)) == len(labels) and labels[0] == "B2-S100-H16"
    paged = [{}, {"q_len": 2}, {"page_size": 32}, {"lengths": "ragged"}, {"causal": True}]
    labels = [PagedParams(**PAGED, **form).label() for form in paged]
    assert len(set(labels)) == len(labels) and labels[0] == "B8-S300-H16-Q1"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_strict_limits_catch_a_two_percent_scale_error(dtype: str) -> None:
    for contract in MLA.contracts.values():
        limits = contract.strict(None, dtype)
        assert max(limits.rms_ratio, limits.row_rms_ratio) < 0.02


def test_signatures_are_the_published_ones() -> None:
    assert MLA.contracts["dense"].signature == "dense(q, q_pe, kv, k_pe, out, *, softmax_scale)"
    assert MLA.contracts["paged"].signature == (
        "paged(q, kv_cache, block_table, cache_seqlens, out, lse, *, softmax_scale, causal)"
    )
