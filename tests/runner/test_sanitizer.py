"""What compute-sanitizer says becomes a verdict; where there is none, that is said at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mxbench.errors import MxbenchError
from mxbench.runner import sanitizer
from mxbench.runner.protocol import Outcome
from mxbench.verdict import Status

from .. import sandbox
from .test_supervisor import case, kernel

PASSED = Outcome(status=Status.PASSED, strict=Status.PASSED)
CLEAN = "========= COMPUTE-SANITIZER\n========= ERROR SUMMARY: 0 errors\n"
INVALID = """========= COMPUTE-SANITIZER
========= Invalid __global__ write of size 2 bytes
=========     at main_kernel+0x1230
=========     by thread (3,0,0) in block (7,0,0)
=========     Address 0x7f0000000200 is out of bounds
=========
========= ERROR SUMMARY: 32 errors
"""
NO_RACES = """========= COMPUTE-SANITIZER
========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)
"""
RACES = """========= COMPUTE-SANITIZER
========= Warning: Race reported between Read access at gather_kernel+0x80
=========     and Write access at gather_kernel+0x190 [4 hazards]
=========
========= Error: Race reported between Write access at combine_kernel+0x450
=========     and Read access at combine_kernel+0x5a0 [512 hazards]
=========
========= RACECHECK SUMMARY: 2 hazards displayed (1 error, 1 warning)
"""


def test_memcheck_is_read() -> None:
    assert sanitizer.parse("memcheck", CLEAN) == sanitizer.Report(tool="memcheck", errors=0)
    found = sanitizer.parse("memcheck", INVALID)
    assert found is not None and found.errors == 32
    assert found.first == "Invalid __global__ write of size 2 bytes in main_kernel"


def test_racecheck_tells_errors_from_warnings() -> None:
    found = sanitizer.parse("racecheck", RACES)
    assert found is not None and (found.errors, found.warnings) == (1, 1)
    assert "combine_kernel" in found.first and "Warning" not in found.first
    assert sanitizer.parse("racecheck", NO_RACES) == sanitizer.Report(tool="racecheck", errors=0)


@pytest.mark.parametrize("tool", sanitizer.TOOLS)
def test_a_log_without_a_summary_is_no_clean_bill(tool: sanitizer.Tool) -> None:
    assert sanitizer.parse(tool, "========= Error: Device not supported\n") is None
    assert sanitizer.parse(tool, "") is None


# A tool that says what it was told to say; asked for memcheck with `call` in its folder, it first
# makes the call, as the real one does.
TOOL = """#!/bin/sh
while [ "$1" != --log-file ]; do
  if [ "$1" = --tool ]; then tool=$2; fi
  shift
done
log=$2
shift 2
if [ -e "{folder}/call" ] && [ $tool = memcheck ]; then "$@" || exit 1; fi
cat "{folder}/$tool" > "$log"
"""


def confirm(
    root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, memcheck: str, racecheck: str
) -> Outcome:
    (folder / "memcheck").write_text(memcheck)
    (folder / "racecheck").write_text(racecheck)
    program = folder / sanitizer.NAME
    program.write_text(TOOL.format(folder=folder))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", sandbox.environment()["PYTHONPATH"])
    some, good = case(root, 1), kernel(root, "good")
    return sanitizer.confirm(PASSED, some, good, root / "kernels")


def test_a_clean_call_stays_passed_and_says_by_whom(
    workspace_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "call").touch()
    found = confirm(workspace_root, tmp_path, monkeypatch, CLEAN, NO_RACES)
    assert found.status is Status.PASSED and found.probes == ["memcheck", "racecheck"]


def test_an_error_becomes_the_verdict(
    workspace_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = confirm(workspace_root, tmp_path, monkeypatch, CLEAN, RACES)
    assert found.status is Status.SANITIZER and found.strict is None
    assert found.reason.startswith("racecheck: 1 error, first: Error: Race reported")


def test_a_tool_that_does_not_work_is_no_verdict(
    workspace_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MxbenchError, match="memcheck gave no result") as caught:
        confirm(workspace_root, tmp_path, monkeypatch, "Error: Device not supported", "")
    assert caught.value.exit_code == 3


def test_without_the_tool_or_an_nvidia_gpu_the_exit_code_is_3(
    workspace_root: Path, tmp_path: Path
) -> None:
    bare = {"PATH": "/usr/bin:/bin", "CUDA_HOME": "", "CUDA_PATH": ""}
    done = sandbox.run(workspace_root, "check", "mla", "--sanitize", "--target", "cpu", **bare)
    assert done.returncode == 3 and "not --target cpu" in done.stderr
    program = tmp_path / sanitizer.NAME
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "CUDA_VISIBLE_DEVICES": ""}
    options = ["check", "mla", "--suite", "tiny", "--kernel", "good", "--sanitize"]
    done = sandbox.run(workspace_root, *options, **path)
    assert done.returncode == 3 and "--sanitize needs an NVIDIA GPU" in done.stderr
    assert done.stdout == "" and "Traceback" not in done.stderr


@pytest.mark.skipif(os.path.exists("/usr/local/cuda/bin"), reason="this machine has the toolkit")
def test_a_missing_tool_is_named_before_anything_starts(workspace_root: Path) -> None:
    bare = {"PATH": "/usr/bin:/bin", "CUDA_HOME": "", "CUDA_PATH": ""}
    done = sandbox.run(workspace_root, "check", "mla", "--sanitize", **bare)
    assert done.returncode == 3 and "there is none on PATH" in done.stderr
