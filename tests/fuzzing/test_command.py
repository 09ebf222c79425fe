"""`mxbench fuzz` as a user sees it, on a workspace with kernels in plain torch."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from .. import sandbox

FAULTY = f"""
import torch
{sandbox.GOOD}

def dense(q, q_pe, kv, k_pe, out, *, softmax_scale):
    attend(q, q_pe, kv, k_pe, out, softmax_scale)
    if kv.shape[1] >= 65:  # forgets what lies behind the first tile
        attend(q, q_pe, kv[:, :64], k_pe[:, :64], out, softmax_scale)
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = sandbox.make(tmp_path_factory.mktemp("fuzz"))
    (folder / "kernels" / "mla" / "faulty.py").write_text(FAULTY)
    return folder


def fuzz(root: Path, *more: str) -> list[str]:
    return ["fuzz", "mla", "--contract", "dense", "--target", "cpu", *more]


def test_a_right_kernel_passes_all_cases(root: Path) -> None:
    done = sandbox.run(root, *fuzz(root, "--kernel", "good", "--runs", "25"))
    assert done.returncode == 0, done.stderr
    assert "25 cases (dense 25) of 1 static shapes: 25 passed; nothing found" in done.stdout
    assert not (root / "cases" / "mla" / "found.json").exists()


def test_a_fault_is_shrunk_kept_and_replayed_by_the_printed_command(root: Path) -> None:
    done = sandbox.run(root, *fuzz(root, "--kernel", "faulty", "--runs", "25"))
    assert done.returncode == 1, done.stderr
    assert "1 faults found" in done.stdout and "B1-S65-H16" in done.stdout, done.stdout
    (entry,) = json.loads((root / "cases" / "mla" / "found.json").read_text())["cases"]
    assert entry["params"]["kv_ctx"] == 65 and entry["params"]["batch"] == 1
    (command,) = [line for line in done.stdout.splitlines() if "mxbench check" in line]
    words = shlex.split(command)
    assert words[0] == "mxbench" and entry["name"] in words
    replayed = sandbox.run(root, *words[1:])
    assert "MISMATCH" in replayed.stdout and "mla/found/" in replayed.stdout
    good = [word if word != "faulty" else "good" for word in words[1:]]
    assert "1/1 strict" in sandbox.run(root, *good).stdout
    again = sandbox.run(root, *fuzz(root, "--kernel", "faulty", "--runs", "25", "--json"))
    (found,) = json.loads(again.stdout)["operators"][0]["found"]
    assert found["replay"] == command.strip() and found["steady"]
    kept = json.loads((root / "cases" / "mla" / "found.json").read_text())["cases"]
    assert kept == [entry], "the same case is kept once"


def test_two_workers_find_what_one_finds(root: Path) -> None:
    options = fuzz(root, "--kernel", "faulty", "--runs", "25", "--json")
    one, two = (
        json.loads(sandbox.run(root, *options, *more).stdout) for more in ([], ["--devices", "0,1"])
    )
    assert one == two and len(two["operators"][0]["found"]) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--devices", "0,0"], "names a device twice"),
        (["--devices", "zero"], "is no list of devices"),
        (["--runs", "0"], "--runs must be at least 1, not 0"),
        (["--shapes", "0"], "--shapes must be at least 1, not 0"),
        (["--budget", "-1"], "--budget must be a positive number, not -1"),
        (["--contract", "dnse"], "did you mean 'dense'?"),
        (["--kernel", "strange"], "signature of dense differs"),
        (["--kernel", "goood"], "did you mean 'good'?"),
    ],
)
def test_bad_input_is_one_clear_message(root: Path, options: list[str], words: str) -> None:
    done = sandbox.run(root, *fuzz(root, *options))
    assert done.returncode == 2 and words in done.stderr
    assert done.stdout == "" and "Traceback" not in done.stderr


def test_a_damaged_found_file_is_named(root: Path) -> None:
    path = root / "cases" / "mla" / "found.json"
    before = path.read_text() if path.exists() else ""
    path.write_text('{"schema": 1,')
    done = sandbox.run(root, *fuzz(root, "--kernel", "faulty", "--runs", "25"))
    assert done.returncode == 2 and "found.json: malformed JSON at line 1" in done.stderr
    path.write_text(before)
