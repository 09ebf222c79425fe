"""What nvcc makes of lowered device code: registers and spills, read from ptxas. Needs no GPU."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import tilelang


@dataclass(frozen=True)
class Resources:
    """Of one kernel."""

    registers: int
    """Registers a thread."""
    spills: int
    """Bytes of spill stores and loads."""
    shared: int
    """Bytes of static shared memory."""


def available() -> bool:
    return shutil.which("nvcc") is not None


def compile_resources(source: str, arch: str, folder: Path) -> Resources:
    """Compile CUDA source to a cubin for `arch` and read ptxas's report."""
    root = Path(tilelang.__file__).parent
    file = folder / "kernel.cu"
    file.write_text(source)
    command = [
        "nvcc",
        "-cubin",
        f"-arch={arch}",
        "-std=c++17",
        "-O3",
        f"-I{root / 'src'}",
        f"-I{root / '3rdparty' / 'cutlass' / 'include'}",
        "-Xptxas=-v",
        "-o",
        str(folder / "kernel.cubin"),
        str(file),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    spilled = re.findall(r"(\d+) bytes spill (?:stores|loads)", done.stderr)
    registers = re.findall(r"Used (\d+) registers", done.stderr)
    assert spilled and registers, done.stderr[-3000:]
    shared = [0, *map(int, re.findall(r"(\d+) bytes smem", done.stderr))]
    return Resources(max(map(int, registers)), sum(map(int, spilled)), max(shared))
