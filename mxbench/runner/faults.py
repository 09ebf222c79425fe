"""From an exception to a status and one sentence that names the fault."""

from __future__ import annotations

import importlib.util
import re
import traceback
from pathlib import Path

import torch

from ..record import scrub
from ..verdict import Status

REASON_LENGTH = 400

_spec = importlib.util.find_spec("tilelang")  # finds it without importing it
TILELANG = Path((_spec and _spec.origin) or "/no tilelang/__init__.py").parent
# Parts of TileLang that only run while a kernel is traced, lowered or compiled.
_COMPILER_FOLDERS = {
    "backend",
    "cache",
    "contrib",
    "engine",
    "ir",
    "language",
    "layout",
    "tileop",
    "transform",
}
# Where `_compile` of a workspace stands, and stood in older ones that hand-ins may bring along.
_COMPILING = {("common", "program.py"), ("common", "dialect.py")}
_COMPILER_FUNCTIONS = {"compile", "get_tir", "par_compile", "_compile_and_create_adapter"}
_TELLING = re.compile(r"\b(error|check failed|not supported|unsupported|mismatch)", re.IGNORECASE)
_NO_HOST_MEMORY = re.compile(r"can't allocate memory|not enough memory")


def classify(error: BaseException) -> Status:
    """The status that an exception out of a kernel stands for."""
    if is_out_of_memory(error):
        return Status.OUT_OF_MEMORY
    if is_compile_error(error):
        return Status.COMPILE_ERROR
    if isinstance(error, NotImplementedError):
        return Status.NOT_IMPLEMENTED
    return Status.RUNTIME_ERROR


def is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and bool(_NO_HOST_MEMORY.search(str(error)))


def is_compile_error(error: BaseException) -> bool:
    """Whether the exception came out of tracing, lowering or compiling a TileLang program."""
    for frame in traceback.extract_tb(error.__traceback__):
        path = Path(frame.filename)
        if frame.name == "_compile" and path.parts[-2:] in _COMPILING:
            return True
        if not path.is_relative_to(TILELANG):
            continue
        inside = path.relative_to(TILELANG).parts
        if inside[0] in _COMPILER_FOLDERS:
            return True
        if inside[0] == "jit" and frame.name in _COMPILER_FUNCTIONS:
            return True
    return False


def describe(error: BaseException, folder: Path) -> str:
    """`ValueError: what it said (portable.py:41, in routed)`, without private names.

    The line is the innermost one of a file in `folder`, where the kernel lives.
    """
    text = f"{type(error).__name__}: {gist(str(error))}" if str(error) else type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    near = [f for f in frames if Path(f.filename).is_relative_to(folder)]
    if near:
        frame = near[-1]
        text += f" ({Path(frame.filename).name}:{frame.lineno}, in {frame.name})"
    return scrub(text)


def gist(text: str) -> str:
    """A message of a few lines in one; of a long one (a compiler's) the line that tells most."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if lines and "CUDA error" in lines[0]:
        lines = lines[:1]  # what follows is torch's general advice
    elif len(lines) > 3:
        telling = [line for line in lines if _TELLING.search(line)]
        lines = telling[-1:] or lines[-1:]
    joined = " | ".join(lines)
    return joined if len(joined) <= REASON_LENGTH else joined[: REASON_LENGTH - 3] + "..."
