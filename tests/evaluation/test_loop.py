"""An evaluation from hand-ins to ranking, on devices that are played by this test."""

from __future__ import annotations

import queue

import msgspec
import pytest

from mxbench.errors import MxbenchError
from mxbench.evaluation import entrants, outcome, setting
from mxbench.evaluation.board import Policy
from mxbench.evaluation.executor import Came, Lost, Over
from mxbench.evaluation.ledger import Ledger
from mxbench.evaluation.loop import Loop
from mxbench.evaluation.messages import Place, Result, Work

from . import synthetic as syn

MEANS = {"quick": 1.0, "middling": 2.0, "lazy": 3.0, "late": 5.0}


class Played:
    """Devices a, b, ...: what a try comes to is computed at once. Implements `Executor`."""

    def __init__(self, here, names="ab", slow=(), play=None, shares_host=False):
        self.events = queue.SimpleQueue()
        self.notes, self.dashboard, self.shares_host = [], "", shares_host
        self.here, self.slow, self.play = here, slow, play or {}
        self.alive = [Place(name, name, name, syn.DEVICE) for name in names]
        self.tries = []

    def places(self):
        return list(self.alive)

    def start(self, run, task):
        self.tries.append((str(run.work), run.place.id, len(task.order.given)))
        played = self.play.get(run.work.hand_in)
        if played is not None and (event := played(run, task)) is not None:
            self.events.put(event)
            return
        for record in self.records(run, task):
            self.events.put(Came(run, record))
        self.events.put(Over(run, Result(status="finished", device=syn.DEVICE)))

    def records(self, run, task):
        factor = 1.2 if run.place.id in self.slow else 1.0
        found = []
        for record in syn.records(self.here, MEANS.get(run.work.hand_in, 1.5)):
            timing = msgspec.structs.replace(record.timing, mean=record.timing.mean * factor)
            found.append(msgspec.structs.replace(record, timing=timing))
        given = {(r.id, r.kernel) for r in task.order.given}
        return [r for r in found if (r.id, r.kernel) not in given]

    def close(self):
        pass


@pytest.fixture
def here(tmp_path):
    return syn.contest(tmp_path / "ws")


@pytest.fixture
def evaluate(here, tmp_path):
    """Evaluates hand-ins of these names; returns loop, wish and executor."""

    def run(names=tuple(MEANS), executor=None, before=lambda loop: None, **changes):
        for name in names:
            if not (tmp_path / "subs" / f"{name}.zip").exists():
                syn.pack(tmp_path / "subs" / f"{name}.zip", here, "good")
        executor = executor or Played(here)
        wish = syn.wish(here, **{"patience": 0.5, **changes})
        hand_ins = entrants.find([tmp_path / "subs"])
        kept = Ledger(tmp_path / "out", wish.decisive)
        try:
            loop = Loop(
                hand_ins, setting.kit(here), wish.options(here, executor, ()),
                wish.board(hand_ins), kept, executor,
            )  # fmt: skip
            before(loop)
            loop.run(lambda: None)
        finally:
            kept.close()
        return loop, wish, executor

    return run


def ranks(here, loop, wish):
    ((_, tables, _),) = setting.rank(here, wish, loop)
    return {p.hand_in: p.rank for table in tables for p in table.places}


def test_hand_ins_are_ranked_and_the_ratio_to_the_baseline_is_kept(here, evaluate):
    loop, wish, executor = evaluate()
    assert ranks(here, loop, wish) == {"quick": 1, "middling": 2, "lazy": 3, "late": None}
    line = loop.results[Work("middling", "mla")]
    assert line.status == "finished" and line.passed == line.cases == len(syn.KEYS)
    assert set(line.ratios.values()) == {2.0} and set(line.baseline.values()) == {4.0}
    assert {place for _, place, _ in executor.tries} == {"a", "b"}


def test_a_finished_evaluation_is_not_run_again(here, evaluate):
    first, wish, _ = evaluate()
    again, _, executor = evaluate()
    assert executor.tries == [] and ranks(here, again, wish) == ranks(here, first, wish)


def test_what_is_finished_of_a_lost_try_is_given_to_the_next(here, evaluate):
    lost = []

    def play(run, task):
        if not lost:
            lost.append(run.place.id)
            for record in syn.records(here, 1.0)[:3]:
                executor.events.put(Came(run, record))
            return Lost(run, "the machine burnt down", blame=True)
        return None

    executor = Played(here, play={"quick": play})
    loop, wish, _ = evaluate(executor=executor)
    assert [given for name, _, given in executor.tries if name == "quick mla"] == [0, 3]
    assert ranks(here, loop, wish)["quick"] == 1
    assert loop.results[Work("quick", "mla")].cases == len(syn.KEYS)


