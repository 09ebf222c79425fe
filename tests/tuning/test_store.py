"""Schedule files: written as they are kept, with winners that hold for what was raced."""

from __future__ import annotations

import json

import pytest

from mxbench import workspace
from mxbench.errors import MxbenchError
from mxbench.tuning import store
from mxbench.tuning.classes import ShapeClass, Trial, Winner, finalists
from mxbench.versus import Ratio

FOLDER = workspace.bundled().kernels / "common" / "schedules"
OLD, NEW = {"stages": 2}, {"stages": 3}
RATIO = Ratio(0.9, 0.89, 0.91, 20)


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.json")), ids=lambda f: f.name)
def test_a_file_is_written_as_it_stands(file):
    assert store.written(store.read(file)) == file.read_text()


def won(shapes, use=NEW):
    return ShapeClass("op/k/p", OLD, [], shapes, winner=Winner(use, RATIO), decided=True)


def document(*entries):
    return {"device_class": "x", "schedules": {"op/k/p": list(entries), "other": [{"use": {}}]}}


def test_a_winner_goes_before_the_entry_that_served_it_and_holds_for_its_shapes_alone():
    first, last = {"when": {"rows": {"max": 4}}, "use": {"stages": 1}}, {"use": OLD}
    one = won([{"rows": 16, "dim": 64}, {"rows": 32, "dim": 64}])
    found = store.with_winners(document(first, last), [(one, {"device": "d"})])
    assert found["schedules"]["op/k/p"] == [
        first,
        {"when": {"rows": {"min": 16, "max": 32}, "dim": 64}, "use": NEW,
         "evidence": {"device": "d"}},
        last,
    ]  # fmt: skip
    assert found["schedules"]["other"] == [{"use": {}}]


def test_a_later_search_of_the_same_shapes_replaces_its_entry():
    once = store.with_winners(document({"use": OLD}), [(won([{"rows": 16}]), {"tried": 1})])
    again = won([{"rows": 16}], {"stages": 4})
    twice = store.with_winners(once, [(again, {"tried": 2})])
    uses = [entry["use"] for entry in twice["schedules"]["op/k/p"]]
    assert uses == [{"stages": 4}, OLD]


def test_the_kernels_find_the_entry_that_was_written(tmp_path, monkeypatch):
    from mxbench import kernel as kernels

    schedules = kernels.schedules(workspace.bundled().kernels)
    known = store.read(FOLDER / "cpu.json")
    one = ShapeClass(
        "mla/portable/dense", known["schedules"]["mla/portable/dense"][0]["use"], [],
        [{"rows": 48}], winner=Winner({"block_h": 48}, RATIO),
    )  # fmt: skip
    (tmp_path / "cpu.json").write_text(store.written(store.with_winners(known, [(one, {})])))
    monkeypatch.setenv("MXBENCH_SCHEDULES", str(tmp_path))
    schedules.table.cache_clear()
    try:
        assert schedules.lookup("cpu", "mla/portable/dense", {"rows": 48}) == {"block_h": 48}
        assert schedules.lookup("cpu", "mla/portable/dense", {"rows": 16})["block_n"] == 32
    finally:
        monkeypatch.delenv("MXBENCH_SCHEDULES")
        schedules.table.cache_clear()


def test_what_was_tried_is_recalled_past_a_line_that_a_kill_cut_short(tmp_path):
    log = store.Log(tmp_path, "plan", fresh=False)
    log.keep("class", Trial(use=NEW, fate="slow", ratio=1.2))
    log.close(finished=False)
    log.path.write_bytes(log.path.read_bytes() + b'{"shape_class": "cla')
    again = store.Log(tmp_path, "plan", fresh=False)
    assert again.recall() == {("class", json.dumps(NEW)): Trial(use=NEW, fate="slow", ratio=1.2)}
    again.close(finished=True)
    assert not again.path.exists()


def test_a_damaged_schedule_file_is_named(tmp_path):
    (tmp_path / "cpu.json").write_text("{}")
    with pytest.raises(MxbenchError, match=r"cpu\.json: no `schedules`"):
        store.tables(tmp_path)


def test_the_slow_are_left_behind():
    trials = [
        Trial(use={"n": n}, ratio=r, fate="slow") for n, r in enumerate((0.8, 0.83, 0.9, 1.3))
    ]
    assert [t.use["n"] for t in finalists([*trials, Trial(use={}, fate="wrong", ratio=0.1)])] == [
        0,
        1,
    ]
    assert finalists([Trial(use={}, ratio=1.03, fate="slow")]) == [], "nobody near the default"
