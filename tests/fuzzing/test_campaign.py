"""A campaign counts honestly, shrinks to the smallest case, and goes on after a fault."""

from __future__ import annotations

from dataclasses import replace

from mxbench import workspace
from mxbench.case import Case
from mxbench.fuzzing import campaign, space
from mxbench.runner.protocol import Outcome
from mxbench.verdict import Status

HERE = workspace.bundled()
SHAPES = space.shapes(HERE, "mla", "dense", "cpu", 1, seed=0)
DENSE = space.cases("mla", SHAPES, "cpu")
PASSED = Outcome(status=Status.PASSED, strict=Status.PASSED)
WRONG = Outcome(status=Status.MISMATCH, strict=Status.MISMATCH, reason="out is off")


def ignore(_: int) -> None:
    pass


def test_nothing_is_found_where_nothing_fails() -> None:
    tally, found = campaign.run(DENSE, lambda case, precision: PASSED, 50, 0, ignore)
    assert (tally.runs, tally.passed, found) == (50, 50, [])
    assert tally.contracts == {"dense": 50}


def test_a_fault_is_shrunk_to_the_smallest_case_that_shows_it() -> None:
    def judge(case: Case, precision: str) -> Outcome:
        return WRONG if case.params.kv_ctx > 37 and case.params.batch > 2 else PASSED

    tally, (one,) = campaign.run(DENSE, judge, 120, 0, ignore)
    assert one.case.params.kv_ctx == 38 and 3 <= one.case.params.batch <= 8
    assert one.case.seed == 0 and one.case.recipe.q == 1.0 and one.steady
    assert one.shrinks > 0 and one.first.params != one.case.params
    assert tally.runs == 120, "it goes on with the runs that are left"
    assert tally.known > 0 and tally.passed + tally.known + 1 == 120


def test_different_faults_are_found_apart() -> None:
    def judge(case: Case, precision: str) -> Outcome:
        if case.dtype == "float16" and case.params.batch % 2:
            return WRONG
        if case.params.kv_ctx > 200:
            return Outcome(status=Status.CRASHED, reason="the worker was killed by SIGSEGV")
        return PASSED

    shapes = space.shapes(HERE, "mla", "dense", "cpu", None, seed=0)
    _, found = campaign.run(space.cases("mla", shapes, "cpu"), judge, 150, 1, ignore)
    assert {one.outcome.status for one in found} == {Status.MISMATCH, Status.CRASHED}
    assert min(one.case.params.kv_ctx for one in found if one.outcome is not WRONG) == 201


def test_what_only_the_fp32_golden_says_is_no_fault() -> None:
    def judge(case: Case, precision: str) -> Outcome:
        return WRONG if precision == "fp32" and case.params.batch > 5 else PASSED

    tally, found = campaign.run(DENSE, judge, 40, 0, ignore)
    assert found == [] and tally.golden > 0 and tally.passed + tally.golden == 40


def test_not_implemented_is_counted_and_no_fault() -> None:
    no = Outcome(status=Status.NOT_IMPLEMENTED, reason="NotImplementedError")
    tally, found = campaign.run(DENSE, lambda case, precision: no, 20, 0, ignore)
    assert found == [] and (tally.not_served, tally.passed) == (20, 0)


def test_a_fault_that_does_not_come_back_is_told_as_such() -> None:
    calls: list[Case] = []

    def judge(case: Case, precision: str) -> Outcome:
        calls.append(case)
        return Outcome(status=Status.CRASHED, reason="x") if len(calls) == 7 else PASSED

    _, (one,) = campaign.run(DENSE, judge, 20, 0, ignore)
    assert not one.steady


def test_a_budget_ends_the_draws() -> None:
    tally, found = campaign.run(DENSE, lambda case, precision: PASSED, 50, 0, ignore, budget=0)
    assert (tally.runs, found) == (0, [])


def stopped_after(judged: int, outcome: Outcome) -> campaign.Judge:
    """A judge that gives so many outcomes; then comes Ctrl-C."""
    outcomes = iter([outcome] * judged)

    def judge(case: Case, precision: str) -> Outcome:
        for one in outcomes:
            return one
        raise KeyboardInterrupt

    return judge


def test_ctrl_c_loses_nothing_that_was_judged() -> None:
    tally, found = campaign.run(DENSE, stopped_after(7, PASSED), 50, 0, ignore)
    assert tally.interrupted and (tally.runs, tally.passed) == (7, 7) and not found


def test_ctrl_c_while_a_fault_is_shrunk_keeps_the_smallest_so_far() -> None:
    tally, found = campaign.run(DENSE, stopped_after(5, WRONG), 50, 0, ignore)
    assert tally.interrupted and len(found) == 1


def test_the_strict_verdict_decides() -> None:
    case = campaign.drawn(DENSE, 1, 0)[0]
    loose = Outcome(status=Status.MISMATCH, strict=Status.PASSED, reason="atol")
    assert campaign.fault_of(case, loose) == ""
    tight = replace_status(PASSED, Status.MISMATCH)
    assert campaign.fault_of(case, tight) == "dense MISMATCH"


def replace_status(outcome: Outcome, strict: Status) -> Outcome:
    return Outcome(status=outcome.status, strict=strict, reason="strict: off")


def test_faults_with_other_figures_are_the_same() -> None:
    case = campaign.drawn(DENSE, 1, 0)[0]
    one = Outcome(status=Status.RUNTIME_ERROR, reason="ValueError: 17 rows")
    two = Outcome(status=Status.RUNTIME_ERROR, reason="ValueError: 2 rows")
    assert campaign.fault_of(case, one) == campaign.fault_of(replace(case, seed=9), two) != ""
