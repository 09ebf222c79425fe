"""`mxbench compare` as a user sees it, on a machine without a GPU."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from . import sandbox

WAITING = """
import time
import torch
{attend}

def dense(q, q_pe, kv, k_pe, out, *, softmax_scale):
    time.sleep({seconds})
    _attend(q, q_pe, kv, k_pe, out, softmax_scale)
"""
HASTY = """
CALLS = []

def dense(q, q_pe, kv, k_pe, out, *, softmax_scale):
    CALLS.append(1)
    if len(CALLS) <= 2:  # while it is judged
        _attend(q, q_pe, kv, k_pe, out, softmax_scale)
"""
QUICK = ("--blocks", "6", "--slot-ms", "1")


def waiting(seconds: float) -> str:
    attend = sandbox.GOOD.replace("def attend", "def _attend")
    return WAITING.format(attend=attend, seconds=seconds)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = sandbox.make(tmp_path_factory.mktemp("compare"))
    (folder / "kernels" / "common").unlink()
    shutil.copytree(sandbox.REPOSITORY / "kernels" / "common", folder / "kernels" / "common")
    hasty = sandbox.KERNELS["good"].split("def dense")[0] + HASTY
    (folder / "kernels" / "mla" / "hasty.py").write_text(hasty)
    moving = folder / "kernels" / "mla" / "moving.py"
    moving.write_text(waiting(0.05))
    git(folder, "init", "-q")
    git(folder, "add", "kernels")
    git(folder, "commit", "-q", "-m", "slow")
    moving.write_text(waiting(0.005))
    return folder


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True)


def compare(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return sandbox.run(root, "compare", "mla", *arguments)


def test_a_much_slower_kernel_is_called_slower_and_fails_the_gate(root: Path) -> None:
    done = compare(root, "moving", "slow", "--suite", "tiny", *QUICK)
    assert done.returncode == 1, done.stderr
    assert "slow: slower; time +" in done.stdout and "CPU timings" in done.stdout


def test_a_faster_one_passes_it(root: Path) -> None:
    done = compare(root, "slow", "moving", "--suite", "tiny", *QUICK, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    (case,) = document["cases"]
    assert case["comparisons"][0]["verdict"] == "faster" and case["mode"] == "cpu"
    assert len(case["blocks"]) == 6 and document["geometric_mean"]["high"] < 0.2


def test_a_revision_of_one_kernel_against_the_file_as_it_is_now(root: Path) -> None:
    done = compare(root, "moving", "--rev", "HEAD", "--suite", "tiny", *QUICK, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["a"], document["b"]) == ("moving@HEAD", "moving")
    assert document["cases"][0]["comparisons"][0]["verdict"] == "faster"


def test_the_same_revision_twice_is_the_same_kernel(root: Path) -> None:
    done = compare(
        root, "moving", "--rev", "HEAD", "--rev", "HEAD", "--suite", "tiny", *QUICK,
        "--times", "2", "--resolution", "30", "--tolerance", "50",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.split()[1:2] == ["2"])
    assert line.split()[2:5] == ["0", "0", "2"], "faster, slower, undecided"


def test_a_case_that_one_side_fails_is_named_and_the_others_are_compared(root: Path) -> None:
    done = compare(root, "good", "rogue", "--suite", "faults", "--case", "B1-S[16]-*", *QUICK)
    assert done.returncode == 1
    assert "mla/faults/B1-S6-H16  rogue: CRASHED" in done.stdout
    assert "mla/faults/B1-S1-H16" in done.stdout and "ratio" in done.stdout


def test_a_kernel_that_only_works_when_it_is_judged_is_not_believed(root: Path) -> None:
    done = compare(root, "good", "hasty", "--suite", "tiny", *QUICK)
    assert done.returncode == 1
    assert "hasty: NON_FINITE: after timed calls" in done.stdout and "blocks" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["good"], "needs two kernels"),
        (["good", "goood"], "goood: operator mla has no kernel 'goood'"),
        (["good", "strange"], "signature of dense differs"),
        (["good", "empty"], "lacks contract 'dense'"),
        (["good", "--rev", "no-such"], "git knows no revision 'no-such'"),
        (["good", "--rev", "--all"], "git knows no revision '--all'"),
        (["good", "--rev", "HEAD", "--rev", "HEAD", "--rev", "HEAD"], "stands 3 times"),
        (["x.py", "--rev", "HEAD"], "--rev cannot take x.py"),
        (["good", "slow", "--blocks", "2"], "at least 6"),
        (["good", "slow", "--slot-ms", "0"], "positive"),
        (["good", "slow", "--times", "0"], "at least 1"),
        (["good", "slow", "--tolerance", "-1"], "negative"),
        (["good", "slow", "--mode", "quick"], "unknown mode"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_clear_message(root: Path, arguments: list[str], words: str) -> None:
    done = compare(root, *arguments, "--suite", "tiny", "--target", "cpu")
    assert done.returncode == 2, done.stdout + done.stderr
    assert words in done.stderr and "Traceback" not in done.stderr and not done.stdout


def test_outside_a_repository_there_is_no_revision(tmp_path: Path) -> None:
    sandbox.make(tmp_path)
    done = compare(tmp_path, "good", "--rev", "HEAD", "--suite", "tiny")
    assert done.returncode == 2 and "no git repository" in done.stderr
