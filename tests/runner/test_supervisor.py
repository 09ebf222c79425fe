"""A worker that dies, hangs or cheats costs one case, which is named; the next one is fine."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from mxbench import workspace
from mxbench.case import Case, load_suite
from mxbench.errors import MxbenchError
from mxbench.kernel import Kernel
from mxbench.runner.protocol import Outcome
from mxbench.runner.supervisor import Supervisor
from mxbench.verdict import Status


def case(root: Path, keys: int, suite: str = "faults") -> Case:
    cases = load_suite(workspace.find(root), "mla", suite).cases
    return next(c for c in cases if c.params.kv_ctx == keys)  # type: ignore[attr-defined]


def kernel(root: Path, name: str) -> Kernel:
    return Kernel("mla", name, root / "kernels" / "mla" / f"{name}.py")


def judge(supervisor: Supervisor, root: Path, keys: int, name: str = "rogue") -> Outcome:
    return supervisor.judge(case(root, keys), kernel(root, name))


@pytest.mark.parametrize(
    ("keys", "status", "words"),
    [
        (1, Status.PASSED, ""),
        (2, Status.CRASHED, "killed by SIGKILL"),
        (3, Status.TIMEOUT, "the kernel did not return within 10 s"),
        (4, Status.NON_FINITE, "head 3, dim 7"),
        (5, Status.RUNTIME_ERROR, "ValueError: no room in x.bin (rogue.py:"),
        (6, Status.CRASHED, "exited with code 3"),
        (7, Status.CRASHED, "Fatal Python error: Segmentation fault (rogue.py:"),
        (8, Status.NON_FINITE, "the kernel returned a Tensor"),
        (9, Status.NOT_IMPLEMENTED, "9 keys"),
        (10, Status.WRONG_SHAPE, "out became [1, 2, 3]"),
        (11, Status.RUNTIME_ERROR, "SystemExit"),
        (12, Status.NON_FINITE, "moved out to other memory"),
        (13, Status.OUT_OF_MEMORY, "allocate"),
        (14, Status.INPUT_MUTATED, "wrote to its input kv"),
        (15, Status.MISMATCH, "head 11"),
    ],
)
def test_each_fault_is_named_and_the_next_case_is_fine(
    supervisor: Supervisor, workspace_root: Path, keys: int, status: Status, words: str
) -> None:
    outcome = judge(supervisor, workspace_root, keys)
    assert (outcome.status, words in outcome.reason) == (status, True), outcome
    assert "/" not in outcome.reason
    assert judge(supervisor, workspace_root, 1, "good").status is Status.PASSED


def test_a_worker_killed_from_outside_costs_the_running_case_alone(
    supervisor: Supervisor, workspace_root: Path
) -> None:
    judge(supervisor, workspace_root, 1, "slow")
    pid = supervisor.pid
    assert pid is not None
    killer = threading.Timer(0.25, os.kill, (pid, signal.SIGKILL))
    killer.start()
    outcome = judge(supervisor, workspace_root, 1, "slow")
    assert outcome.status is Status.CRASHED and "SIGKILL" in outcome.reason
    assert judge(supervisor, workspace_root, 1, "slow").status is Status.PASSED


def test_a_worker_killed_between_cases_costs_none(
    supervisor: Supervisor, workspace_root: Path
) -> None:
    judge(supervisor, workspace_root, 1, "good")
    assert supervisor.pid is not None
    os.kill(supervisor.pid, signal.SIGKILL)
    time.sleep(0.2)
    assert judge(supervisor, workspace_root, 1, "good").status is Status.PASSED


def test_a_kernel_that_does_not_import_is_an_error_with_its_line(
    supervisor: Supervisor, workspace_root: Path
) -> None:
    with pytest.raises(MxbenchError, match=r"No module named 'no_such_module' \(broken.py:1") as it:
        supervisor.load(kernel(workspace_root, "broken"))
    assert it.value.exit_code == 2


def test_stages_are_timed(supervisor: Supervisor, workspace_root: Path) -> None:
    seconds = judge(supervisor, workspace_root, 1, "slow").seconds
    assert set(seconds) == {"inputs", "kernel", "golden"}
    assert 0.5 <= seconds["kernel"] < 3


def test_the_same_seed_gives_the_same_figures(supervisor: Supervisor, workspace_root: Path) -> None:
    first, second = (judge(supervisor, workspace_root, 1, "good") for _ in range(2))
    assert first.errors is not None and first.errors == second.errors


def test_spawned_workers_judge_as_forked_ones(
    workspace_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MXBENCH_START_METHOD", "spawn")
    log = workspace_root / "spawn.log"
    with Supervisor(workspace_root / "kernels", "cpu", log, timeout=30) as one:
        assert one.method == "spawn"
        one.start()
        assert judge(one, workspace_root, 1, "good").status is Status.PASSED


def test_an_unknown_start_method_is_refused(
    workspace_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MXBENCH_START_METHOD", "thread")
    with pytest.raises(MxbenchError, match="MXBENCH_START_METHOD='thread'"):
        Supervisor(workspace_root / "kernels", "cpu", workspace_root / "x.log")
