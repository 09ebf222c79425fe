"""A campaign over several devices: the same cases and findings as on one, judged side by side."""

from __future__ import annotations

import threading
import time
from collections import defaultdict

from mxbench.case import Case
from mxbench.fuzzing import campaign
from mxbench.fuzzing.spread import WAVE, Spread
from mxbench.runner.crew import Crew
from mxbench.runner.protocol import Outcome
from mxbench.verdict import Status

from .test_campaign import DENSE, PASSED, WRONG, ignore


class Seat:
    """A device that a test plays."""

    method, notes = "spawn", []  # what a crew asks of whoever serves a device

    def __init__(self) -> None:
        self.judged: list[bytes] = []
        self.busy = threading.Lock()

    def close(self) -> None: ...

    kill = close


def faulty(case: Case, precision: str) -> Outcome:
    if case.params.batch % 7 == 3 and case.params.kv_ctx > 20:
        return Outcome(status=Status.CRASHED, reason="the worker was killed by SIGSEGV")
    return WRONG if case.params.kv_ctx > 37 and case.params.batch > 2 else PASSED


def run(count, judge, runs, seconds=0.0, budget=float("inf")):
    """(tally, found, seats)"""

    def on_seat(seat: Seat, case: Case, precision: str) -> Outcome:
        assert seat.busy.acquire(blocking=False), "two cases at once on one device"
        time.sleep(seconds)
        seat.judged.append(case.encode())
        seat.busy.release()
        return judge(case, precision)

    seats = [Seat() for _ in range(count)]
    spread = Spread(Crew(seats), on_seat)
    expect = spread.expect if count > 1 else None
    return *campaign.run(DENSE, spread, runs, 0, ignore, budget, expect), seats


def test_every_case_is_judged_once_and_all_take_part() -> None:
    tally, found, seats = run(3, lambda case, precision: PASSED, 60, seconds=0.002)
    assert (tally.runs, tally.passed, found) == (60, 60, [])
    assert all(len(seat.judged) > 5 for seat in seats)
    judged = [case for seat in seats for case in seat.judged]
    assert len(judged) == 60 and set(judged) == {
        case.encode() for case in campaign.drawn(DENSE, 60, 0)
    }


def test_what_is_found_does_not_depend_on_the_number_of_devices() -> None:
    one, first, _ = run(1, faulty, 80)
    many, again, _ = run(4, faulty, 80)
    assert one == many and len(first) == 2
    assert [(f.case, f.outcome, f.first) for f in first] == [
        (f.case, f.outcome, f.first) for f in again
    ]


def test_a_fault_that_does_not_come_back_is_told_as_such() -> None:
    seen: dict[bytes, int] = defaultdict(int)
    drawn = campaign.drawn(DENSE, 20, 0)[6].encode()

    def judge(case: Case, precision: str) -> Outcome:
        seen[case.encode()] += 1
        once = case.encode() == drawn and seen[drawn] == 1
        return Outcome(status=Status.CRASHED, reason="x") if once else PASSED

    _, (one,), _ = run(2, judge, 20)
    assert not one.steady


def test_a_spent_budget_judges_nothing() -> None:
    tally, found, seats = run(2, lambda case, precision: PASSED, 50, budget=0)
    assert (tally.runs, found) == (0, []) and not any(seat.judged for seat in seats)


def test_a_fault_makes_no_more_than_a_wave_vain() -> None:
    one, many = (run(count, lambda case, precision: WRONG, 100)[2] for count in (1, 2))
    more = sum(len(seat.judged) for seat in many) - len(one[0].judged)
    assert 0 <= more < 2 * WAVE
