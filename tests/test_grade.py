"""Grades: steady, steady with a reservation, unstable; and what is done about the last."""

from __future__ import annotations

import os
import random
from pathlib import Path

import msgspec
import pytest

from mxbench import timing
from mxbench.grade import Conditions, Grade, excess, grade
from mxbench.runner import driver
from mxbench.runner.driver import Driver, Reading, others

DRAW = random.Random(0)
STEADY = [DRAW.gauss(1.0, 0.01) for _ in range(100)]
NOISY = [DRAW.choice((0.7, 1.0, 1.4)) for _ in range(100)]
DRIFTING = [1.0 + 0.002 * i for i in range(100)]
STRAY = [1.0] * 99 + [40.0]


def graded(samples: list[float], **conditions: object) -> Grade:
    return grade(samples, msgspec.convert(conditions, Conditions))


def test_steady_samples_get_an_a() -> None:
    found = graded(STEADY)
    assert found.letter == "A" and found.reasons == [] and not found.unstable
    assert found.noise is not None and 0.005 < found.noise < 0.03
    assert found.drift is not None and abs(found.drift) < 0.01


@pytest.mark.parametrize(
    ("samples", "words"),
    [(NOISY, "noise "), (DRIFTING, "drift +1"), (STRAY, "mean 39 % above the median")],
)
def test_noise_drift_and_single_slow_calls_are_unstable(samples: list[float], words: str) -> None:
    found = graded(samples)
    assert found.letter == "C" and found.unstable and words in found.reasons[0]
    assert excess(samples) > 1 >= excess(STEADY)


def test_what_events_cannot_resolve_is_no_noise() -> None:
    assert graded([0.008 if i % 2 else 0.009 for i in range(100)]).letter == "A"


def test_a_limit_in_force_or_company_is_a_reservation() -> None:
    limited = graded(STEADY, throttled={"power": 0.4})
    assert limited.letter == "B" and limited.reasons == ["power limit 40 % of the time"]
    assert graded(STEADY, throttled={"power": 0.001}).letter == "A"
    assert graded(STEADY, others=2).reasons == ["2 other processes on the GPU"]


def test_company_that_computes_makes_it_unstable() -> None:
    found = graded(STEADY, others=1, busy=0.9)
    assert found.letter == "C" and "kept it busy 90 % of the time" in found.reasons[0]


def test_few_calls_say_nothing_about_spread() -> None:
    found = graded([1.0, 9.0, 1.0])
    assert found.letter == "B" and found.noise is None
    assert found.reasons == ["3 calls are too few to tell their spread"]


# --- measured again -----------------------------------------------------------------------------


def tries(
    *each: list[float],
    conditions: Conditions = Conditions(),  # noqa: B008  # it is frozen
) -> tuple[timing._Try, int]:
    made = iter(each)
    return timing._steadiest(
        lambda: timing._Try(1.0, 1.0, next(made), conditions), pause=0.0, most=3
    )


def test_an_unstable_measurement_is_made_again_until_one_is_steady() -> None:
    kept, count = tries(NOISY, STEADY, NOISY)
    assert kept.samples is STEADY and count == 2
    assert tries(STEADY)[1] == 1


def test_of_unstable_ones_the_steadiest_is_kept_whichever_is_fastest() -> None:
    worse = [x * 0.1 for x in STRAY]
    kept, count = tries(worse, NOISY, worse)
    assert kept.samples is NOISY and count == 3


def test_a_drift_that_a_limit_explains_is_not_measured_again() -> None:
    limited = Conditions(throttled={"power": 0.5})
    kept, count = tries(DRIFTING, STEADY, conditions=limited)
    assert kept.samples is DRIFTING and count == 1


# --- the driver ---------------------------------------------------------------------------------


def reading(at: float, power: float, pids: list[int] | None, used: float | None) -> Reading:
    return Reading(at, {"power": power}, pids, used)


def watched(monkeypatch: pytest.MonkeyPatch, *readings: Reading) -> Conditions:
    monkeypatch.setattr(driver, "IDLE_WAIT", 0.0)
    made = iter(readings)
    one = Driver(None)
    one.read = lambda: next(made)
    return one.conditions(one.before())


def test_conditions_are_what_changed_between_two_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    me = [os.getpid()]
    found = watched(monkeypatch, reading(10, 1.0, me, 1.0), reading(12, 1.5, me, 1.0))
    assert found == Conditions(throttled={"power": 0.25}, others=0)


def test_others_are_looked_at_while_we_are_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    both = [os.getpid(), 1]
    first, idle, last = (reading(t, 0.0, both, u) for t, u in ((0, 1.0), (1, 0.8), (2, 1.0)))
    assert watched(monkeypatch, first, idle, last) == Conditions(others=1, busy=0.8)
    quiet = reading(1, 0.0, both, 0.02)
    assert watched(monkeypatch, first, quiet, last) == Conditions(others=1)


def test_a_process_of_another_name_space_is_still_one_of_them() -> None:
    assert others([4711]) == 0 and others([4711, 4712]) == 1
    assert others([]) is None and others(None) is None


def test_without_a_driver_nothing_is_said() -> None:
    one = Driver(None)
    assert one.before() is None and one.conditions(None) == Conditions()


SMI = """#!/bin/sh
case "$*" in
  *--query-compute-apps=pid*) echo 17; echo 23 ;;
  *clocks_event_reasons_counters*) echo '35, 2500000, 0, [N/A]' ;;
esac
"""


def test_nvidia_smi_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(SMI)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    read = driver._smi("GPU-1")
    assert read is not None
    found = read()
    assert (found.pids, found.utilization) == ([17, 23], 0.35)
    assert found.limited == {"power": 2.5, "thermal": 0.0}


def test_an_nvidia_smi_that_fails_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nexit 9\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert driver._smi("GPU-1") is None
