"""Drawn cases are valid, reach the edges, and stay within what a device does quickly."""

from __future__ import annotations

import pytest

from mxbench import reference, workspace
from mxbench.case import Case
from mxbench.fuzzing import campaign, space
from mxbench.ops import OPERATORS

HERE = workspace.bundled()
CONTRACTS = [(op.name, name) for op in OPERATORS.values() for name in op.contracts]


def drawn(op: str, contract: str, count: int | None = None, runs: int = 60) -> list[Case]:
    among = space.shapes(HERE, op, contract, "cpu", count, seed=3)
    return campaign.drawn(space.cases(op, among, "cpu"), runs, seed=3)


@pytest.mark.parametrize(("op", "contract"), CONTRACTS)
def test_cases_differ_are_small_and_have_inputs(op: str, contract: str) -> None:
    cases = drawn(op, contract)
    assert len({case.encode() for case in cases}) > 40
    assert {case.contract for case in cases} == {contract}
    assert max(case.work.flops for case in cases) < 2e8
    for case in cases[:15]:
        inputs = reference.make_inputs(case, "cpu")
        outputs = reference.make_outputs(case, inputs, "cpu")
        assert set(outputs) == set(case.spec.outputs)


@pytest.mark.parametrize(("op", "contract"), CONTRACTS)
def test_a_number_of_shapes_is_that_number(op: str, contract: str) -> None:
    assert len(space.shapes(HERE, op, contract, "cpu", 1, seed=0)) == 1
    familiar = space.shapes(HERE, op, contract, "cpu", None, seed=0)
    many = space.shapes(HERE, op, contract, "cpu", len(familiar) + 3, seed=0)
    assert len(set(many)) == len(familiar) + 3
    assert set(familiar) <= set(many)
    among = space.cases(op, many, "cpu")
    assert {type(c.params) for c in campaign.drawn(among, 30, 0)} == {
        OPERATORS[op].contracts[contract].params
    }


def test_the_same_seed_draws_the_same_cases() -> None:
    assert drawn("mla", "paged") == drawn("mla", "paged")


def test_edges_and_extremes_are_among_them() -> None:
    routed = drawn("moe", "routed", runs=150)
    sizes = [n for case in routed for n in case.params.group_sizes or ()]
    assert {0, 127, 128, 129} <= set(sizes), "sizes around the row block, and empty experts"
    assert {case.recipe.values for case in routed} == {"normal", "equal"}
    layer = drawn("moe", "layer", runs=150)
    assert {c.recipe.down for c in layer if c.recipe.values == "normal"} > {1.0, 1e-6}
    equal = {c.recipe.down for c in layer if c.recipe.values == "equal"}
    assert 1e-6 in equal and 1.0 not in equal, "denormal inner rows would show"
    paged = drawn("mla", "paged", runs=150)
    assert {case.params.kv_ctx % 64 for case in paged} >= {0, 1, 63}
    assert {1e-6, 1.0} <= {case.recipe.kv for case in paged}
    patterns = {case.recipe.pattern for case in drawn("nsa", "selected", runs=150)}
    assert {"none", "future", "negative", "repeated"} <= patterns
