"""A problem's case list as a suite file of mxbench."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from .. import suitefile
from ..case import SUITE_ORDER
from ..errors import MxbenchError
from ..ops import contract
from ..workspace import Workspace
from .folder import ProblemFolder
from .messages import ProblemRead, ReadCase

LOOSE = {"atol": 0.01, "rtol": 0.01}
"""The tolerance of a suite whose problem does not say its own."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def suite_path(workspace: Workspace, op: str, suite: str, force: bool) -> Path:
    """Where a suite goes.

    Raises:
        MxbenchError: exit code 2; the name is none, or taken by another suite.
    """
    if not NAME.fullmatch(suite):
        raise MxbenchError(
            f"{suite!r} is no name for a suite", "use letters, digits, _, . and -: --suite NAME"
        )
    path = workspace.cases / op / f"{suite}.json"
    if suite in SUITE_ORDER:
        raise MxbenchError(
            f"suite {suite} of {op} is mxbench's own", "give the new one another name: --suite NAME"
        )
    if path.exists() and not force:
        raise MxbenchError(
            f"operator {op} has a suite {suite}", "--force replaces it, --suite NAME names another"
        )
    return path


def suite_text(problem: ProblemFolder, read: ProblemRead, suite: str) -> tuple[str, str]:
    """(operator, text of the suite file), a case a line.

    Raises:
        MxbenchError: exit code 2; cases of several operators.
    """
    ops = sorted({case.op for case in read.cases})
    if len(ops) != 1:
        raise MxbenchError(
            f"problem {problem.path.name}: its cases are of {' and '.join(ops) or 'nothing'}",
            "a suite is of one operator",
        )
    drawn = next((case for case in read.cases if case.dtype), read.cases[0])
    defaults = {
        "contract": drawn.contract,
        "dtype": drawn.dtype or "float16",
        "seed": 0,
        **({"inputs": drawn.inputs} if drawn.inputs else {}),
        "tolerance": {**LOOSE, **read.tolerance},
    }
    head = {
        "$schema": "../schema.json",
        "schema": 1,
        "op": ops[0],
        "suite": suite,
        "source": (
            f"imported from the public judge's problem {problem.path.name}: shapes, counts, "
            "tolerance and input scales; the numbers are drawn by mxbench's own recipe"
        ),
        "defaults": defaults,
    }
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
    cases = [f"    {json.dumps(entry)}" for entry in _entries(read.cases)]
    return ops[0], "\n".join(["{", *lines, '  "cases": [', ",\n".join(cases), "  ]", "}"]) + "\n"


def _entries(cases: Sequence[ReadCase]) -> list[dict[str, Any]]:
    """The cases of a suite file; those of equal parameters are told apart by their number."""
    entries, seen = [], set()
    for case in cases:
        params = msgspec.convert(case.params, contract(case.op, case.contract).params)
        label = params.label()
        entry: dict[str, Any] = {"params": case.params}
        if label in seen:
            entry["name"] = f"{label}-{case.number}"
        seen.add(label)
        entry["timing"] = {"warmup": case.warmup, "repeat": case.repeat}
        entries.append(entry)
    return entries


def write(path: Path, op: str, suite: str, text: str) -> int:
    """Write a suite file that loads; returns its number of cases.

    Raises:
        MxbenchError: exit code 2; it cannot be written, or would not load.
    """
    temporary = path.with_suffix(".json.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        _, bodies = suitefile.read(temporary, op, suite, path.name)
        temporary.rename(path)
    except OSError as error:
        raise MxbenchError(f"cannot write {path}: {error.strerror}", "make room there") from error
    finally:
        temporary.unlink(missing_ok=True)
    return len(bodies)
