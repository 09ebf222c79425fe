"""Several devices share the cases: none lost, none on two devices at once, pairs kept together."""

from __future__ import annotations

import json
import os
import threading
import time
from collections import defaultdict
from pathlib import Path

import pytest

from mxbench import devices, workspace
from mxbench.case import load_suite
from mxbench.errors import MxbenchError
from mxbench.kernel import Kernel
from mxbench.runner import driver
from mxbench.runner.fleet import Fleet, Seat
from mxbench.runner.protocol import Outcome
from mxbench.runs import Step
from mxbench.verdict import Status

from .. import sandbox
from ..report import synthetic

PASSED = Outcome(status=Status.PASSED)
COUNT = 12


@pytest.fixture
def steps():
    cases = synthetic.cases("mla", "functional")[:COUNT]
    kernels = [Kernel("mla", name, Path(f"{name}.py")) for name in ("mine", "baseline")]
    return [Step(case, kernel) for case in cases for kernel in kernels]


@pytest.fixture
def fleet(tmp_path):
    log = tmp_path / "log"
    return Fleet([Seat({tmp_path: {}}, "cpu", log, str(number)) for number in range(3)])


def test_every_case_once_its_baseline_on_the_same_device_and_none_beside_it(fleet, steps):
    busy, served = defaultdict(int), defaultdict(list)

    def ask(seat, step):
        busy[seat] += 1
        assert busy[seat] == 1, "two cases at once on one device"
        time.sleep(0.002)
        served[seat].append(step.key)
        busy[seat] -= 1
        return PASSED

    done = [step.key for step, _ in fleet.outcomes(steps, ask)]
    assert sorted(done) == sorted(step.key for step in steps)
    assert len(served) == 3
    for keys in served.values():
        assert [k[0] for k in keys[::2]] == [k[0] for k in keys[1::2]]


def test_three_devices_take_a_third_of_the_time(fleet, steps):
    def ask(seat, step):
        time.sleep(0.02)
        return PASSED

    begin = time.monotonic()
    assert len(list(fleet.outcomes(steps, ask))) == len(steps)
    assert time.monotonic() - begin < 0.75 * 0.02 * len(steps)


def test_whoever_stops_early_waits_for_nobody(fleet, steps):
    begin, threads = time.monotonic(), threading.active_count()
    outcomes = fleet.outcomes(steps, lambda seat, step: time.sleep(0.05) or PASSED)
    next(outcomes)
    outcomes.close()
    assert threading.active_count() == threads and time.monotonic() - begin < 5


def test_a_device_that_cannot_go_on_ends_the_run(fleet, steps):
    def ask(seat, step):
        raise MxbenchError("the GPU is gone")

    with pytest.raises(MxbenchError, match="the GPU is gone"):
        list(fleet.outcomes(steps, ask))


@pytest.mark.parametrize(
    ("text", "mine", "target", "expected"),
    [
        (None, None, "auto", [None]),
        ("0,2", None, "cuda", ["0", "2"]),
        ("1,0", "GPU-aa,GPU-bb", "auto", ["GPU-bb", "GPU-aa"]),
        ("all", "4,7", "auto", ["4", "7"]),
        ("0,1", None, "cpu", [None, None]),
        ("all", None, "cpu", [None]),
    ],
)
def test_devices_are_named_as_this_process_sees_them(monkeypatch, text, mine, target, expected):
    monkeypatch.delenv(devices.VISIBLE, raising=False)
    if mine is not None:
        monkeypatch.setenv(devices.VISIBLE, mine)
    assert devices.visible(text, target) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "no list"), ("0;1", "no list"), ("0,0", "twice"), ("0,5", "no device 5")],
)
def test_devices_that_there_are_not(monkeypatch, text, words):
    monkeypatch.setenv(devices.VISIBLE, "0,1")
    with pytest.raises(MxbenchError, match=words) as caught:
        devices.visible(text, "auto")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "words", [["check", "mla"], ["tune", "mla"], ["fuzz", "mla", "--runs", "2"]]
)
def test_a_gpu_that_is_not_there_is_no_reason_to_run_on_the_cpu(tmp_path, words):
    root = sandbox.make(tmp_path)
    done = sandbox.run(root, *words, "--kernel", "good", "--devices", "7")
    assert done.returncode == 2 and "there is no GPU 7" in done.stderr, done.stderr
    assert not done.stdout and "Traceback" not in done.stderr


def test_whoever_has_heard_everything_kills_nobody(fleet, steps, monkeypatch):
    monkeypatch.setattr(Seat, "kill", lambda seat: pytest.fail("a worker was killed"))
    assert len(list(fleet.outcomes(steps, lambda seat, step: PASSED))) == len(steps)


def test_two_workers_check_what_one_checks(tmp_path):
    root = sandbox.make(tmp_path)
    words = [
        "check",
        "mla",
        "--target",
        "cpu",
        "--kernel",
        "rogue",
        "--suite",
        "faults",
        "--timeout",
        "5",
        "--json",
    ]
    done = sandbox.run(root, *words, "--case", "*S[1458]-*", "--devices", "0,1")
    assert "2 workers" in done.stderr, done.stderr
    found = {r["case"]: r["status"] for r in json.loads(done.stdout)["records"]}
    cases = [c.name for c in load_suite(workspace.find(root), "mla", "faults").cases]
    assert set(found) <= set(cases) and list(found.values()) == [
        "PASSED", "NON_FINITE", "RUNTIME_ERROR", "NON_FINITE",
    ]  # fmt: skip


def test_a_cpu_times_one_case_at_a_time(tmp_path):
    root = sandbox.make(tmp_path)
    (root / "cases" / "rules").symlink_to(sandbox.REPOSITORY / "cases" / "rules")
    words = ["perf", "mla", "--target", "cpu", "--kernel", "good", "--suite", "tiny"]
    done = sandbox.run(root, *words, "--devices", "0,1")
    assert done.returncode == 2 and "a CPU is one device" in done.stderr


@pytest.mark.parametrize(("companions", "expected"), [("0", 2), ("1", 1), ("3", 0)])
def test_the_baseline_s_resting_worker_is_nobody_else_on_the_gpu(monkeypatch, companions, expected):
    monkeypatch.setenv(driver.COMPANIONS, companions)
    assert driver.others([os.getpid(), 4711, 4712]) == expected
