"""compute-sanitizer around one call of a kernel: find the tool, run it, read its report. No torch.

The call runs in a process of its own (`sanitized.py`) with the compile cache at hand. Tensors are
then single allocations, so that a step past the end of one is not a step into its neighbour.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Literal, get_args

import msgspec

from ..case import Case
from ..device import DeviceInfo
from ..errors import EXIT_ENVIRONMENT, MxbenchError
from ..kernel import Kernel
from ..record import scrub
from ..verdict import Status
from .protocol import KernelRef, Outcome

Tool = Literal["memcheck", "racecheck"]
TOOLS: tuple[Tool, ...] = get_args(Tool)
NAME = "compute-sanitizer"
LIMIT = 900.0  # seconds for one tool and case; instrumented kernels take tens of times as long
FOUND = 97  # exit code that the tool is told to use for "found something"
SHOWN = 20  # reports in full, at most

_SUMMARY = re.compile(r"ERROR SUMMARY: (\d+) error")
_RACES = re.compile(r"RACECHECK SUMMARY: \d+ hazards? displayed \((\d+) errors?, (\d+) warnings?\)")
_HEAD = re.compile(r"^=+ (?!COMPUTE-SANITIZER|ERROR SUMMARY|RACECHECK SUMMARY|Target )(\S.*)$")
_PLACE = re.compile(r"^=+\s+at (\S+?)(?:\+0x\w+)? ?(?: in (.*))?$")


class Job(msgspec.Struct, frozen=True):
    """What the process under the tool has to do, as JSON on its stdin."""

    case: bytes
    kernel: KernelRef
    kernels: str
    """The workspace's kernels folder."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What one tool said."""

    tool: Tool
    errors: int
    warnings: int = 0
    """Hazards that racecheck itself does not call errors."""
    first: str = ""
    """The first error in one line."""


def find() -> str:
    """Path of the tool.

    Raises:
        MxbenchError: exit code 3, there is none.
    """
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    path = os.pathsep.join([os.environ.get("PATH", ""), *(f"{h}/bin" for h in homes if h)])
    found = shutil.which(NAME, path=path)
    if found is None:
        raise MxbenchError(
            f"--sanitize needs {NAME}, and there is none on PATH or in CUDA_HOME",
            "it is part of NVIDIA's CUDA toolkit",
            EXIT_ENVIRONMENT,
        )
    return found


def require_nvidia(device: DeviceInfo) -> None:
    """MxbenchError (exit code 3) unless the device is one the tool knows."""
    if device.kind != "cuda":
        raise MxbenchError(
            f"--sanitize needs an NVIDIA GPU; this run is on {device.name} ({device.kind})",
            "leave --sanitize out here, or use --target cuda on a machine that has one",
            EXIT_ENVIRONMENT,
        )


def confirm(outcome: Outcome, case: Case, kernel: Kernel, kernels: Path) -> Outcome:
    """A passed outcome under what the tools say of another call of the kernel.

    Args:
        kernels: the workspace's kernels folder.

    Raises:
        MxbenchError: exit code 3, the tool is missing or does not work here.
    """
    tool = find()
    job = msgspec.json.encode(Job(case.encode(), KernelRef.of(kernel), str(kernels)))
    clean: list[str] = []
    for name in TOOLS:
        report = _run(tool, name, job)
        if isinstance(report, str):
            raise MxbenchError(
                f"--sanitize: {scrub(report)}",
                f"run `{NAME}` by hand to see whether it works on this machine",
                EXIT_ENVIRONMENT,
            )
        if report.errors:
            plural = "s" if report.errors > 1 else ""
            reason = f"{name}: {report.errors} error{plural}, first: {report.first}"
            return msgspec.structs.replace(
                outcome, status=Status.SANITIZER, strict=None, errors=None, reason=scrub(reason)
            )
        clean.append(name)
    return msgspec.structs.replace(outcome, probes=[*outcome.probes, *clean])


def _run(program: str, tool: Tool, job: bytes) -> Report | str:
    """A report, or in words why there is none."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        options = ["--tool", tool, "--error-exitcode", str(FOUND), "--print-limit", str(SHOWN)]
        command = [program, *options, "--log-file", str(log)]
        command += [sys.executable, "-m", "mxbench.runner.sanitized"]
        environment = {**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
        try:
            done = subprocess.run(
                command, input=job, capture_output=True, timeout=LIMIT, env=environment, check=False
            )
        except subprocess.TimeoutExpired:
            return f"{tool} did not end within {LIMIT:g} s"
        except OSError as error:
            return f"{tool} cannot be started: {error.strerror}"
        text = log.read_text(errors="replace") if log.exists() else ""
    report = parse(tool, text)
    if report is None or (done.returncode not in (0, FOUND) and not report.errors):
        said = (done.stderr.decode(errors="replace").strip() or text.strip()).splitlines()
        return f"{tool} gave no result (exit code {done.returncode}): {' | '.join(said[-2:])}"
    return report


def parse(tool: Tool, text: str) -> Report | None:
    """What a log of the tool says; None if it has no summary, as of a tool that did not work."""
    first = _first(text)
    if tool == "racecheck":
        races = _RACES.search(text)
        if races is None:
            return None
        errors, warnings = int(races[1]), int(races[2])
        return Report(tool=tool, errors=errors, warnings=warnings, first=first if errors else "")
    summary = _SUMMARY.search(text)
    return summary and Report(tool=tool, errors=int(summary[1]), first=first)


def _first(text: str) -> str:
    """The first error of a log and the kernel it is in."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        head = _HEAD.match(line)
        if head is None or head[1].startswith("Warning"):
            continue
        for following in lines[number + 1 : number + 4]:
            if place := _PLACE.match(following):
                return f"{head[1]} in {place[1]}"
        return head[1]
    return ""
