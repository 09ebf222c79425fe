"""`mxbench evaluate` from folders and zips to a ranking, measured for real on this CPU."""

from __future__ import annotations

import csv
import io
import json
import shutil

import pytest
from rich.console import Console

from mxbench.evaluation.snapshot import Load, Snapshot
from mxbench.view_evaluate import headline, live

from . import sandbox
from .evaluation import synthetic

# Looks where it is, while it is imported by the worker that will judge it.
CURIOUS = """
import os
HERE = os.getcwd()
assert os.listdir(HERE) == [] and os.listdir(os.environ["HOME"]) == [], "somebody was here"
assert not os.path.exists({others!r}) or not os.listdir({others!r}), "others' files"
open("left-behind", "w").close()
open(os.path.expanduser("~/left-behind"), "w").close()
"""

# Leaves a program in whatever compile cache it is told of; the baseline finds none but its own.
PLANTING = """
import pathlib
CACHE = pathlib.Path(os.environ["TILELANG_CACHE_DIR"])
CACHE.mkdir(parents=True, exist_ok=True)
(CACHE / "planted").write_text("a program")
"""
WARY = """
import os
CACHE = os.environ["TILELANG_CACHE_DIR"]
assert "cache-baseline" in CACHE and not os.path.exists(CACHE + "/planted"), "a planted program"
assert all("cache-baseline" in os.environ[name] for name in ("XDG_CACHE_HOME", "TRITON_CACHE_DIR"))
"""


@pytest.fixture
def root(tmp_path):
    """A contest of two cases, and two hand-ins: a good one, and one that is no zip at all."""
    synthetic.contest(tmp_path)
    text = json.dumps(sandbox.suite("smoke", [1, 2]))
    (tmp_path / "cases" / "mla" / "smoke.json").write_text(text)
    subs = tmp_path / "subs"
    folder = subs / "good" / "kernels" / "mla"
    folder.mkdir(parents=True)
    source = sandbox.KERNELS["good"] + CURIOUS.format(others=str(subs)) + PLANTING
    with (tmp_path / "kernels" / "mla" / "baseline.py").open("a") as baseline:
        baseline.write(WARY)
    (folder / "good.py").write_text(source)
    shutil.make_archive(str(subs / "good"), "zip", subs / "good")
    shutil.rmtree(subs / "good")
    (subs / "text.zip").write_text("no zip")
    return tmp_path


def test_hand_ins_are_measured_and_ranked(root):
    words = ["evaluate", "subs", "--out", "out", "--op", "mla", "--target", "cpu", "--budget", "2"]
    done = sandbox.run(root, *words, "--timeout", "20", "--json")
    assert done.returncode == 1, done.stderr  # text.zip has no journal
    assert "text mla: malformed: handed-in.zip is not a readable zip" in done.stderr
    assert "[2/2]" in done.stderr and "Traceback" not in done.stderr
    document = json.loads(done.stdout)
    assert {line["hand_in"]: line["status"] for line in document["results"]} == {
        "good": "finished", "text": "malformed",
    }  # fmt: skip
    assert "CPU: no performance claim" in (root / "out" / "ranking.md").read_text()
    rows = csv.DictReader(io.StringIO((root / "out" / "ranking.csv").read_text()))
    assert {row["hand-in"]: row["rank"] for row in rows} == {"good": "1", "text": ""}
    records = (root / "out" / "handins" / "good" / "mla" / "journal.jsonl").read_text()
    assert records.count('"kernel":"baseline"') == records.count('"kernel":"good"') == 2


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["nowhere", "--out", "out"], 2, "no hand-in at nowhere"),
        (["subs", "--out", "out", "--op", "mlaa"], 2, "did you mean 'mla'?"),
        (["subs", "--out", "out", "--limit", "0"], 2, "--limit must be a positive number"),
        (["subs", "--out", "out", "--devices", "0", "--cluster", "x"], 2, "--devices names"),
        (["subs", "--out", "subs/text.zip"], 2, "cannot write results"),
    ],
)
def test_bad_input_is_one_clear_message(root, words, code, message):
    done = sandbox.run(root, "evaluate", *words)
    assert done.returncode == code and message in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and not done.stdout


def test_the_view_tells_done_failed_running_and_left():
    loads = [Load("gpu0", "H100", "x mla", 3, 0.97, True), Load("gpu1", "H100", "", 2, 0.5, False)]
    now = Snapshot(10, 5, 1, 1, 60.0, 60.0, loads * 20)
    assert headline(now) == (
        "5 of 10 tasks done, 1 of them without a complete journal, 1 running; "
        "0:01:00 so far, about 0:01:00 left"
    )
    text = io.StringIO()
    Console(file=text, width=120).print(live(now))
    assert "97%" in text.getvalue() and "its baseline drifts" in text.getvalue()
    assert "and 16 more devices" in text.getvalue()
