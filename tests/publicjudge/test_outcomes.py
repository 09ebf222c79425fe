"""What becomes of a case: verdicts, times, and every way in which either side can go wrong."""

from __future__ import annotations

import pytest

from mxbench.verdict import Status

RUN = "def run_kernel(x, y, factor):\n"


def judge(driver, problem, submission, number=1, timed=False):
    return driver.run(problem, submission, number, budget=5.0, timed=timed)


def test_a_right_submission_passes_and_is_timed_under_the_problem_s_counts(
    driver, problem, submission
):
    outcome = judge(driver, problem(), submission(), timed=True)
    assert outcome.status is Status.PASSED and outcome.reason == ""
    assert outcome.strict is None  # nobody here knows y = 3 x
    assert (outcome.timing.warmup, outcome.timing.repeat) == (1, 3)
    assert outcome.timing.mean > 0 and outcome.baseline.mean > 0


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ("    y.copy_(x)\n", Status.MISMATCH, "the problem's check says no: y is wrong"),
        ("    return x * factor\n", Status.NON_FINITE, "returned a Tensor: write the OUTPUT"),
        ("    return x * factor\n", Status.NON_FINITE, "argument 1 is as it was"),
        ("    y.copy_(x * factor); x += 1\n", Status.INPUT_MUTATED, "INPUT argument 0"),
        ("    raise KeyError('lost')\n", Status.RUNTIME_ERROR, "KeyError: 'lost' (mine.py:2"),
        ("    raise NotImplementedError('8')\n", Status.NOT_IMPLEMENTED, "8"),
        ("    import os; os._exit(4)\n", Status.CRASHED, "exited with code 4"),
        ("    y.resize_(2)\n", Status.WRONG_SHAPE, "argument 1 became [2], it was [8]"),
        ("    y.data = y.double()\n", Status.WRONG_DTYPE, "became float64"),
        ("    x.new_empty(1 << 50)\n", Status.OUT_OF_MEMORY, "mine.py:2"),
        ("    raise SystemExit(0)\n", Status.RUNTIME_ERROR, "SystemExit"),
    ],
)
def test_what_a_submission_does_wrong_is_its_status(
    driver, problem, submission, body, status, said
):
    outcome = judge(driver, problem(), submission(RUN + body))
    assert outcome.status is status
    assert said in outcome.reason


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        (
            (
                "    n = testcase_sizes[0][0]\n    return [torch.a",
                "    {}['k']\n    return [torch.a",
            ),
            Status.RUNTIME_ERROR,
            "the problem's genTestCase raised KeyError",
        ),
        (
            ("torch.zeros(n, device=device)", "torch.zeros(1 << 50, device=device)"),
            Status.OUT_OF_MEMORY,
            "the problem's genTestCase raised RuntimeError",
        ),
        (
            (", torch.zeros(n, device=device), 3.0]", ", 3.0]"),
            Status.RUNTIME_ERROR,
            "returned 2 arguments, INPUT_CLASS names 3",
        ),
        (
            ("    y.copy_(x * factor)\n    return [x, y, factor]", "    raise OSError('gone')"),
            Status.RUNTIME_ERROR,
            "the problem's baseline raised OSError: gone",
        ),
        (
            ("    y.copy_(x * factor)\n", "    y.copy_(x * factor)\n    x += 1\n"),
            Status.RUNTIME_ERROR,
            "the problem's baseline writes to its INPUT argument 0",
        ),
        (
            ("    same = torch.equal(mine[1], theirs[1])\n", "    same = False\n"),
            Status.RUNTIME_ERROR,
            "the problem's check does not accept its own baseline",
        ),
        (
            ("    return same\n", "    return mine[1] == theirs[1]\n"),
            Status.RUNTIME_ERROR,
            "the truth value of what the problem's check returned",
        ),
        (
            ("    same = torch.equal", "    import os; os._exit(9)\n    same = torch.equal"),
            Status.CRASHED,
            "exited with code 9",
        ),
    ],
)
def test_what_a_problem_does_wrong_is_called_the_problem_s(
    driver, problem, submission, change, status, said
):
    outcome = judge(driver, problem(change), submission())
    assert outcome.status is status
    assert said in outcome.reason