def test_a_killer_is_recorded_after_its_second_worker_and_stops_nobody(here, evaluate):
    play = {"late": lambda run, task: Lost(run, "its worker was gone", blame=True)}
    loop, wish, executor = evaluate(executor=Played(here, play=play))
    line = loop.results[Work("late", "mla")]
    assert line.status == "died" and "died 2 times" in line.reason
    assert sum(name == "late mla" for name, _, _ in executor.tries) == 2
    assert ranks(here, loop, wish) == {"quick": 1, "middling": 2, "lazy": 3}


def test_a_lost_scheduler_is_no_strike(here, evaluate):
    once = iter([True])

    def play(run, task):
        return Lost(run, "the scheduler was gone", blame=False) if next(once, False) else None

    loop, wish, _ = evaluate(executor=Played(here, play=dict.fromkeys(MEANS, play)))
    assert ranks(here, loop, wish)["quick"] == 1
    assert all(task.strikes == 0 for task in loop.board.tasks.values())


def test_a_malformed_hand_in_is_named_and_a_late_message_of_a_try_is_ignored(here, evaluate):
    def play(run, task):
        executor.events.put(Over(run, Result(status="malformed", reason="no kernels/ in it")))
        return Over(run, Result(status="finished"))

    executor = Played(here, play={"lazy": play})
    loop, wish, _ = evaluate(executor=executor)
    assert loop.results[Work("lazy", "mla")].reason == "no kernels/ in it"
    ((_, _, missing),) = setting.rank(here, wish, loop)
    assert missing[0].faults[0] == "malformed: no kernels/ in it"


def test_a_machine_whose_baseline_drifts_is_flagged_and_its_tasks_rerun(here, evaluate, tmp_path):
    executor = Played(here, names="abc", slow="c")
    names = [f"n{i}" for i in range(9)]
    loop, _, _ = evaluate(names, executor)
    assert not loop.board.trusted("c") and loop.board.trusted("a")
    assert {line.machine for line in loop.results.values()} == {"a", "b"}
    assert {next(iter(line.baseline.values())) for line in loop.results.values()} == {4.0}
    assert len(list((tmp_path / "out" / "handins").rglob("dropped-1.jsonl"))) == sum(
        place == "c" for _, place, _ in executor.tries
    )
    assert any("c: its baseline of mla is +20.0% off" in str(n) for n in loop.book.news)
    # Continued, the flags and results are as they were.
    again, _, idle = evaluate(names, Played(here, names="abc"))
    assert idle.tries == [] and not again.board.trusted("c")


def test_one_machine_alone_is_flagged_but_its_results_stand(here, evaluate):
    drifting = Played(here, names="a")

    def play(run, task):
        drifting.slow = "a" if len(drifting.tries) > 4 else ""

    drifting.play = {f"n{i}": play for i in range(6)}
    loop, _, _ = evaluate([f"n{i}" for i in range(6)], drifting)
    assert len(loop.results) == 6
    assert sum(line.deviation is not None for line in loop.results.values()) == 2


def test_repeats_show_how_far_machines_are_apart(here, evaluate, tmp_path):
    executor = Played(here, names="abc", slow="b")
    loop, _, _ = evaluate(["quick"], executor, repeat_on=3, drift=0.5)
    (apart,) = outcome.apart(loop.results)
    assert sorted(apart.machines) == ["a", "b", "c"]
    assert apart.baseline == pytest.approx(0.2) and apart.ratio == pytest.approx(0)
    assert (tmp_path / "out" / "repeats" / "3" / "quick" / "mla" / "journal.jsonl").exists()


def test_more_repeats_than_machines_end_with_the_reason(evaluate, here):
    loop, _, _ = evaluate(["quick"], repeat_on=3)
    line = loop.results[Work("quick", "mla", 2)]
    assert (line.status, line.reason) == ("unmeasured", "no further machine to repeat it on")


def test_all_are_timed_on_one_model(here, evaluate):
    executor = Played(here, names="abc")
    other = msgspec.structs.replace(syn.DEVICE, name="NVIDIA H200")
    executor.alive[2] = Place("c", "c", "c", other)
    loop, _, _ = evaluate(executor=executor)
    assert {place for _, place, _ in executor.tries} == {"a", "b"}
    assert any("1 other devices stay idle" in str(n) for n in loop.book.news)


