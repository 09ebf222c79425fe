"""Picking, changing and sending cases."""

from __future__ import annotations

from typing import Any

import pytest

from mxbench.case import Case, Timing, load_suite, override, select, shape_changes, suite_names
from mxbench.errors import EXIT_USAGE, MxbenchError
from mxbench.ops import OPERATORS
from mxbench.workspace import find


def cases(op: str, suite: str) -> tuple[Case, ...]:
    return load_suite(find(), op, suite).cases


def case(op: str, suite: str, glob: str) -> Case:
    (found,) = select(cases(op, suite), glob)
    return found


@pytest.fixture
def nsa() -> Case:
    return case("nsa", "functional", "B1-T64-H1-HQ16-D64-S1-block16-scale0.1")


def test_a_case_survives_the_pipe() -> None:
    for op in OPERATORS:
        for suite in suite_names(find(), op):
            for sent in cases(op, suite):
                assert Case.decode(sent.encode()) == sent
                assert b"\n" not in sent.encode()
    changed = override(case("moe", "smoke", "*+127+*padded"), {"seed": 3})
    assert Case.decode(changed.encode()) == changed


def test_a_case_knows_its_contract_work_and_memory(nsa: Case) -> None:
    assert nsa.id == "nsa/functional/B1-T64-H1-HQ16-D64-S1-block16-scale0.1"
    assert nsa.spec.name == "selected"
    keys = 48 * 16 + sum(range(1, 17))  # the first 16 queries see fewer than a block
    assert nsa.work.flops == 4 * 16 * 64 * keys
    tensors = 64 * 64 * (16 + 1 + 1 + 16) * 2 + 64 * 4
    assert nsa.footprint == tensors


# ---- select ----


def test_a_glob_picks_by_name_or_id() -> None:
    all_cases = cases("nsa", "functional")
    assert len(select(all_cases)) == 109
    assert {c.params.dim for c in select(all_cases, "*-D32-*")} == {32}
    by_id = select(all_cases, "nsa/functional/B2-*")
    assert by_id == select(all_cases, "B2-*")
    assert len(by_id) > 1


def test_a_contract_picks_its_cases() -> None:
    layers = select(cases("moe", "smoke"), contract="layer")
    assert {c.contract for c in layers} == {"layer"}
    assert len(layers) < len(cases("moe", "smoke"))


@pytest.mark.parametrize(
    ("pick", "said", "hint"),
    [
        ({"glob": "B1-T64-H1-HQ16-D64-S1-blok16-scale0.1"}, "no case matches", "-block16-"),
        ({"glob": "?"}, "no case matches '?'", "and 106 more"),
        ({"contract": "selectd"}, "no case has contract 'selectd'", "'selected'"),
        ({"contract": "selected", "glob": "full-*"}, "no case matches 'full-*'", "B1-"),
    ],
)
def test_nothing_picked_is_an_error_with_the_nearest(
    pick: dict[str, str], said: str, hint: str
) -> None:
    with pytest.raises(MxbenchError) as caught:
        select(cases("nsa", "functional"), **pick)
    assert said in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.exit_code == EXIT_USAGE


# ---- override ----


def test_changed_parameters_show_in_the_label(nsa: Case) -> None:
    changed = override(nsa, {"seqlen": 65536, "batch": "2"})
    assert changed.name == "B2-T65536-H1-HQ16-D64-S1-block16-scale0.1"
    assert (changed.params.seqlen, changed.params.batch) == (65536, 2)
    assert (changed.tolerance, changed.recipe) == (nsa.tolerance, nsa.recipe)
    assert (changed.origin, changed.changes) == (nsa.name, ("seqlen=65536", "batch=2"))


def test_other_changes_show_behind_a_plus(nsa: Case) -> None:
    changed = override(nsa, {"dtype": "bfloat16", "seed": "5", "inputs.pattern": "local"})
    assert (changed.dtype, changed.seed) == ("bfloat16", 5)
    assert changed.recipe.pattern == "local"
    assert changed.name == f"{nsa.name}+dtype=bfloat16+seed=5+inputs.pattern=local"
    assert override(nsa, {"recipe.pattern": "local"}).recipe == changed.recipe


def test_a_named_case_keeps_its_name_and_shows_the_change() -> None:
    hot = case("moe", "smoke", "layer-hot-expert")
    assert override(hot, {"seqlen": 7}).name == "layer-hot-expert+seqlen=7"


