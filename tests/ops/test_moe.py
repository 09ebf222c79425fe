"""MoE parameters, counts and labels."""

from __future__ import annotations

import msgspec
import pytest

from mxbench.ops.moe import (
    MOE,
    LayerParams,
    LayerRecipe,
    RoutedParams,
    RoutedRecipe,
    distinct_experts,
    layer_footprint,
    layer_work,
    padded_size,
    routed_footprint,
    routed_work,
    scale,
)

SIZES = {"n_experts": 4, "d_hidden": 64, "d_expert": 32}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"group_sum": 8, "n_experts": 0}, "n_experts must be at least 1, not 0"),
        ({"group_sum": 8, "d_hidden": -64}, "d_hidden must be at least 1, not -64"),
        ({"group_sum": 8, "d_expert": 0}, "d_expert must be at least 1"),
        ({"group_sum": 0}, "group_sum must be at least 1"),
        ({"top_k": 0, "seqlen": 4}, "top_k must be at least 1"),
        ({"top_k": 2, "seqlen": 4, "batch": 0}, "batch must be at least 1"),
        ({"top_k": 5, "seqlen": 4}, "top_k must not exceed n_experts: 5 of 4 experts"),
        ({}, "exactly one way.*none of them"),
        ({"group_sum": 8, "seqlen": 4}, "exactly one way.*top_k with seqlen and group_sum"),
        ({"group_sum": 8, "batch": 1}, "exactly one way"),
        ({"group_sum": 4, "group_sizes": [1, 1, 1, 1]}, "group_sum and group_sizes"),
        ({"top_k": 2}, "both top_k and seqlen"),
        ({"seqlen": 2, "batch": 2}, "both top_k and seqlen"),
        ({"group_sizes": [1, 2, 3]}, "3 entries for 4 experts"),
        ({"group_sizes": [1, 2, 3, -1]}, "must not be negative"),
        ({"group_sizes": [0, 0, 0, 0]}, "at least one row"),
        ({"group_sum": 8, "layout": "sparse"}, "layout"),
        ({"group_sum": 8, "hidden": 8}, "hidden"),
    ],
)
def test_routed_refuses_contradictory_sizes(fields: dict, message: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert({**SIZES, **fields}, RoutedParams)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"top_k": 5, "seqlen": 4}, "top_k must not exceed n_experts"),
        ({"top_k": 2, "seqlen": 0}, "seqlen must be at least 1"),
        ({"top_k": 2}, "seqlen"),
    ],
)
def test_layer_refuses_impossible_sizes(fields: dict, message: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert({**SIZES, **fields}, LayerParams)


@pytest.mark.parametrize("recipe", [RoutedRecipe, LayerRecipe])
@pytest.mark.parametrize("value", [0, -1.5, "1/sqrt(heads)"])
def test_a_scale_is_a_positive_number_or_a_known_form(recipe: type, value: object) -> None:
    with pytest.raises(msgspec.ValidationError, match="gate_up"):
        msgspec.convert({"gate_up": value}, recipe)


def test_named_scales_follow_the_sizes() -> None:
    params = LayerParams(**SIZES, top_k=1, seqlen=1)
    assert scale("1/sqrt(d_hidden)", params) == 1 / 8
    assert scale("1/sqrt(d_expert)", params) == pytest.approx(1 / 32**0.5)
    assert scale(0.02, params) == 0.02


@pytest.mark.parametrize(("size", "padded"), [(0, 128), (1, 128), (127, 128), (128, 256)])
def test_an_exact_multiple_of_the_block_takes_one_more(size: int, padded: int) -> None:
    assert padded_size(size) == padded


def test_routed_flops_are_those_of_the_public_comparisons() -> None:
    params = RoutedParams(n_experts=8, d_hidden=7168, d_expert=2048, top_k=4, seqlen=8192)
    assert params.rows == 32768
    assert routed_work(params).flops == 2_886_218_022_912  # FIELD: 2.89 TFLOP


def test_routed_bytes_count_only_experts_with_rows() -> None:
    params = RoutedParams(n_experts=3, d_hidden=4, d_expert=2, group_sizes=(5, 0, 1))
    rows = 2 * 6 * 4 + 6  # tokens, out and route_w
    weights = 2 * 3 * 4 * 2  # of two experts
    metadata = 3 * 3 + 1 + 3
    assert routed_work(params).bytes == (rows + weights) * 2 + metadata * 4


def test_routed_bytes_include_the_padding_rows_of_out() -> None:
    params = RoutedParams(
        n_experts=2, d_hidden=4, d_expert=2, group_sizes=(128, 3), layout="padded"
    )
    elements = 131 * 4 + 131 + 2 * 3 * 8 + (256 + 128) * 4
    assert routed_work(params).bytes == elements * 2 + (3 * 2 + 2 + 2) * 4


@pytest.mark.parametrize("layout", ["compact", "padded"])
def test_work_without_sizes_is_no_more_than_with_an_even_split(layout: str) -> None:
    params = RoutedParams(n_experts=4, d_hidden=8, d_expert=8, group_sum=600, layout=layout)
    even = routed_work(params, [150] * 4)
    assert routed_work(params).flops == even.flops
    assert routed_work(params).bytes <= even.bytes


def test_one_token_uses_its_top_k_experts_and_many_use_all() -> None:
    assert distinct_experts(256, 8, 1) == 8
    assert distinct_experts(256, 8, 32) == 163  # 256 * (1 - (31/32)**32) = 163.3
    assert distinct_experts(8, 4, 8192) == 8


def test_layer_work_adds_the_router() -> None:
    params = LayerParams(**SIZES, top_k=2, batch=2, seqlen=50)
    work = layer_work(params)
    assert work.flops == 100 * 2 * 6 * 64 * 32 + 100 * 4 * 2 * 64
    assert work.bytes == (2 * 100 * 64 + 4 * 64 + 4 * 3 * 64 * 32) * 2
    assert layer_footprint(params) == work.bytes  # all experts are used


def test_footprint_of_an_unknown_split_covers_the_worst_one() -> None:
    common = {"n_experts": 2, "d_hidden": 4, "d_expert": 2, "layout": "padded"}
    unknown = RoutedParams(**common, group_sum=256)
    worst = RoutedParams(**common, group_sizes=(128, 128))
    assert routed_footprint(unknown) == routed_footprint(worst)


def test_labels_tell_cases_apart() -> None:
    forms = [
        {"group_sum": 8},
        {"group_sum": 8, "layout": "padded"},
        {"group_sizes": (8, 0, 0, 0)},
        {"group_sizes": (0, 8, 0, 0)},
        {"top_k": 2, "seqlen": 4},
        {"top_k": 2, "seqlen": 2, "batch": 2},
    ]
    labels = [RoutedParams(**SIZES, **form).label() for form in forms]
    assert len(set(labels)) == len(forms)
    assert labels[0] == "E4-H64-I32-G8"
    assert labels[1] == "E4-H64-I32-G8-padded"
    assert LayerParams(**SIZES, top_k=2, seqlen=4).label() == "E4-H64-I32-B1-T4-K2"


def test_a_long_list_of_sizes_gives_a_short_label() -> None:
    sizes = {"n_experts": 64, "d_hidden": 8, "d_expert": 8}
    one = RoutedParams(**sizes, group_sizes=tuple(range(64))).label()
    other = RoutedParams(**sizes, group_sizes=tuple(reversed(range(64)))).label()
    assert one != other and len(one) < 40


@pytest.mark.parametrize("name", ["routed", "layer"])
def test_strict_limits_catch_a_two_percent_scale_error(name: str) -> None:
    for dtype in ("float16", "bfloat16"):
        assert MOE.contracts[name].strict(None, dtype).rms_ratio < 0.02
    assert MOE.contracts[name].strict(None, "float16").row_rms_ratio < 0.02


def test_signatures_are_the_published_ones() -> None:
    assert MOE.contracts["routed"].signature == (
        "routed(tokens, gate_w, up_w, down_w, route_w, group_sizes, group_offsets, "
        "group_padded_offsets, group_idx_for_bx, out)"
    )
    assert MOE.contracts["layer"].signature == (
        "layer(hidden, router_w, gate_w, up_w, down_w, out, *, top_k)"
    )
