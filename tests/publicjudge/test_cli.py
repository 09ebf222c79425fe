"""`judge`, `export` and `import` as a user calls them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mxbench import workspace
from mxbench.errors import MxbenchError
from mxbench.publicjudge import folder
from mxbench.publicjudge.messages import ProblemCase
from mxbench.publicjudge.session import chosen
from mxbench.record import read_journal

from .. import sandbox
from .test_ours import small

GEMM = Path(__file__).parents[1] / "data" / "problems" / "gemm"
SUBMISSION = """
def run_kernel(a, b, c, m, n, k):
    c.copy_(a.float() @ b.float().T)
"""


@pytest.fixture
def room(tmp_path: Path) -> Path:
    return sandbox.make(tmp_path / "room")


def test_somebody_else_s_problem_runs_unchanged(room):
    (room / "mine.py").write_text(SUBMISSION)
    done = sandbox.run(room, "judge", str(GEMM), "mine.py", "--target", "cpu", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["summary"]["passed"] == document["summary"]["unknown"] == 2
    first, second = document["records"]
    assert (first["timing"]["warmup"], first["timing"]["repeat"]) == (3, 20)
    ratio = first["judged"]["baseline"]["mean"] / first["timing"]["mean"]
    assert first["judged"]["points"] == pytest.approx(100 * ratio / (1 + ratio), abs=0.01)
    scores = [r["judged"]["points"] for r in (first, second)]
    assert document["summary"]["score"] == pytest.approx(sum(scores) / 2)
    records, damaged = read_journal(room / ".mxbench" / "journal.jsonl")
    assert [r.op for r in records] == ["gemm", "gemm"] and not damaged


def test_an_interrupted_judging_goes_on_with_the_next_case(room):
    (room / "mine.py").write_text(SUBMISSION)
    arguments = ("judge", str(GEMM), "mine.py", "--target", "cpu", "--no-times")
    assert sandbox.run(room, *arguments).returncode == 0
    journal = room / ".mxbench" / "journal.jsonl"
    first, _second = journal.read_text().splitlines()
    journal.write_text(first + "\n")  # as if it had been killed after the first case
    (run,) = (room / ".mxbench" / "runs").glob("*.jsonl")
    run.write_text(run.read_text().splitlines()[0] + "\n")
    again = sandbox.run(room, *arguments)
    assert again.returncode == 0 and "1 of 2 cases are done" in again.stderr
    assert "2/2 passed the problem's check" in again.stdout
    assert len(journal.read_text().splitlines()) == 2


def test_a_failing_case_counts_0_and_exits_with_1_and_the_journal_stays_readable(room):
    # Not 1 more: bfloat16 may round that to 0.99 more, as the problem draws without a seed.
    (room / "mine.py").write_text(SUBMISSION + "    if m == 33: c[0, 0] = float('inf')\n")
    done = sandbox.run(room, "judge", str(GEMM), "mine.py", "--target", "cpu")
    assert done.returncode == 1
    assert "1/2 passed the problem's check" in done.stdout
    assert "the problem printed: [FAIL] max_abs_diff=inf" in done.stdout
    assert "CPU timings: they say nothing about a GPU" in done.stdout
    for command in (["report", "--out", "reports"], ["list", "runs"], ["score"]):
        assert "Traceback" not in sandbox.run(room, *command).stderr, command


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["judge", "nowhere", "mine.py"], "there is no problem folder nowhere"),
        (["judge", str(GEMM), "missing.py"], "there is no submission missing.py"),
        (["judge", str(GEMM), "empty.py"], "defines no function run_kernel"),
        (["judge", str(GEMM), "mine.py", "--case", "x"], "is not a list of numbers"),
        (["judge", str(GEMM), "mine.py", "--budget", "0"], "--budget must be a positive number"),
        (["export", "moo", "--out", "x.py"], "unknown operator 'moo'"),
        (["export", "mla", "--kernel", "nope", "--out", "x.py"], "has no kernel 'nope'"),
        (["export", "mla", "--kernel", "good", "--out", "x.txt"], "is not a .py file"),
        (["export", "mla", "--kernel", "good", "--out", "mine.py"], "has not written it"),
        (["export", "mla", "--kernel", "strange", "--out", "x.py"], "signature of dense differs"),
        (["lint", "nothing.py"], "does not exist"),
        (["lint", "empty.py"], "defines neither run_kernel nor a contract"),
        (["lint", "broken.py"], "broken.py:1: "),
        (["lint", "mine.py", "--allow", "torch"], "there is no lint rule 'torch'"),
        (["lint", "mine.py", "--allow", "data-ptr"], "give a reason for each"),
        (["import", "nowhere"], "there is no problem folder nowhere"),
    ],
)  # fmt: skip
def test_bad_input_is_one_clear_error(room, arguments, said):
    (room / "mine.py").write_text(SUBMISSION)
    (room / "empty.py").write_text("x = 1\n")
    (room / "broken.py").write_text("def run_kernel(:\n")
    done = sandbox.run(room, *arguments)
    assert done.returncode == 2 and done.stderr.startswith("error: "), done.stderr
    assert said in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_a_case_number_that_there_is_not_is_named():
    cases = [ProblemCase(number=n, sizes=[[1]], warmup=0, repeat=1) for n in (1, 2)]
    assert [case.number for case in chosen(cases, (2,))] == [2]
    with pytest.raises(MxbenchError) as caught:
        chosen(cases, (2, 3))
    assert "no case 3" in caught.value.message and caught.value.hint == "it has 1 to 2"


def test_import_makes_a_suite_that_loads_and_replaces_none_unasked(room):
    problem = small("mla", room)
    done = sandbox.run(room, "import", str(problem.path), "--suite", "oj")
    assert done.returncode == 0, done.stderr
    suite = json.loads((room / "cases" / "mla" / "oj.json").read_text())
    assert suite["cases"][0]["timing"] == {"warmup": 2, "repeat": 10}
    assert suite["defaults"]["tolerance"] == {"atol": 0.002, "rtol": 0.002}
    assert suite["defaults"]["inputs"] == pytest.approx({"q": 0.125, "kv": 0.125}, rel=0.05)
    shown = sandbox.run(
        room, "check", "mla", "--suite", "oj", "--kernel", "good", "--target", "cpu"
    )
    assert shown.returncode == 0 and "1/1 passed official" in shown.stdout
    again = sandbox.run(room, "import", str(problem.path), "--suite", "oj")
    assert again.returncode == 2 and "--force replaces it" in again.stderr


def test_import_of_an_unknown_operator_is_refused(driver):
    with pytest.raises(MxbenchError) as caught:
        driver.read(folder.find(workspace.bundled(), str(GEMM)))
    assert "of no operator that mxbench knows" in caught.value.message


def test_a_kernel_with_a_ban_is_not_exported_and_an_allowed_one_says_so(room):
    refused = sandbox.run(room, "export", "mla", "--kernel", "good", "--out", "x.py")
    assert refused.returncode == 1 and "torch.einsum" in refused.stderr
    assert not (room / "x.py").exists()
    allowed = sandbox.run(
        room, "export", "mla", "--kernel", "good", "--out", "x.py",
        "--allow", "torch-arithmetic", "--because", "a test of the format",
    )  # fmt: skip
    assert allowed.returncode == 0, allowed.stderr
    text = (room / "x.py").read_text()
    assert "lint: torch-arithmetic is allowed because a test of the format" in text
    assert "mxbench_kernels" not in text and "import mxbench" not in text
    problem = small("mla", room)
    done = sandbox.run(room, "judge", str(problem.path), "x.py", "--target", "cpu", "--no-times")
    assert (
        done.returncode == 0 and "1/1 passed the problem's check, 1 of them strict" in done.stdout
    )
