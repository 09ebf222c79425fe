"""`mxbench tune` as a user sees it: dry runs for other devices, and a search on the CPU."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from .. import sandbox

# Its schedule says how long it waits and how it misbehaves: a search must see through that.
TUNABLE = """
import os
import signal
import time
import torch
from ..common.schedule import schedule
{attend}

def dense(q, q_pe, kv, k_pe, out, *, softmax_scale):
    use = schedule("mla/tunable/wait", kv_ctx=kv.shape[1])
    if use["mode"] == "uncompilable":
        os._exit(7)
    if q.is_meta:
        return
    if use["mode"] == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(use["wait"] / 1000)
    _attend(q, q_pe, kv, k_pe, out, softmax_scale)
    if use["mode"] == "wrong":
        out.zero_()
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = sandbox.make(tmp_path_factory.mktemp("tune"))
    common = folder / "kernels" / "common"
    common.unlink()
    shutil.copytree(sandbox.REPOSITORY / "kernels" / "common", common)
    file = common / "schedules" / "cpu.json"
    known = json.loads(file.read_text())
    known["schedules"]["mla/tunable/wait"] = [{"use": {"wait": 64, "mode": "right"}}]
    file.write_text(json.dumps(known))
    attend = sandbox.GOOD.replace("def attend", "def _attend")
    (folder / "kernels" / "mla" / "tunable.py").write_text(TUNABLE.format(attend=attend))
    return folder


def tune(root: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    options = ["--kernel", "tunable", "--suite", "tiny", "--target", "cpu"]
    return sandbox.run(root, "tune", "mla", *options, *arguments, **more)


def test_a_search_finds_the_faster_and_names_the_wrong_and_the_crashed(root: Path) -> None:
    before = (root / "kernels/common/schedules/cpu.json").read_bytes()
    modes = "mode=right,wrong,crash,uncompilable"
    out = root / "mine"
    done = tune(root, "--try", modes, "--try", "wait=64,16", "--out", "mine", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    (one,) = json.loads(done.stdout)["classes"]
    fates = {(t["use"]["wait"], t["use"]["mode"]): t["fate"] for t in one["trials"]}
    assert fates[16, "right"] == "raced" and one["winner"]["use"] == {"wait": 16, "mode": "right"}
    assert fates[64, "wrong"] == fates[16, "wrong"] == "wrong"
    assert fates[64, "crash"] == fates[16, "crash"] == "crashed"
    # It ends the process that looks at it before anything is compiled.
    assert fates[64, "uncompilable"] == "dropped"
    (entry, _) = json.loads((out / "cpu.json").read_text())["schedules"]["mla/tunable/wait"]
    assert entry["when"] == {"kv_ctx": 1} and entry["use"]["wait"] == 16
    assert entry["evidence"]["time_over_default"][2] < 0.6
    assert (root / "kernels/common/schedules/cpu.json").read_bytes() == before
    check = ["check", "mla", "--kernel", "tunable", "--suite", "tiny", "--verbose"]
    assert "wait=64" in sandbox.run(root, *check, "--fresh").stderr
    used = sandbox.run(root, *check, "--fresh", MXBENCH_SCHEDULES=str(out)).stderr
    assert "wait=16" in used


def test_where_nothing_is_faster_nothing_is_written(root: Path) -> None:
    done = tune(root, "--try", "wait=256", "--try", "mode=right", "--out", "none")
    assert done.returncode == 0, done.stderr
    assert "nothing was written" in done.stdout and "as it is" in done.stdout
    assert not (root / "none" / "cpu.json").exists()


def test_an_interrupted_search_goes_on(root: Path) -> None:
    arguments = ["--try", "wait=70,80", "--try", "mode=right", "--out", "again"]
    options = ["--kernel", "tunable", "--suite", "tiny", "--target", "cpu"]
    process = sandbox.start(root, "tune", "mla", *options, *arguments)
    deadline = time.monotonic() + 120
    folder = root / ".mxbench" / "tune"
    while not any(f.stat().st_size for f in folder.glob("*.jsonl")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.1)
    process.kill()
    process.communicate(timeout=60)
    done = tune(root, *arguments)
    assert done.returncode == 0, done.stderr
    assert "candidates were tried before" in done.stdout
    assert not list(folder.glob("*.jsonl")), "a finished search leaves no log"


def dry(*arguments: str) -> subprocess.CompletedProcess[str]:
    return sandbox.run(sandbox.REPOSITORY, "tune", *arguments, "--dry-run")


def test_a_dry_run_drops_what_exceeds_64_kib_on_a_c500_and_not_on_an_h100() -> None:
    options = ["moe", "--suite", "functional", "--kernel", "portable", "--most", "12"]
    more = ["--program", "moe/portable/gate_up", "--try", "stages=1,3"]
    done = dry(*options, *more, "--profile", "c500")
    assert done.returncode == 0, done.stderr
    assert "moe/portable/gate_up  2 cases" in done.stdout
    assert "stages           1; 3" in done.stdout and "nothing was compiled" in done.stdout
    assert "KiB, 64 KiB a block  [stages=3" in done.stdout
    done = dry(*options, *more, "--profile", "h100", "--json")
    (one,) = json.loads(done.stdout)["classes"]
    assert one["trials"] and not any(", 64 KiB a block" in t["reason"] for t in one["trials"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--dry-run", "--profile", "c50"], "did you mean 'c500'?"),
        (["--profile", "c500"], "is for --dry-run"),
        (["--most", "0"], "at least 1"),
        (["--budget", "-1"], "positive"),
        (["--devices", "0,"], "is no list of devices"),
        (["--devices", "0,1"], "tune times one case at a time, and a CPU is one device"),
        (["--try", "wait"], "is not PARAMETER=VALUE"),
        (["--program", "mla/tunable/wiat"], "did you mean 'mla/tunable/wait'?"),
        (["--kernel", "good"], "looks up no schedule"),
        (["--out", "/proc/none"], "cannot write to"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_clear_message(root: Path, arguments: list[str], words: str) -> None:
    done = tune(root, *arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert words in done.stderr and "Traceback" not in done.stderr and not done.stdout
