"""Who runs where, how often, and when it is enough."""

from __future__ import annotations

import pytest

from mxbench.evaluation.board import Board, Policy
from mxbench.evaluation.drift import Baselines
from mxbench.evaluation.messages import Place, Work

from .synthetic import DEVICE

A, B, C = (Place(name, name, name, DEVICE) for name in "abc")
HOST = Place("host", "host", "host", None)
ONE, TWO = Work("one", "mla"), Work("two", "mla")


def test_everything_is_picked_once_the_first_machine_s_tasks_first():
    board = Board([Work(n, "mla", r) for r in (1, 0) for n in ("x", "y")], Policy())
    picked = [board.pick(place) for place in (A, B, A, B)]
    assert [w.replica for w in picked] == [0, 0, 1, 1] and board.pick(A) is None
    for work in picked:
        board.end(work)
    assert board.finished


def test_repeats_run_on_machines_of_their_own():
    board = Board([Work("x", "mla", r) for r in range(3)], Policy())
    assert board.pick(A) == Work("x", "mla", 0) and board.pick(A) is None
    assert board.pick(B) == Work("x", "mla", 1)
    board.end(Work("x", "mla", 0))
    board.end(Work("x", "mla", 1))
    assert board.stuck([A, B]) == [Work("x", "mla", 2)] and not board.stuck([A, B, C])
    assert board.pick(C) == Work("x", "mla", 2)


def test_a_hand_in_that_kills_its_worker_twice_is_done_for_and_others_go_on():
    board = Board([ONE, TWO], Policy(strikes=2))
    assert board.pick(A) == ONE and board.strike(ONE)
    assert board.pick(A) == TWO, "it waits behind those that have had no try yet"
    assert board.pick(B) == ONE and not board.strike(ONE)
    board.end(TWO)
    assert board.finished and board.pick(A) is None


def test_failing_machines_are_no_strikes_and_bounded_as_well():
    board = Board([ONE], Policy(losses=3))
    again = []
    for _ in range(3):
        board.pick(A)
        again.append(board.lose(ONE))
    assert again == [True, True, False] and board.finished and not board.tasks[ONE].strikes


def test_a_drifting_machine_s_task_runs_elsewhere_and_soon_it_gets_none():
    board = Board([ONE, TWO], Policy(flags=2))
    assert board.pick(A) == ONE and board.drifted(ONE, "a", [A, B])
    assert board.pick(A) == TWO and board.pick(A) is None, "not there again"
    assert board.pick(B) == ONE
    assert board.drifted(TWO, "a", [A, B]) and not board.trusted("a")
    board.end(ONE)
    assert board.pick(A) is None and board.pick(B) == TWO


def test_with_nowhere_else_to_go_a_drifting_result_stands():
    board = Board([ONE], Policy())
    board.pick(A)
    assert not board.drifted(ONE, "a", [A]) and board.flags["a"] == 1


def test_reruns_for_drift_are_bounded():
    board = Board([ONE], Policy(drifts=1, flags=9))
    board.pick(A)
    assert board.drifted(ONE, "a", [A, B, C])
    board.pick(B)
    assert not board.drifted(ONE, "b", [A, B, C])


def test_what_a_host_has_compiled_is_measured_first_and_no_device_waits_for_it():
    works = [Work(name, "mla") for name in "abc"]
    board = Board(works, Policy(), compile_apart=True)
    assert board.pick_compile() == works[0] and board.pick_compile() == works[1]
    assert board.pick(A) == works[2], "the others are being compiled"
    board.compiled(works[1])
    assert board.pick(B) == works[1]
    assert board.pick_compile() is None, "all are compiled, being compiled or measured"


# --- drift --------------------------------------------------------------------------------------


@pytest.fixture
def usual():
    found = Baselines()
    for machine in ("a", "b", "c"):
        found.add(machine, {"x": 1.0, "y": 4.0})
    return found


def test_deviation_is_the_geometric_mean_over_the_cases(usual):
    assert usual.deviation({"x": 1.0, "y": 4.0}) == pytest.approx(0)
    assert usual.deviation({"x": 1.21, "y": 4.0}) == pytest.approx(0.1)
    assert usual.deviation({"x": 0.9, "y": 3.6}) == pytest.approx(-0.1)
    assert usual.deviation({"unknown": 1.0}) is None


def test_a_slow_machine_does_not_become_the_usual_one_by_measuring_more(usual):
    for _ in range(20):
        usual.add("slow", {"x": 1.5, "y": 6.0})
    assert usual.deviation({"x": 1.5, "y": 6.0}) == pytest.approx(0.5)


def test_of_two_machines_the_faster_is_the_usual_one():
    found = Baselines()
    for _ in range(3):
        found.add("fast", {"x": 1.0})
        found.add("slow", {"x": 1.2})
    assert found.deviation({"x": 1.2}) == pytest.approx(0.2)
    assert found.deviation({"x": 1.0}) == pytest.approx(0)


def test_little_says_nothing_and_what_is_taken_back_counts_no_more(usual):
    usual.remove("c", {"x": 1.0, "y": 4.0})
    assert usual.deviation({"x": 2.0}) is None