def test_a_problem_for_gpus_alone_says_so_on_a_cpu(driver, problem, submission):
    fixed = ('def genTestCase(testcase_sizes, device="cuda"):\n',
             'def genTestCase(testcase_sizes):\n    device = "cuda:99"\n')  # fmt: skip
    outcome = judge(driver, problem(fixed), submission())
    assert outcome.status is Status.RUNTIME_ERROR
    assert "the problem's genTestCase raised" in outcome.reason
    assert "it has no device argument: judge it on a GPU" in outcome.reason


@pytest.mark.parametrize("whose", ["run_kernel", "genTestCase"])
def test_what_never_returns_is_stopped(driver, problem, submission, whose):
    before, driver.timeout = driver.timeout, 1.0
    try:
        hang = "import time; time.sleep(600)"
        if whose == "run_kernel":
            outcome = judge(driver, problem(), submission(f"{RUN}    {hang}\n"))
        else:
            change = (
                "    n = testcase_sizes[0][0]\n    return [torch.a",
                f"    {hang}\n    [torch.a",
            )
            outcome = judge(driver, problem(change), submission())
    finally:
        driver.timeout = before
    assert outcome.status is Status.TIMEOUT and whose in outcome.reason
    assert judge(driver, problem(), submission()).status is Status.PASSED  # the next one is served


def test_a_submission_wrong_in_later_calls_has_no_time(driver, problem, submission):
    moody = (
        "CALLS = []\n" + RUN + "    CALLS.append(1)\n    y.copy_(x * factor * (len(CALLS) < 3))\n"
    )
    outcome = judge(driver, problem(), submission(moody), timed=True)
    assert outcome.status is Status.MISMATCH and "after the timed calls" in outcome.reason
    assert outcome.timing is None


def test_an_inout_argument_is_cloned_for_each_side(driver, problem, submission):
    inplace = (('["INPUT", "OUTPUT", "INPUT"]', '["INPUT", "INOUT", "INPUT"]'),
               ("    y.copy_(x * factor)\n", "    y.add_(x * factor)\n"))  # fmt: skip
    outcome = judge(
        driver, problem(*inplace), submission(RUN + "    y += x * factor\n"), timed=True
    )
    assert outcome.status is Status.PASSED and outcome.timing is not None


@pytest.mark.parametrize("dtype", ["int8", "bool", "float8_e4m3fn", "bfloat16", "int64"])
def test_outputs_may_be_of_any_type(driver, problem, submission, dtype):
    typed = (
        ("    return [torch.arange(n, dtype=torch.float32, device=device)",
         f"    return [torch.arange(float(n), device=device).to(torch.{dtype})"),
        ("torch.zeros(n, device=device)", f"torch.zeros(n, device=device).to(torch.{dtype})"),
        ("    y.copy_(x * factor)\n", "    y.copy_(x)\n"),
        ("torch.equal(mine[1], theirs[1])", "torch.equal(mine[1].float(), theirs[1].float())"),
    )  # fmt: skip
    mine = submission(RUN + "    y.copy_(x)\n")
    assert judge(driver, problem(*typed), mine).status is Status.PASSED
    lazy = judge(driver, problem(*typed), submission(RUN + "    pass\n"))
    assert lazy.status in (Status.MISMATCH, Status.NON_FINITE)


def test_what_the_problem_prints_is_kept_apart(driver, problem, submission):
    chatty = (
        "    same = torch.equal",
        "    print('checking /home/somebody/x')\n    same = torch.equal",
    )
    outcome = judge(driver, problem(chatty), submission())
    assert outcome.status is Status.PASSED
    assert outcome.said == "checking x\nchecking x"  # once for its own baseline; no folders


@pytest.mark.parametrize("when", ["on import", "in the call"])
def test_a_submission_that_replaces_torch_s_own_functions_is_found_out(
    driver, problem, submission, when
):
    cheat = "torch.equal = lambda *args: True"
    inside, outside = (f"    {cheat}\n", "") if when == "in the call" else ("", f"{cheat}\n")
    mine = submission("import torch\n" + outside + RUN + inside + "    y.zero_()\n")
    outcome = judge(driver, problem(), mine)
    driver.close()  # its torch is spoilt
    assert outcome.status is Status.RUNTIME_ERROR and "torch.equal" in outcome.reason
