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


def compile_resources(sources: list[str], arch: str, folder: Path) -> list[Resources]:
    """Compile CUDA sources for `arch` and read what ptxas reports of each.

    They make one file: TileLang's headers take longer to read than most programs to compile.
    """
    root = Path(tilelang.__file__).parent
    file = folder / "kernel.cu"
    file.write_text("\n".join(_with_own_names(text, i) for i, text in enumerate(sources)))
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
    kernels: dict[int, list[str]] = {}
    for report in re.split("Compiling entry function ", done.stderr)[1:]:
        kernels.setdefault(int(re.match(r"'\w+_of_(\d+)'", report)[1]), []).append(report)
    return [_read("".join(kernels[i])) for i in range(len(sources))]


def _with_own_names(source: str, number: int) -> str:
    """The source with `_of_<number>` behind the names of its kernels."""
    names = set(re.findall(r"__global__ void (?:__launch_bounds__\([^)]*\) )?(\w+)\(", source))
    return re.sub(rf"\b({'|'.join(names)})\b", rf"\1_of_{number}", source)


def _read(report: str) -> Resources:
    """Of ptxas's report of a program, which may have several kernels."""
    spilled = re.findall(r"(\d+) bytes spill (?:stores|loads)", report)
    registers = re.findall(r"Used (\d+) registers", report)
    assert spilled and registers, report[-3000:]
    shared = [0, *map(int, re.findall(r"(\d+) bytes smem", report))]
    return Resources(max(map(int, registers)), sum(map(int, spilled)), max(shared))
