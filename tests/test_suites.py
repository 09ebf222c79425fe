"""The committed suites: the contest's lists exactly, and small enough where they must be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from mxbench import schema
from mxbench.case import SUITE_ORDER, Case, load_suite, suite_names
from mxbench.ops import OPERATORS
from mxbench.ops.mla import MlaRecipe
from mxbench.ops.moe import RoutedRecipe
from mxbench.ops.nsa import SelectedRecipe
from mxbench.workspace import find

# The contest's and its judge's lists, copied from their scripts independently of cases/.
CONTEST = json.loads((Path(__file__).parent / "data" / "contest.json").read_text())

WORKSPACE = find()
SUITES = [(op, suite) for op in OPERATORS for suite in suite_names(WORKSPACE, op)]


def cases(op: str, suite: str) -> tuple[Case, ...]:
    return load_suite(WORKSPACE, op, suite).cases


def rows(name: str) -> list[dict[str, Any]]:
    table = CONTEST[name]
    return [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]


def seen(found: tuple[Case, ...] | list[Case], like: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The parameters, seed and counts of the cases, in the columns of the contest's table."""
    every = []
    for case in found:
        counts = msgspec.to_builtins(case.timing) if case.timing else {}
        every.append(msgspec.to_builtins(case.params) | counts | {"seed": case.seed})
    return [{key: values[key] for key in like[0]} for values in every]


def tolerances(found: tuple[Case, ...] | list[Case]) -> set[tuple[float, float, float]]:
    official = [case.tolerance for case in found]
    return {(t.atol, t.rtol, t.max_mismatched_ratio) for t in official}


# ---- every suite ----


@pytest.mark.parametrize("op", OPERATORS)
def test_every_operator_has_every_suite(op: str) -> None:
    own = [name for name in suite_names(WORKSPACE, op) if name in SUITE_ORDER]
    assert own == list(SUITE_ORDER)


@pytest.mark.parametrize(("op", "suite"), SUITES)
def test_every_suite_loads_with_work_and_memory_known(op: str, suite: str) -> None:
    for case in cases(op, suite):
        assert case.work.flops > 0 and case.work.bytes > 0
        assert case.footprint >= case.work.bytes


@pytest.mark.parametrize(("op", "suite"), SUITES)
def test_every_suite_fits_the_published_schema(op: str, suite: str) -> None:
    document = json.loads((WORKSPACE.cases / op / f"{suite}.json").read_text())
    jsonschema.Draft202012Validator(schema.build()).validate(document)


def test_the_published_schema_is_up_to_date() -> None:
    published = (WORKSPACE.cases / "schema.json").read_text()
    assert published == schema.text(), "run `python -m mxbench.schema`"
    jsonschema.Draft202012Validator.check_schema(json.loads(published))


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [("params", "heads", 16), ("params", "dim", "64"), ("inputs", "pattern", "near")],
)
def test_the_schema_refuses_what_the_loader_refuses(part: str, field: str, value: Any) -> None:
    document = json.loads((WORKSPACE.cases / "nsa" / "smoke.json").read_text())
    document["cases"][0].setdefault(part, {})[field] = value
    (error, *_) = jsonschema.Draft202012Validator(schema.build()).iter_errors(document)
    assert error.json_path.startswith(f"$.cases[0].{part}")


# ---- the contest's lists ----


def test_moe_functional_and_performance_are_the_contests() -> None:
    for suite in ("functional", "performance"):
        found, due = cases("moe", suite), rows(f"moe/{suite}")
        assert seen(found, due) == due
        assert len(found) == 2
        assert tolerances(found) == {(0.01, 0.01, 0.0)}
        assert {(c.contract, c.dtype, c.seed) for c in found} == {("routed", "float16", 81394)}
        assert {(c.params.layout, c.recipe) for c in found} == {("compact", RoutedRecipe())}


def test_moe_judge_is_the_judges_and_its_drafts() -> None:
    found = cases("moe", "judge")
    padded, draft = found[:3], found[3:]
    assert seen(padded, rows("moe/judge padded")) == rows("moe/judge padded")
    assert seen(draft, rows("moe/judge draft")) == rows("moe/judge draft")
    assert len(found) == 7
    assert {c.params.layout for c in padded} == {"padded"}
    assert {c.params.layout for c in draft} == {"compact"}
    assert tolerances(padded) == {(0.05, 0.05, 0.0)}
    assert tolerances(draft) == {(0.03, 0.03, 0.0)}
    due = RoutedRecipe(tokens=0.02, route_w="uniform", routing="uniform")
    assert {c.recipe for c in found} == {due}


def test_mla_functional_and_performance_are_the_contests() -> None:
    due = rows("mla/functional")
    assert len(due) == 31
    for suite in ("functional", "performance"):
        found = cases("mla", suite)
        assert seen(found, due) == due
        assert tolerances(found) == {(0.0001, 0.0002, 0.01)}
        assert {(c.contract, c.dtype, c.recipe) for c in found} == {
            ("dense", "float16", MlaRecipe())
        }


def test_mla_judge_runs_the_same_cases_by_its_own_rule() -> None:
    found, due = cases("mla", "judge"), rows("mla/functional")
    assert seen(found, due) == due
    assert tolerances(found) == {(0.002, 0.002, 0.0)}
    assert {c.recipe for c in found} == {MlaRecipe(q=0.125, kv=0.125)}
    assert [c.seed for c in found] == [20250217 + i for i in range(31)]
    mib = 2**20
    for case, sizes in zip(found, due, strict=True):
        cache = sizes["batch"] * sizes["kv_ctx"] * (512 + 64) * 2
        counts = (2, 10) if cache < 128 * mib else (1, 4) if cache < 512 * mib else (0, 2)
        counts = (0, 1) if cache >= 1536 * mib else counts
        assert case.timing is not None
        assert (case.timing.warmup, case.timing.repeat) == counts


