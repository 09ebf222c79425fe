"""The smallest check that shows that unpacked source runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ..case import load_suite
from ..errors import MxbenchError
from ..record import scrub
from ..workspace import Workspace

SECONDS = 900
SUITES = ("smoke", "functional")


def check(source: Path, ops: Sequence[str]) -> list[str]:
    """Judge the smallest case of each operator with the source itself, in the folder `source`.

    Returns:
        A sentence for each operator.

    Raises:
        MxbenchError: exit code 2; a case did not pass, with the end of what was said.
    """
    here = Workspace(source / "kernels", source / "cases", source)
    said = []
    for op in ops:
        suite = next(s for s in SUITES if (source / "cases" / op / f"{s}.json").is_file())
        case = min(load_suite(here, op, suite).cases, key=lambda c: c.work.flops)
        command = [sys.executable, "-m", "mxbench", "check", op, "--suite", suite]
        done = _run([*command, "--case", case.name], source)
        if done.returncode:
            lines = [
                scrub(line) for line in (done.stdout + done.stderr).splitlines() if line.strip()
            ]
            raise MxbenchError(
                f"unpacked, `mxbench check {op} --suite {suite} --case {case.name}` ends with "
                f"exit code {done.returncode}: {' | '.join(lines[-3:])}",
                "make it pass in the workspace first; is every file it needs in git?",
            )
        said.append(f"{op}/{suite}/{case.name} passes from the unpacked source")
    return said


def _run(command: Sequence[str], source: Path) -> subprocess.CompletedProcess[str]:
    """The unpacked mxbench if there is one, else the present one."""
    present = Path(__file__).resolve().parents[2]
    path = os.pathsep.join(filter(None, [str(source), str(present), os.environ.get("PYTHONPATH")]))
    try:
        return subprocess.run(
            command, cwd=source, env={**os.environ, "PYTHONPATH": path}, capture_output=True,
            text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise MxbenchError(
            f"unpacked, {' '.join(command[1:])} did not end within {SECONDS} s", "see why it hangs"
        ) from error
