"""One worker for all tests of the public judge's format, and small problems to give it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mxbench import workspace
from mxbench.publicjudge import folder
from mxbench.publicjudge.driver import Driver
from mxbench.publicjudge.folder import ProblemFolder, SubmissionFile

# y = 3 x of two lengths; every test changes a line or two of it.
TRIPLE = """
import torch

TESTCASES = [(8, 1, 3), (5, 0, 2)]
INPUT_CLASS = ["INPUT", "OUTPUT", "INPUT"]
DESIGNED_VRAM_SIZE = 1

def getNumOfTestcases():
    return len(TESTCASES)

def getTestCaseSize():
    number = int(input())
    if not 1 <= number <= len(TESTCASES):
        raise ValueError("no such case")
    n, warmup, iterations = TESTCASES[number - 1]
    return [(n,), (n,), ()], (warmup, iterations)

def genTestCase(testcase_sizes, device="cuda"):
    n = testcase_sizes[0][0]
    return [torch.arange(n, dtype=torch.float32, device=device), torch.zeros(n, device=device), 3.0]

def baseline(x, y, factor):
    y.copy_(x * factor)
    return [x, y, factor]

def check(testcase_sizes, originals, mine, theirs):
    same = torch.equal(mine[1], theirs[1])
    if not same:
        print("y is wrong")
    return same

def getWorkload(testcase_sizes):
    n = testcase_sizes[0][0]
    return {"flops": n, "memory_bytes": 8 * n, "dtype": "fp32"}
"""

RIGHT = """
import torch

def run_kernel(x, y, factor):
    torch.mul(x, factor, out=y)
"""


@pytest.fixture(scope="package")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    log = tmp_path_factory.mktemp("judge") / "worker.log"
    with Driver(workspace.bundled().kernels, "cpu", log, timeout=20) as one:
        one.start()
        yield one


@pytest.fixture
def problem(tmp_path: Path) -> Callable[..., ProblemFolder]:
    """A problem folder: TRIPLE with texts replaced, given in pairs."""

    def make(*changes: tuple[str, str], source: str = TRIPLE) -> ProblemFolder:
        path = tmp_path / "triple"
        path.mkdir(exist_ok=True)
        for old, new in changes:
            assert old in source, old
            source = source.replace(old, new)
        (path / "meta.json").write_text(json.dumps({"displayId": 1, "type": "Traditional"}))
        (path / "testcase_config.py").write_text(source)
        return folder.find(workspace.bundled(), str(path))

    return make


@pytest.fixture
def submission(tmp_path: Path) -> Callable[..., SubmissionFile]:
    """A submission file with this source."""

    def make(source: str = RIGHT) -> SubmissionFile:
        path = tmp_path / "mine.py"
        path.write_text(source)
        return folder.submission(str(path))

    return make