def test_nsa_functional_is_the_contests() -> None:
    found, due = cases("nsa", "functional"), rows("nsa/functional")
    assert seen(found, due) == due
    assert len(found) == 109
    assert tolerances(found) == {(0.01, 0.01, 0.0)}
    assert {(c.contract, c.dtype, c.recipe) for c in found} == {
        ("selected", "float16", SelectedRecipe(pattern="random"))
    }
    assert {c.params.scale for c in found} == {0.1}


def test_nsa_judge_is_the_judges() -> None:
    found, due = cases("nsa", "judge"), rows("nsa/judge")
    assert seen(found, due) == due
    assert len(found) == 14
    assert tolerances(found) == {(0.01, 0.01, 0.0)}
    assert [c.seed for c in found] == [20250301 + i for i in range(14)]
    assert {c.recipe for c in found} == {SelectedRecipe(scale=0.125, pattern="local")}
    assert all(c.params.scale == c.params.dim**-0.5 for c in found)


@pytest.mark.parametrize(
    ("op", "counts"), [("moe", (10, 100)), ("mla", (10, 100)), ("nsa", (10, 50))]
)
def test_performance_uses_the_rules_counts(op: str, counts: tuple[int, int]) -> None:
    for case in cases(op, "performance"):
        assert case.timing is not None
        assert (case.timing.warmup, case.timing.repeat) == counts


def test_nsa_performance_is_the_64k_grid() -> None:
    found = cases("nsa", "performance")
    assert {c.params.seqlen for c in found} == {65536}
    grid = {
        (
            c.contract,
            c.params.q_heads,
            c.params.kv_heads,
            c.params.dim,
            getattr(c.recipe, "pattern", ""),
        )
        for c in found
    }
    selected = {
        ("selected", 16 * h, h, dim, pattern)
        for h in (1, 2, 4)
        for dim in (64, 128)
        for pattern in ("random", "local", "clustered")
    }
    full = {("full", 16 * h, h, dim, "") for h in (1, 2, 4) for dim in (64, 128)}
    assert grid == selected | full and len(found) == len(grid)


# ---- our own ----


@pytest.mark.parametrize("op", OPERATORS)
def test_smoke_reaches_every_contract_and_dtype_cheaply(op: str) -> None:
    found = cases(op, "smoke")
    assert {c.contract for c in found} == set(OPERATORS[op].contracts)
    for contract in OPERATORS[op].contracts:
        assert {c.dtype for c in found if c.contract == contract} == {"float16", "bfloat16"}
    assert max(c.work.flops for c in found) < 0.3e9
    assert max(c.footprint for c in found) < 16 * 2**20


@pytest.mark.parametrize("op", OPERATORS)
def test_smoke_needs_few_compilations(op: str) -> None:
    """The distinct static shapes; the dtype is none on a CPU, where everything is fp32."""
    shapes = set()
    for case in cases(op, "smoke"):
        params = msgspec.to_builtins(case.params)
        static = {k: v for k, v in params.items() if k not in case.spec.dynamic}
        # Neither the rows' layout, nor a mask, nor a scale that is an argument is a shape.
        for name in ("layout", "softmax_scale", "causal"):
            static.pop(name, None)
        if op == "nsa":  # a group of query heads is one program, however many groups there are
            static["q_heads"] = params["q_heads"] // params["kv_heads"]
        shapes.add((case.contract, *static.items()))
    assert len(shapes) <= 5


def test_moe_smoke_reaches_its_edges() -> None:
    routed = [c for c in cases("moe", "smoke") if c.contract == "routed"]
    for layout in ("compact", "padded"):
        sizes = {
            size for c in routed if c.params.layout == layout for size in c.params.group_sizes or ()
        }
        assert {0, 1, 127, 128, 129} <= sizes
    assert {"router", "hot", "empty"} <= {c.recipe.routing for c in routed}


def test_mla_smoke_reaches_its_edges() -> None:
    paged = [c.params for c in cases("mla", "smoke") if c.contract == "paged"]
    lengths = {length for p in paged for length in p.cache_seqlens}
    assert {0, 1, 63, 64, 65} <= lengths
    assert {(p.q_len, p.causal) for p in paged} >= {(1, False), (2, True), (2, False)}
    assert {p.heads for p in paged} == {16, 128}


def test_nsa_smoke_reaches_its_edges() -> None:
    selected = [c for c in cases("nsa", "smoke") if c.contract == "selected"]
    patterns = {c.recipe.pattern for c in selected}
    assert patterns >= {"random", "local", "clustered", "unsorted", "repeated", "future", "none"}
    assert {1, 16, 64} <= {c.params.group for c in selected}
    assert {True, False} == {c.params.causal for c in selected}
    assert any(c.params.seqlen % c.params.block_size for c in selected)


def test_models_span_the_published_shapes() -> None:
    moe = {
        (c.params.n_experts, c.params.d_hidden, c.params.d_expert) for c in cases("moe", "models")
    }
    assert moe == {(8, 4096, 14336), (256, 7168, 2048), (32, 7168, 2048), (128, 2048, 768)}
    mla = [c.params for c in cases("mla", "models")]
    assert {p.heads for p in mla} == {16, 128}
    assert {min(p.batch for p in mla), max(p.batch for p in mla)} == {1, 128}
    assert {min(p.kv_ctx for p in mla), max(p.kv_ctx for p in mla)} == {1024, 65536}
    nsa = {(c.contract, c.params.seqlen) for c in cases("nsa", "models")}
    assert {(c, t) for c in ("selected", "full") for t in (4096, 65536)} <= nsa