def test_without_devices_it_waits_and_then_says_how_to_go_on(here, evaluate):
    executor = Played(here)

    def unplug(loop):
        executor.alive.clear()

    with pytest.raises(MxbenchError, match="4 tasks are left") as caught:
        evaluate(executor=executor, before=unplug)
    assert caught.value.exit_code == 3 and "it continues" in caught.value.hint
    loop, wish, _ = evaluate()
    assert ranks(here, loop, wish)["quick"] == 1


def test_a_hand_in_that_kills_this_very_process_twice_is_recorded_too(here, evaluate, tmp_path):
    class Killed(BaseException):
        pass

    def die(run, task):
        raise Killed

    for _ in range(2):
        executor = Played(here, names="a", play={"late": die}, shares_host=True)
        with pytest.raises(Killed):
            evaluate(["late", "quick"], executor)
        ledger = tmp_path / "out" / "ledger.jsonl"  # killed, it would not have said that it stops
        lines = ledger.read_text().splitlines(keepends=True)
        ledger.write_text("".join(line for line in lines if '"stop"' not in line))
    loop, wish, _ = evaluate(["late", "quick"], Played(here, shares_host=True))
    assert loop.results[Work("late", "mla")].status == "died"
    assert ranks(here, loop, wish) == {"quick": 1}


def test_behind_a_fence_the_death_of_this_process_convicts_nobody_but_has_an_end(
    here, evaluate, tmp_path
):
    class Killed(BaseException):
        pass

    def die(run, task):
        raise Killed

    def killed():
        executor = Played(here, names="a", play={"late": die}, shares_host=True)
        executor.alive = [msgspec.structs.replace(p, fenced=True) for p in executor.alive]
        with pytest.raises(Killed):
            evaluate(["late", "quick"], executor)
        ledger = tmp_path / "out" / "ledger.jsonl"
        lines = ledger.read_text().splitlines(keepends=True)
        ledger.write_text("".join(line for line in lines if '"stop"' not in line))

    for _ in range(Policy().losses - 1):
        killed()
    loop, wish, _ = evaluate(["late", "quick"], Played(here, shares_host=True))
    assert ranks(here, loop, wish) == {"quick": 1, "late": None}
    assert loop.results[Work("late", "mla")].status == "finished"
    task = loop.board.tasks[Work("late", "mla")]
    assert (task.strikes, task.losses) == (0, Policy().losses - 1)


def test_losses_are_counted_over_all_runs(here, evaluate, tmp_path):
    class Killed(BaseException):
        pass

    def die(run, task):
        if Policy().losses - 1 == len(lost):
            raise Killed
        lost.append(run)
        return Lost(run, "its worker was gone", blame=False)

    lost = []
    with pytest.raises(Killed):
        evaluate(["late", "quick"], Played(here, play={"late": die}))
    once = iter([True])

    def lose(run, task):
        return Lost(run, "its worker was gone", blame=False) if next(once, False) else None

    loop, wish, _ = evaluate(["late", "quick"], Played(here, play={"late": lose}))
    line = loop.results[Work("late", "mla")]
    assert (line.status, line.reason) == (
        "unmeasured", "given up after 5 lost tries, at last: its worker was gone",
    )  # fmt: skip
    assert ranks(here, loop, wish) == {"quick": 1}


def test_a_folder_with_another_evaluation_is_left_alone(evaluate):
    evaluate(["quick"])
    with pytest.raises(MxbenchError, match="another suite"):
        evaluate(["quick"], suite="tiny")


@pytest.mark.parametrize("kill", [b'{"kind":"resu', b"\x00\xff"])
def test_a_ledger_cut_by_a_kill_is_read_up_to_there(here, evaluate, tmp_path, kill):
    evaluate(["quick"])
    with (tmp_path / "out" / "ledger.jsonl").open("ab") as file:
        file.write(kill)
    _, wish, executor = evaluate(["quick", "lazy"])
    assert [name for name, _, _ in executor.tries] == ["lazy mla"]
    again, _, executor = evaluate(["quick", "lazy"])
    assert executor.tries == [] and ranks(here, again, wish) == {"quick": 1, "lazy": 2}


def test_policy_defaults_are_what_the_help_says():
    assert (Policy().strikes, Policy().losses) == (2, 5)
