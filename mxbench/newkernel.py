"""`new`: a kernel module to begin from."""

from __future__ import annotations

import ast
import keyword
import os
from pathlib import Path

from . import kernel as kernels
from .errors import MxbenchError
from .ops import OPERATORS, operator
from .workspace import Workspace

BASELINE = "baseline"
RESERVED = ("auto", "all", BASELINE)


def create(workspace: Workspace, op: str, name: str, source: str = BASELINE) -> Path:
    """Write `kernels/<op>/<name>.py`, a copy of kernel `source`, and return its path.

    Raises:
        MxbenchError: exit code 2; the operator, the name or the source is no good, or the file
            is there already. Nothing is overwritten, and nothing is written half.
    """
    if op not in OPERATORS:
        operator(op)  # raises with the nearest
    _check_name(name)
    origin = kernels.find(workspace, op, source)
    contracts = [c for c in operator(op).contracts if c in origin.signatures]
    if not contracts:
        raise MxbenchError(f"kernel {source} implements no contract of {op}", "copy another")
    path = workspace.kernels / op / f"{name}.py"
    half = path.with_name(f".{name}.py.{os.getpid()}.part")
    try:
        half.write_text(_text(origin, name, contracts), encoding="utf-8")
        os.link(half, path)  # unlike a rename, this refuses to overwrite
    except FileExistsError:
        raise MxbenchError(f"{path} is there already", "choose another name, or edit it") from None
    except OSError as error:
        raise MxbenchError(f"cannot write {path}: {error.strerror}", "make room there") from None
    finally:
        half.unlink(missing_ok=True)
    return path


def _check_name(name: str) -> None:
    if not name.isascii() or not name.isidentifier() or keyword.iskeyword(name):
        raise MxbenchError(f"{name!r} is no name for a kernel", "letters, digits and _, like mine")
    if name.startswith("_") or name in RESERVED:
        raise MxbenchError(f"the name {name!r} is reserved", "choose another, like mine")


def _text(origin: kernels.Kernel, name: str, contracts: list[str]) -> str:
    """The source of `origin` under a docstring that says what to do with it."""
    docstring = (
        f'"""{name}: begun from {origin.name}.py. Edit, and run\n\n'
        f"    mxbench watch {origin.op} --kernel {name}\n\n"
        f"Implements {' and '.join(contracts)}; outputs are the caller's and written in place.\n"
        "Tile sizes come from kernels/common/schedules/ under the names looked up below.\n"
        '"""\n'
    )
    body = origin.tree.body
    if not (body and isinstance(body[0], ast.Expr) and ast.get_docstring(origin.tree) is not None):
        return f"{docstring}\n{origin.source}"
    lines = origin.source.splitlines(keepends=True)
    start, end = body[0].lineno - 1, body[0].end_lineno or body[0].lineno
    return "".join([*lines[:start], docstring, *lines[end:]])
