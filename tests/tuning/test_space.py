"""Which schedules are tried: read off the schedule files, single changes first."""

from __future__ import annotations

import pytest

from mxbench.errors import MxbenchError
from mxbench.tuning import space

DEFAULT = {"block": 64, "stages": 2, "warps": "rows", "slack": 1.5}
TABLES = {
    "cuda-sm90": {"op/k/p": [{"use": DEFAULT}, {"use": {**DEFAULT, "block": 16}}]},
    "cuda-sm80": {"op/k/p": [{"use": {**DEFAULT, "warps": "square"}}], "op/k/q": [{"use": {}}]},
    "cpu": {"op/k/p": [{"use": {**DEFAULT, "block": 7}}]},
}


def test_values_are_those_of_the_files_and_the_neighbours():
    assert space.values(TABLES, "cuda-sm90", "op/k/p", DEFAULT) == {
        "block": [64, 32, 128, 16],
        "stages": [2, 1, 3, 4],
        "warps": ["rows", "square"],
        "slack": [1.5, 0.75, 3.0],
    }


def test_a_cpu_learns_nothing_from_gpus():
    found = space.values(TABLES, "cpu", "op/k/p", {"threads": 1, "block": 64})
    assert found == {"threads": [1], "block": [64, 32, 128, 7]}


def test_candidates_are_single_changes_then_pairs_without_the_default():
    values = {"a": [1, 2, 3], "b": ["x", "y"]}
    found = space.candidates(values, 10)
    assert found[:3] == [{"a": 2, "b": "x"}, {"a": 3, "b": "x"}, {"a": 1, "b": "y"}]
    assert sorted(map(space.key, found[3:])) == sorted(
        map(space.key, [{"a": 2, "b": "y"}, {"a": 3, "b": "y"}])
    )
    assert space.candidates(values, 4) == found[:4], "the order is always the same"
    assert space.size(values) == 6


def test_what_paid_is_combined_best_first_and_nothing_is_tried_twice():
    default = {"a": 1, "b": 1, "c": 1}
    paid = [{**default, "a": 2}, {**default, "b": 2}, {**default, "a": 3}]
    known = [space.key(s) for s in paid]
    assert space.combined(default, paid, known) == [
        {"a": 2, "b": 2, "c": 1},
        {"a": 3, "b": 2, "c": 1},
    ]


def test_the_user_s_values_go_before_those_found_but_the_default_stays():
    wanted = space.parse_wanted(["block=8, 256", "warps=columns"])
    found = space.narrowed({"block": [64, 32], "warps": ["rows"], "c": [1, 2]}, wanted, "p")
    assert found == {"block": [64, 8, 256], "warps": ["rows", "columns"], "c": [1, 2]}


@pytest.mark.parametrize("text", ["stages", "stages=", "=3", ""])
def test_what_is_no_choice_of_values_is_refused(text):
    with pytest.raises(MxbenchError, match="is not PARAMETER=VALUE"):
        space.parse_wanted([text])


def test_an_unknown_parameter_is_refused_with_the_nearest():
    with pytest.raises(MxbenchError, match="no parameter 'stagse'") as caught:
        space.narrowed({"stages": [1]}, {"stagse": [2]}, "p")
    assert "stages" in caught.value.hint