def test_changes_add_up(nsa: Case) -> None:
    twice = override(override(nsa, {"seed": 1}), {"batch": 4})
    assert twice.name == "B4-T64-H1-HQ16-D64-S1-block16-scale0.1+seed=1"
    assert (twice.origin, twice.changes) == (nsa.name, ("seed=1", "batch=4"))
    again = override(nsa, dict(pair.split("=") for pair in twice.changes))
    assert (again.params, again.seed) == (twice.params, twice.seed)


@pytest.mark.parametrize(
    ("text", "value"), [("0.5", 0.5), ("null", None), ("1", 1.0), ("1e-3", 1e-3)]
)
def test_strings_are_read_as_json(nsa: Case, text: str, value: float | None) -> None:
    changed = override(nsa, {"softmax_scale": text})
    assert changed.params.softmax_scale == value


def test_null_lets_one_way_of_giving_rows_replace_another() -> None:
    explicit = case("moe", "smoke", "*+127+*+5")
    routed = override(explicit, {"group_sizes": "null", "top_k": "2", "seqlen": "9"})
    assert routed.params.rows == 18
    sizes = override(
        routed, {"group_sizes": "[1,2,3,4,5,6,7,8]", "top_k": "null", "seqlen": "null"}
    )
    assert sizes.params.rows == 36


@pytest.mark.parametrize(
    ("changes", "said", "hint"),
    [
        ({"seq_len": 1}, "has no parameter 'seq_len'", "'seqlen'"),
        ({"inputs.patern": "local"}, "has no parameter 'inputs.patern'", "'inputs.pattern'"),
        ({"dtyp": "float16"}, "has no parameter 'dtyp'", "'dtype'"),
        ({"tolerance.atol": 9}, "has no parameter 'tolerance.atol'", ""),
        ({"seqlen": "many"}, "params.seqlen: expected `int`, got `str`", ""),
        ({"seqlen": 0}, "params.seqlen: seqlen must be at least 1, not 0", ""),
        ({"block_size": 48}, "params.block_size: block_size must be a power of two", ""),
        ({"q_heads": 3, "kv_heads": 2}, "params.q_heads: q_heads must be a multiple of", ""),
        ({"causal": "yes"}, "params.causal: expected `bool`, got `str`", ""),
        ({"dtype": "float8"}, "dtype: invalid enum value 'float8'", "bfloat16"),
        ({"seed": -1}, "seed: expected `int` >= 0, got -1", ""),
        ({"inputs.pattern": "near"}, "inputs.pattern: invalid enum value 'near'", "local"),
    ],
)
def test_a_bad_change_names_the_case_and_the_fault(
    nsa: Case, changes: dict[str, Any], said: str, hint: str
) -> None:
    with pytest.raises(MxbenchError) as caught:
        override(nsa, changes)
    assert nsa.id in caught.value.message
    assert said in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.exit_code == EXIT_USAGE


def test_a_shape_that_a_case_does_not_have_tells_how_to_choose_cases() -> None:
    explicit = case("moe", "smoke", "*+127+*+5")
    with pytest.raises(MxbenchError, match="here: top_k with seqlen and group_sizes") as caught:
        override(explicit, shape_changes("moe", tokens=8))
    assert "--case" in caught.value.hint


def test_top_k_above_the_experts_is_refused() -> None:
    with pytest.raises(MxbenchError, match="top_k must not exceed n_experts: 9 of 8"):
        override(case("moe", "smoke", "layer-hot-expert"), {"top_k": 9})


# ---- --seqlen, --batch, --tokens ----


@pytest.mark.parametrize(
    ("op", "given", "changes"),
    [
        ("moe", {"seqlen": 5, "batch": 2}, {"seqlen": 5, "batch": 2}),
        ("moe", {"tokens": 33}, {"batch": 1, "seqlen": 33}),
        ("mla", {"seqlen": 5}, {"kv_ctx": 5}),
        ("nsa", {"seqlen": 5}, {"seqlen": 5}),
        ("nsa", {}, {}),
    ],
)
def test_shape_options_become_parameters(
    op: str, given: dict[str, int], changes: dict[str, int]
) -> None:
    assert shape_changes(op, **given) == changes


def test_tokens_belong_to_moe_and_stand_alone() -> None:
    with pytest.raises(MxbenchError, match="nsa has no --tokens"):
        shape_changes("nsa", tokens=3)
    with pytest.raises(MxbenchError, match="contradicts"):
        shape_changes("moe", tokens=3, seqlen=4)


def test_timing_counts_are_the_files() -> None:
    assert cases("mla", "judge")[0].timing == Timing(warmup=2, repeat=10)
    assert {c.timing for c in cases("mla", "functional")} == {None}
