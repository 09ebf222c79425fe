"""Bad suite files: each is refused with the file, the place in it, and what was expected there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mxbench.case import Suite, load_suite, suite_names
from mxbench.errors import EXIT_USAGE, MxbenchError
from mxbench.workspace import Workspace

Document = dict[str, Any]


def document() -> Document:
    """A good suite of two contracts, as a person would write it."""
    return {
        "schema": 1,
        "op": "moe",
        "suite": "mine",
        "source": "a test",
        "defaults": {
            "contract": "routed",
            "params": {"n_experts": 4, "d_hidden": 128, "d_expert": 64},
            "inputs": {"tokens": 0.5},
            "tolerance": {"atol": 0.01, "rtol": 0.01},
        },
        "cases": [
            {"params": {"top_k": 2, "seqlen": 16}},
            {"params": {"group_sum": 40, "layout": "padded"}, "dtype": "bfloat16"},
            {"contract": "layer", "params": {"top_k": 4, "seqlen": 3}, "name": "all", "seed": 7},
            {
                "params": {"group_sizes": [1, 0, 2, 3]},
                "inputs": {"routing": "hot"},
                "timing": {"warmup": 1, "repeat": 5},
            },
        ],
    }


@pytest.fixture
def load(tmp_path: Path) -> Callable[[Document | str], Suite]:
    """Write a suite file into a new workspace and load it."""

    def write_and_load(content: Document | str) -> Suite:
        (tmp_path / "cases" / "moe").mkdir(parents=True)
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / "cases" / "moe" / "mine.json").write_text(text, encoding="utf-8")
        return load_suite(
            Workspace(tmp_path / "kernels", tmp_path / "cases", tmp_path), "moe", "mine"
        )

    return write_and_load


def refusal(load: Callable[[Document | str], Suite], content: Document | str) -> MxbenchError:
    with pytest.raises(MxbenchError) as caught:
        load(content)
    assert caught.value.exit_code == EXIT_USAGE
    assert caught.value.message.startswith("cases/moe/mine.json: ")
    return caught.value


def test_defaults_are_merged_field_by_field(load: Callable[[Document | str], Suite]) -> None:
    routed, padded, layer, explicit = load(document()).cases
    assert (routed.params.n_experts, routed.params.seqlen) == (4, 16)
    assert (padded.dtype, padded.seed, padded.timing) == ("bfloat16", 0, None)
    assert (layer.contract, layer.seed, layer.params.top_k) == ("layer", 7, 4)
    assert (explicit.recipe.tokens, explicit.recipe.routing) == (0.5, "hot")
    assert explicit.timing is not None and explicit.timing.repeat == 5


def test_a_default_of_one_contract_is_not_forced_on_another(
    load: Callable[[Document | str], Suite],
) -> None:
    mixed = document()
    mixed["defaults"]["params"]["layout"] = "padded"  # `layer` has none
    assert [case.contract for case in load(mixed).cases] == ["routed"] * 2 + ["layer", "routed"]


def test_names_tell_contract_label_dtype_and_recipe(
    load: Callable[[Document | str], Suite],
) -> None:
    assert [case.name for case in load(document()).cases] == [
        "routed-E4-H128-I64-B1-T16-K2",
        "routed-E4-H128-I64-G40-padded-bf16",
        "all",
        "routed-E4-H128-I64-G1+0+2+3-hot",
    ]


def edit(path: str, value: Any) -> Callable[[Document], None]:
    """An edit that sets the value at a path such as `cases.0.params.top_k`; `...` removes it."""

    def apply(content: Any) -> None:
        *parents, last = (int(step) if step.isdigit() else step for step in path.split("."))
        for step in parents:
            content = content[step]
        if value is ...:
            del content[last]
        else:
            content[last] = value

    return apply


CASE = "cases.0."
BAD_FIELDS = {
    "schema of the future": (edit("schema", 2), "$.schema: invalid enum value 2", "1"),
    "no op": (edit("op", ...), "$.op: missing", "required"),
    "no source": (edit("source", ...), "$.source: missing", "required"),
    "other op": (edit("op", "mla"), "$.op: expected 'moe'", ""),
    "other suite": (edit("suite", "yours"), "$.suite: expected 'mine'", ""),
    "unknown top field": (edit("case", []), "$.case: unknown field", "'cases'"),
    "cases not a list": (edit("cases", {}), "$.cases: expected `array`, got `object`", ""),
    "no cases": (edit("cases", []), "$.cases: the list is empty", "at least one"),
    "case not an object": (edit("cases.1", 3), "$.cases[1]: expected `object`, got `int`", ""),
    "defaults not an object": (edit("defaults", []), "$.defaults: expected `object`", ""),
    "unknown default": (edit("defaults.tolerances", {}), "$.defaults.tolerances: ", "'tolerance'"),
    "unknown default parameter": (
        edit("defaults.params.n_expert", 4),
        "$.defaults.params.n_expert: unknown field",
        "'n_experts'",
    ),
    "unknown default input": (
        edit("defaults.inputs.token", 1),
        "$.defaults.inputs.token",
        "'tokens'",
    ),
    "mistyped default": (
        edit("defaults.params.d_hidden", "128"),
        "$.defaults.params.d_hidden: expected `int`, got `str`",
        "",
    ),
    "zero default": (
        edit("defaults.params.d_hidden", 0),
        "$.defaults.params.d_hidden: d_hidden must be at least 1",
        "",
    ),
    "unknown case field": (edit(CASE + "parms", {}), "$.cases[0].parms: unknown field", "'params'"),
    "unknown parameter": (
        edit(CASE + "params.topk", 2),
        "$.cases[0].params.topk: unknown field",
        "'top_k'",
    ),
    "mistyped parameter": (
        edit(CASE + "params.top_k", "two"),
        "$.cases[0].params.top_k: expected `int | null`, got `str`",
        "",
    ),
    "fractional parameter": (edit(CASE + "params.seqlen", 1.5), "$.cases[0].params.seqlen: ", ""),
    "boolean as a number": (edit(CASE + "params.seqlen", True), "$.cases[0].params.seqlen: ", ""),
    "missing parameter": (
        edit("defaults.params.n_experts", ...),
        "$.cases[0].params.n_experts: missing",
        "required",
    ),
    "negative size": (
        edit(CASE + "params.seqlen", -1),
        "$.cases[0].params.seqlen: seqlen must be at least 1, not -1",
        "",
    ),
    "too large top_k": (
        edit(CASE + "params.top_k", 5),
        "$.cases[0].params.top_k: top_k must not exceed n_experts",
        "",
    ),
    "rows given twice": (
        edit(CASE + "params.group_sum", 9),
        "$.cases[0].params: give the rows",
        "",
    ),
    "item of a list": (
        edit("cases.3.params.group_sizes.2", "x"),
        "$.cases[3].params.group_sizes[2]: expected `int`, got `str`",
        "",
    ),
    "unknown dtype": (
        edit(CASE + "dtype", "float32"),
        "$.cases[0].dtype: invalid enum value 'float32'",
        "float16",
    ),
    "negative seed": (edit(CASE + "seed", -3), "$.cases[0].seed: expected `int` >= 0", ""),
    "unknown contract": (
        edit(CASE + "contract", "route"),
        "$.cases[0].contract: operator moe has no contract 'route'",
        "'routed'",
    ),
    "unknown default contract": (
        edit("defaults.contract", "dense"),
        "$.defaults.contract: operator moe has no contract 'dense'",
        "routed",
    ),
    "no contract": (edit("defaults.contract", ...), "$.cases[0].contract: missing", "layer"),
    "unknown input": (edit(CASE + "inputs", {"scew": 1}), "$.cases[0].inputs.scew: ", "'skew'"),
    "unknown choice": (
        edit("cases.3.inputs.routing", "warm"),
        "$.cases[3].inputs.routing: invalid enum value 'warm'",
        "hot",
    ),
    "no tolerance": (edit("defaults.tolerance", ...), "$.cases[0].tolerance: missing", "defaults"),
    "negative tolerance": (
        edit("defaults.tolerance.atol", -1),
        "$.defaults.tolerance: atol and rtol must be finite and >= 0",
        "",
    ),
    "incomplete tolerance": (
        edit(CASE + "tolerance", {"atol": 1}),
        "$.cases[0].tolerance.rtol",
        "",
    ),
    "no repeats": (
        edit("cases.3.timing.repeat", 0),
        "$.cases[3].timing.repeat: expected `int` >= 1, got 0",
        "",
    ),
    "name with a glob in it": (edit("cases.2.name", "a*"), "$.cases[2].name: expected `str`", ""),
}


@pytest.mark.parametrize(("change", "place", "hint"), BAD_FIELDS.values(), ids=BAD_FIELDS.keys())
def test_a_bad_field_is_named_with_its_path(
    load: Callable[[Document | str], Suite],
    change: Callable[[Document], None],
    place: str,
    hint: str,
) -> None:
    content = document()
    change(content)
    error = refusal(load, content)
    assert place in error.message
    assert hint in error.hint


def test_two_cases_of_one_name_are_refused(load: Callable[[Document | str], Suite]) -> None:
    content = document()
    content["cases"].append(content["cases"][0] | {"seed": 1})
    error = refusal(load, content)
    assert "$.cases[4]: is called 'routed-E4-H128-I64-B1-T16-K2', as $.cases[0] is" in error.message
    assert '"name"' in error.hint


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file is empty"),
        (" \n\t", "the file is empty"),
        ('{"schema": 1,\n "op": }', "malformed JSON at line 2, column 8"),
        ('{"schema": 1', "malformed JSON at line 1, column 13"),
        ('{"schema": 1} extra', "malformed JSON at line 1, column 15"),
        ('{"schema": 1, "schema": 1}', "the key 'schema' stands twice"),
        ('{"schema": NaN}', "NaN is not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("[]", "$: expected `object`, got `array`"),
    ],
)
def test_what_is_not_json_is_located(
    load: Callable[[Document | str], Suite], text: str, said: str
) -> None:
    assert said in refusal(load, text).message


def test_other_encodings_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "cases" / "moe"
    folder.mkdir(parents=True)
    (folder / "mine.json").write_bytes(json.dumps(document()).encode("utf-16"))
    with pytest.raises(MxbenchError, match="byte 0 is not UTF-8"):
        load_suite(Workspace(tmp_path, tmp_path / "cases", tmp_path), "moe", "mine")


def test_an_unknown_suite_or_operator_names_the_nearest(tmp_path: Path) -> None:
    folder = tmp_path / "cases" / "moe"
    folder.mkdir(parents=True)
    (folder / "smoke.json").write_text("{}")
    workspace = Workspace(tmp_path, tmp_path / "cases", tmp_path)
    with pytest.raises(MxbenchError) as caught:
        load_suite(workspace, "moe", "smokes")
    assert "'smokes'" in caught.value.message and "'smoke'" in caught.value.hint
    with pytest.raises(MxbenchError) as caught:
        suite_names(workspace, "moee")
    assert "'moee'" in caught.value.message and "'moe'" in caught.value.hint
    with pytest.raises(MxbenchError, match="no suite") as caught:
        load_suite(workspace, "mla", "smoke")  # no folder at all
    assert caught.value.hint == "there are none"
