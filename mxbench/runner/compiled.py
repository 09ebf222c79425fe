"""Compile the programs behind a journal's timings, without a GPU, and read ptxas's report.

Runs as `python -m mxbench.runner.compiled`: an `Order` as JSON on stdin, the programs' resources as
JSON on stdout, progress on stderr. It imports torch and TileLang, which the command line does not.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from .. import kernel as kernels
from .. import workspace
from ..case import Case
from ..errors import EXIT_ENVIRONMENT, MxbenchError
from ..record import scrub
from ..resources import Resources, Use

TILE = re.compile(r"block|threads|stages|split|warps|tile")
COMPILE_SECONDS = 600
PACKAGE = Path(__file__).resolve().parents[2]

Entry = tuple[int, int, int]
"""(registers a thread, bytes of spills, bytes of static shared memory) of a kernel."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What to compile."""

    kernels: str
    """Folder of the workspace's kernels."""
    root: str
    arch: str
    sms: int
    calls: list[tuple[str, bytes]]
    """(kernel name, encoded case): the calls whose programs count."""


def read(orders: Sequence[Order]) -> Resources:
    """Compile each order in a process of its own, all at once; progress goes to our stderr.

    TileLang lowers in one thread, so operators, which share no program, go side by side.

    Raises:
        MxbenchError: exit code 3, there is no nvcc, or a program does not compile.
    """
    if shutil.which("nvcc") is None:
        raise MxbenchError(
            "registers and spills are read from the compiler, and there is no nvcc on PATH",
            "install the CUDA toolkit's nvcc (no GPU is needed), or leave --resources out",
            EXIT_ENVIRONMENT,
        )
    with ThreadPoolExecutor(len(orders)) as pool:
        answers = list(pool.map(_ask, orders))
    if any(done.returncode for done in answers):
        raise MxbenchError(
            "the compiler's figures cannot be read; the lines above say why",
            "`mxbench check` compiles the same programs and shows their errors",
            EXIT_ENVIRONMENT,
        )
    parts = [msgspec.json.decode(done.stdout, type=Resources) for done in answers]
    return Resources(
        schema=1,
        arch=parts[0].arch,
        compiler=parts[0].compiler,
        shas={name: sha for part in parts for name, sha in part.shas.items()},
        programs=tuple(use for part in parts for use in part.programs),
    )


def _ask(order: Order) -> subprocess.CompletedProcess[bytes]:
    path = os.pathsep.join(filter(None, [str(PACKAGE), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, "-m", __name__],
        input=msgspec.json.encode(order),
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )


# --- in the other process -----------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Asked:
    op: str
    kernel: str
    program: Any
    static: dict[str, Any]


def _main() -> None:
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    out = os.dup(1)
    os.dup2(2, 1)  # what compilers print is not our answer
    home = Path(order.kernels)
    dialect = kernels.dialect(home)
    place = workspace.Workspace(home, home.parent / "cases", Path(order.root))
    base = dialect.SM90 if order.arch.startswith("sm_90") else dialect.SM80
    target = dataclasses.replace(base, arch=order.arch, sms=order.sms)
    asked, shas = _asked(order, place, dialect, target)
    workers = max(1, len(os.sched_getaffinity(0)))
    with ThreadPoolExecutor(workers) as pool, tempfile.TemporaryDirectory() as folder:
        tasks: list[tuple[Any, Future[list[Entry]]]] = []
        for number, one in enumerate(asked):  # TileLang lowers in one thread, nvcc in several
            lowered = one.program.lower(target, **one.static)
            task = pool.submit(_compile, lowered.source, order.arch, Path(folder), number)
            tasks.append((lowered, task))
        found = []
        for number, (one, (lowered, task)) in enumerate(zip(asked, tasks, strict=True), 1):
            found.append(_use(one, lowered, task.result()))
            print(f"compiled {number} of {len(asked)}: {found[-1].program}", file=sys.stderr)
    answer = Resources(
        schema=1, arch=order.arch, compiler=_compiler(), shas=shas, programs=tuple(found)
    )
    os.write(out, msgspec.json.encode(answer))


def _asked(
    order: Order, place: workspace.Workspace, dialect: Any, target: Any
) -> tuple[list[_Asked], dict[str, str]]:
    """One program of each builder and set of tiles that the calls ask for."""
    from .meta import arguments

    found: dict[object, _Asked] = {}
    shas: dict[str, str] = {}
    for name, data in order.calls:
        case = Case.decode(data)
        kernel = kernels.find(place, case.op, name)
        if not kernel.uses_dialect:
            continue
        shas[f"{case.op}/{name}"] = kernel.sha
        loaded = kernels.load(kernel, place.kernels)
        dialect.use(target)
        with dialect.collect() as asked:
            tensors, options = arguments(case)
            kernels.function(loaded, case.spec)(*tensors, **options)
        for program, static in asked:
            tiles = {k: v for k, v in static.items() if TILE.search(k)}
            key = (case.op, name, program.name, str(sorted(tiles.items(), key=str)))
            found.setdefault(key, _Asked(case.op, name, program, static))
    return list(found.values()), shas


def _compile(source: str, arch: str, folder: Path, number: int) -> list[Entry]:
    """Each kernel of some CUDA source."""
    import tilelang

    root = Path(tilelang.__file__).parent
    file = folder / f"{number}.cu"
    file.write_text(source)
    command = ["nvcc", "-cubin", f"-arch={arch}", "-std=c++17", "-O3", f"-I{root / 'src'}"]
    command += [f"-I{root / '3rdparty' / 'cutlass' / 'include'}", "-Xptxas=-v"]
    command += ["-o", str(file.with_suffix(".cubin")), str(file)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=COMPILE_SECONDS, check=False
    )
    if done.returncode:
        raise MxbenchError(f"nvcc: {scrub(done.stderr[-800:])}")
    return ptxas(done.stderr)


def ptxas(report: str) -> list[Entry]:
    """Each entry function in the output of `ptxas -v`."""
    found = []
    for part in re.split(r"Compiling entry function", report)[1:]:
        used = re.search(r"Used (\d+) registers", part)
        if used is None:
            continue
        spills = sum(map(int, re.findall(r"(\d+) bytes spill (?:stores|loads)", part)))
        shared = re.search(r"(\d+) bytes smem", part)
        found.append((int(used[1]), spills, int(shared[1]) if shared else 0))
    return found


def _use(one: _Asked, lowered: Any, entries: Sequence[Entry]) -> Use:
    registers, _, shared = max(entries, default=(0, 0, 0))
    sizes = {k: _plain(v) for k, v in one.static.items() if TILE.search(k)}
    return Use(
        op=one.op,
        kernel=one.kernel,
        program=".".join(one.program.name.split(".")[-2:]),
        sizes=sizes,
        threads=lowered.threads,
        registers=registers,
        shared=lowered.shared_bytes + shared,
        spills=sum(spills for _, spills, _ in entries),
    )


def _plain(value: Any) -> int | float | str | bool | None:
    return value if isinstance(value, int | float | str | bool) or value is None else str(value)


def _compiler() -> str:
    text = subprocess.run(["nvcc", "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"release ([\d.]+)", text)
    return f"nvcc {found[1]}" if found else "nvcc"


if __name__ == "__main__":
    try:
        _main()
    except MxbenchError as error:
        print(f"error: {error.message}", file=sys.stderr)
        sys.exit(1)
