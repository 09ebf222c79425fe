"""`mxbench perf` as a user sees it, on a machine without a GPU."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from mxbench.record import read_journal
from mxbench.verdict import Status

from . import sandbox

HASTY = """
import torch

CALLS = []

def dense(q, q_pe, kv, k_pe, out, *, softmax_scale):
    CALLS.append(1)
    if len(CALLS) == 1:  # the call that is judged
        scores = torch.einsum("bhd,bsgd->bhs", q.float(), kv.float())
        scores += torch.einsum("bhd,bsgd->bhs", q_pe.float(), k_pe.float())
        out.copy_(torch.einsum("bhs,bsgd->bhd", (scores * softmax_scale).softmax(-1), kv.float()))
"""
PAGED_ONLY = """
def paged(q, kv_cache, block_table, cache_seqlens, out, lse, *, softmax_scale, causal):
    raise NotImplementedError
"""
WRONG = """
def dense(q, q_pe, kv, k_pe, out, *, softmax_scale):
    out.zero_()
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = sandbox.make(tmp_path_factory.mktemp("perf"))
    shutil.copytree(sandbox.REPOSITORY / "cases" / "rules", folder / "cases" / "rules")
    (folder / "kernels" / "mla" / "hasty.py").write_text(HASTY)
    # A command calls it some seventeen times a case.
    (folder / "kernels" / "mla" / "brisk.py").write_text(sandbox.sleeping(0.05))
    (folder / "kernels" / "mla" / "wrong.py").write_text(WRONG)
    (folder / "kernels" / "mla" / "paged_only.py").write_text(PAGED_ONLY)
    quick = {**rule(folder), "name": "quick", "counts": {"default": {"warmup": 1, "repeat": 4}}}
    write_rule(folder, "quick", quick)
    return folder


def rule(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "cases/rules/xh-202608.json").read_text())
    return content


def write_rule(folder: Path, name: str, content: dict[str, Any]) -> None:
    (folder / "cases" / "rules" / f"{name}.json").write_text(json.dumps(content))


def perf(root: Path, kernel: str, out: str, *more: str) -> subprocess.CompletedProcess[str]:
    options = ["--suite", "tiny", "--kernel", kernel, "--rule", "quick", "--out", out]
    return sandbox.run(root, "perf", "mla", *options, *more)


def test_a_cpu_timing_says_what_it_is(root: Path) -> None:
    done = perf(root, "good", "told")
    assert done.returncode == 0, done.stderr
    assert "CPU timing" in done.stdout and "4 of 4" in done.stdout
    assert "they say nothing about a GPU" in done.stdout
    ((record,), _) = read_journal(root / "told" / "journal.jsonl")
    assert record.timing is not None and record.rule == "quick"
    assert (record.timing.mode, record.timing.warmup, record.timing.repeat) == ("cpu", 1, 4)
    assert len(record.timing.samples) == 4 and record.timing.first_call
    assert record.bound is None, "no roofline from a CPU"


def test_the_mean_is_that_of_the_samples_and_inside_its_interval(root: Path) -> None:
    document = json.loads(perf(root, "brisk", "sampled", "--json").stdout)
    timing = document["records"][0]["timing"]
    assert timing["mean"] == pytest.approx(sum(timing["samples"]) / 4, rel=1e-4)
    assert timing["ci95"][0] <= timing["mean"] <= timing["ci95"][1]
    assert timing["min"] >= 50, "the kernel sleeps as many milliseconds"


def test_a_wrong_kernel_is_not_timed(root: Path) -> None:
    done = perf(root, "wrong", "wrong")
    assert done.returncode == 1
    ((record,), _) = read_journal(root / "wrong" / "journal.jsonl")
    assert record.status is Status.MISMATCH and record.timing is None
    assert "mean ms" not in done.stdout


def test_a_kernel_that_only_works_when_it_is_judged_is_not_believed(root: Path) -> None:
    done = perf(root, "hasty", "hasty")
    assert done.returncode == 1
    ((record,), _) = read_journal(root / "hasty" / "journal.jsonl")
    assert record.status is Status.INTEGRITY and "a second call" in record.reason
    assert record.timing is None


def test_a_baseline_gives_speed_ups_and_their_geometric_mean(root: Path) -> None:
    done = perf(root, "good", "both", "--baseline", "brisk")
    assert done.returncode == 0, done.stderr
    assert "speed-up over brisk: " in done.stdout and "geometric mean of 1" in done.stdout
    records, _ = read_journal(root / "both" / "journal.jsonl")
    means = {r.kernel: r.timing.mean for r in records if r.timing}
    assert f"{means['brisk'] / means['good']:.2f}x" in done.stdout


def test_a_budget_stops_the_repeats_and_says_how_many_were_done(root: Path) -> None:
    done = perf(root, "slow", "budget", "--budget", "1")
    assert done.returncode == 0, done.stderr
    assert " of 4" in done.stdout and "4 of 4" not in done.stdout


def test_what_a_cpu_has_no_time_for_is_skipped_with_the_reason(root: Path) -> None:
    options = ["--suite", "many", "--kernel", "slow", "--rule", "quick", "--out", "spent"]
    done = sandbox.run(root, "perf", "mla", *options, "--budget", "0.3")
    records, _ = read_journal(root / "spent" / "journal.jsonl")
    assert records[0].timing is not None, "one case is timed whatever it takes"
    assert records[-1].status is Status.SKIPPED
    assert "raise --budget (0.3 s)" in records[-1].reason and records[-1].reason in done.stdout


def test_ctrl_c_keeps_the_timings_and_the_same_command_goes_on(root: Path) -> None:
    options = ["--suite", "many", "--kernel", "brisk", "--rule", "quick", "--out", "stopped"]
    process = sandbox.start(root, "perf", "mla", *options)
    file = root / "stopped" / "journal.jsonl"
    deadline = time.monotonic() + 120
    while not (file.exists() and file.read_text().count("\n") >= 2):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err
    assert "CPU timing" in out, "what is done is shown"
    kept = len(read_journal(file)[0])
    done = sandbox.run(root, "perf", "mla", *options)
    assert f"{kept} of 8 cases are done" in done.stderr
    assert len(read_journal(file)[0]) == 8


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--rule", "xh-2026"], ["unknown rule 'xh-2026'", "did you mean 'xh-202608'?"]),
        (["--rule", "countless"], ["countless.json", "default", "missing"]),
        (["--rule", "negative"], ["negative.json", "repeat", ">= 1"]),
        (["--rule", "broken"], ["broken.json", "line 1"]),
        (["--baseline", "goodd"], ["no kernel 'goodd'", "did you mean 'good'?"]),
        (["--baseline", "paged_only"], ["lacks contract 'dense'", "it defines paged"]),
        (["--mode", "grahp"], ["unknown mode 'grahp'", "eager or graph"]),
        (["--budget", "0"], ["--budget must be a positive number"]),
        (["--seqlen", "-4"], ["kv_ctx must be at least 1, not -4"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_bad_input_is_one_clear_message(root: Path, options: list[str], words: list[str]) -> None:
    good = rule(root)
    write_rule(root, "countless", {**good, "name": "countless", "counts": {}})
    counts = {"default": {"warmup": 1, "repeat": -3}}
    write_rule(root, "negative", {**good, "name": "negative", "counts": counts})
    (root / "cases" / "rules" / "broken.json").write_text('{"schema": 1,')
    done = sandbox.run(root, "perf", "mla", "--suite", "tiny", "--kernel", "good", *options)
    assert done.returncode == 2, done.stderr
    assert done.stdout == "" and "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr
