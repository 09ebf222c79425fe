"""Problems and submissions that cannot be used are refused with the reason, before any case."""

from __future__ import annotations

import pytest

from mxbench import workspace
from mxbench.errors import MxbenchError
from mxbench.publicjudge import folder

from .conftest import TRIPLE


def test_cases_sizes_and_counts_are_what_the_problem_says(driver, problem, submission):
    opened = driver.open(problem(), submission())
    assert [case.number for case in opened.cases] == [1, 2]
    assert opened.cases[0].shapes == [(8,), (8,), ()]
    assert [(case.warmup, case.repeat) for case in opened.cases] == [(1, 3), (0, 2)]
    assert opened.classes == ["INPUT", "OUTPUT", "INPUT"] and opened.vram == 1
    assert (opened.cases[0].flops, opened.cases[0].bytes) == (8, 64)


def test_a_problem_that_counts_from_0_and_forgives_is_recognised(driver, problem, submission):
    forgiving = (
        '    if not 1 <= number <= len(TESTCASES):\n        raise ValueError("no such case")\n',
        "    number = number + 1 if 0 <= number < len(TESTCASES) else 1\n",
    )
    opened = driver.open(problem(forgiving), submission())
    assert [case.number for case in opened.cases] == [0, 1]
    assert [case.shapes[0] for case in opened.cases] == [(8,), (5,)]
    assert "cases count from 0" in opened.notes


def test_a_problem_that_counts_from_1_and_forgives_is_recognised(driver, problem, submission):
    forgiving = ('        raise ValueError("no such case")\n', "        number = 1\n")
    opened = driver.open(problem(forgiving), submission())
    assert [case.shapes[0] for case in opened.cases] == [(8,), (5,)]
    assert [case.number for case in opened.cases] == [1, 2]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("def baseline(", "def reference("), "defines no baseline"),
        (("INPUT_CLASS = ", "CLASSES = "), "defines no INPUT_CLASS"),
        (("import torch\n", "import no_such_module\n"), "ModuleNotFoundError"),
        (('["INPUT", "OUTPUT", "INPUT"]', '["INPUT", "OUTPUT"]'), "names 2 arguments"),
        (('["INPUT", "OUTPUT", "INPUT"]', '["IN", "OUTPUT", "INPUT"]'), "holds 'IN'"),
        (("return len(TESTCASES)", "return 'two'"), "returned 'two'"),
        (("return len(TESTCASES)", "raise KeyError(5)"), "getNumOfTestcases raised KeyError"),
        (("(8, 1, 3)", "(8, 1, 0)"), "counts 1, 0 of case 1"),
        (("(warmup, iterations)\n", "7\n"), "counts 7 of case 1"),
        (("[(n,), (n,), ()], (w", "8, (w"), "said 8 of case 1"),
        (("import torch\n", "import sys\nsys.exit(3)\n"), "SystemExit"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_problem_is_named(driver, problem, submission, change, said):
    with pytest.raises(MxbenchError) as caught:
        driver.open(problem(change), submission())
    assert said in caught.value.message and caught.value.exit_code == 2
    assert "triple" in caught.value.message


def test_names_lost_in_a_bare_except_are_missed_with_a_hint(driver, problem, submission):
    source = TRIPLE.replace("import torch\n", "") + "\ntry:\n    import torch, no_such\nexcept:\n"
    source += "    del baseline\n"
    with pytest.raises(MxbenchError) as caught:
        driver.open(problem(source=source), submission())
    assert "defines no baseline" in caught.value.message and "except: pass" in caught.value.hint


def test_what_a_problem_prints_comes_with_its_error(driver, problem, submission):
    change = ("def getNumOfTestcases():\n", "def getNumOfTestcases():\n    print('hear me')\n")
    with pytest.raises(MxbenchError) as caught:
        driver.open(problem(change, ("return len(TESTCASES)", "return -1")), submission())
    assert "it printed: hear me" in caught.value.hint


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def run_kernel(x, y): ...\n", "does not take the problem's 3 arguments"),
        ("def run_kernel(*, x, y, factor): ...\n", "does not take the problem's 3 arguments"),
        ("import no_such_module\ndef run_kernel(x, y, f): ...\n", "does not import"),
        ("run_kernel = 3\n", "defines no function run_kernel"),
    ],
)
def test_what_is_wrong_with_a_submission_is_named(driver, problem, submission, source, said):
    with pytest.raises(MxbenchError) as caught:
        driver.open(problem(), submission(source))
    assert said in caught.value.message and caught.value.exit_code == 2


def test_a_submission_without_run_kernel_is_refused_before_anything_runs(submission):
    with pytest.raises(MxbenchError) as caught:
        submission("def kernel(x, y, factor): ...\n")
    assert "defines no function run_kernel" in caught.value.message
    assert "it defines kernel" in caught.value.hint


@pytest.mark.parametrize("missing", ["meta.json", "testcase_config.py"])
def test_a_folder_without_one_of_its_files_is_no_problem(problem, missing):
    path = problem().path
    (path / missing).unlink()
    with pytest.raises(MxbenchError, match=f"has no {missing}"):
        folder.find(workspace.bundled(), str(path))


@pytest.mark.parametrize(("text", "said"), [("{", "malformed JSON"), ("[1]", "expected an object")])
def test_a_damaged_meta_json_is_named(problem, text, said):
    path = problem().path
    (path / "meta.json").write_text(text)
    with pytest.raises(MxbenchError, match=said):
        folder.find(workspace.bundled(), str(path))


def test_a_missing_folder_comes_with_the_nearest_of_ours():
    with pytest.raises(MxbenchError) as caught:
        folder.find(workspace.bundled(), "mlaa")
    assert "no problem folder mlaa" in caught.value.message and "'mla'" in caught.value.hint
