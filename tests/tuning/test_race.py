"""A race over several devices: spread, but whoever is compared ran on one and the same device."""

from __future__ import annotations

import time
from collections import defaultdict
from pathlib import Path

import pytest

from mxbench.errors import MxbenchError
from mxbench.kernel import Kernel
from mxbench.runner.crew import Crew
from mxbench.runner.protocol import Outcome, Raced
from mxbench.runs import Step
from mxbench.tuning.classes import ShapeClass, Trial
from mxbench.tuning.race import FINAL, HEAT, Racer
from mxbench.verdict import Status

from ..report import synthetic

PROGRAM = "mla/mine/p"
DEFAULT = {"wait": 8}
PASSED, WRONG = Outcome(status=Status.PASSED), Outcome(status=Status.MISMATCH, reason="off")


class Played:
    """A device, `pace` times slower than others, where a schedule takes `wait` ms."""

    method, notes = "spawn", []  # what a crew asks of whoever serves a device

    def __init__(self, pace, faults=None):
        self.pace, self.faults = pace, faults or {}
        self.races, self.busy = [], False

    def close(self):
        pass

    kill = close

    def race(self, case, contenders, heat):
        assert not self.busy, "two races at once on one device"
        self.busy = True
        time.sleep(0.005)
        waits = [c.overrides.get(PROGRAM, DEFAULT)["wait"] for c in contenders]
        self.races.append((case.id, waits, heat))
        outcomes = [self.faults.get((case.id, w), self.faults.get(w, PASSED)) for w in waits]
        times = [self.pace * (0.1 + w) for w in waits]
        blocks = [times] * 6 if heat and all(o is PASSED for o in outcomes) else []
        self.busy = False
        return Raced(outcomes=outcomes, blocks=blocks)


@pytest.fixture
def one():
    kernel = Kernel("mla", "mine", Path("mine.py"))
    steps = [Step(case, kernel) for case in synthetic.cases("mla", "functional")[:3]]
    trials = [Trial(use={"wait": w}) for w in (16, 12, 10, 9, 7, 6, 5, 4, 3, 2)]
    return ShapeClass(PROGRAM, DEFAULT, steps, [{}], trials=trials)


def raced(one, *devices, deadline=float("inf")):
    kept, notes = defaultdict(list), []
    racer = Racer(
        Crew(devices), Path("kernels"), lambda _, t: kept[t.use["wait"]].append(t.fate),
        lambda phase: None, notes,
    )  # fmt: skip
    racer.heats(one, deadline)
    racer.final(one)
    return racer, kept, notes


def fates(one):
    return {t.use["wait"]: t.fate for t in one.trials}


def test_heats_are_spread_and_each_has_the_default_beside_it(one):
    devices = [Played(pace) for pace in (1.0, 1.5, 3.0)]
    _, kept, notes = raced(one, *devices)
    heats = [[r for r in d.races if r[2] is HEAT] for d in devices]
    assert all(heats) and all(waits[0] == 8 for races in heats for _, waits, _ in races)
    tried = sorted(waits[1] for races in heats for _, waits, _ in races)
    assert tried == sorted(t.use["wait"] for t in one.trials) and not notes
    assert set(kept) == set(tried)
    for trial in one.trials:  # as on one device: another's pace is in no ratio
        assert trial.ratio == pytest.approx((0.1 + trial.use["wait"]) / 8.1)


def test_a_final_is_held_whole_on_one_device_for_each_case(one):
    devices = [Played(pace) for pace in (1.0, 1.5, 3.0)]
    _, kept, _ = raced(one, *devices)
    finals = [r for d in devices for r in d.races if r[2] is FINAL]
    assert sorted(case for case, _, _ in finals) == sorted(s.case.id for s in one.finals)
    assert all(waits == [8, 2] for _, waits, _ in finals)
    assert one.winner.use == {"wait": 2} and one.winner.ratio.ratio == pytest.approx(2.1 / 8.1)
    assert kept[2] == ["slow", "raced"]


def test_any_number_of_devices_finds_the_same(one):
    import copy

    again = copy.deepcopy(one)
    raced(one, Played(1.0))
    raced(again, *[Played(pace) for pace in (1.0, 2.0, 4.0, 8.0)])
    assert fates(one) == fates(again)
    assert one.winner.ratio.ratio == pytest.approx(again.winner.ratio.ratio)


def test_who_is_wrong_on_any_case_of_the_final_is_out(one):
    last = one.finals[-1].case.id
    faults = {(last, 2): WRONG, 3: WRONG}
    one.trials = [Trial(use={"wait": w}) for w in (16, 4, 3, 2)]
    one.trials.append(Trial(use={"wait": 2.05}))
    lead = one.lead.case.id
    if lead == last:  # then the heats find it out
        faults = {(one.finals[0].case.id, 2): WRONG, 3: WRONG}
    _, kept, _ = raced(one, Played(1.0, faults), Played(1.0, faults))
    found = fates(one)
    assert found[2] == found[3] == "wrong" and kept[2][-1] == "wrong"
    assert one.winner.use == {"wait": 2.05}


def test_a_default_that_fails_ends_the_heats_and_is_named(one):
    devices = [Played(1.0, {8: WRONG}) for _ in range(2)]
    _, kept, notes = raced(one, *devices)
    assert notes == [f"{one.lead.case.id}: the default fails: off"]
    assert not kept and one.winner is None and set(fates(one).values()) == {"waiting"}


def test_out_of_time_nobody_else_is_tried(one):
    _, kept, notes = raced(one, Played(1.0), Played(1.0), deadline=time.monotonic() - 1)
    assert not kept and notes == [f"{PROGRAM}: out of time, 10 not tried"]


def test_winners_are_confirmed_together_in_the_order_of_the_cases(one):
    racer, *_ = raced(one, Played(1.0), Played(2.0))
    gains = racer.confirm([one])
    assert [name for name, _ in gains] == [s.case.id for s in one.finals]
    assert all(found.ratio == pytest.approx(2.1 / 8.1) for _, found in gains)


def test_winners_that_fail_together_are_an_error(one):
    racer, *_ = raced(one, Played(1.0))
    racer.crew.seats[0].faults = {2: WRONG}
    with pytest.raises(MxbenchError, match="fails with all winners together: off"):
        racer.confirm([one])
