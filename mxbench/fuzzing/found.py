"""`cases/<op>/found.json`: the smallest failing cases that fuzzing found, to be checked again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from .. import jsonfile, suitefile
from ..case import Case
from ..errors import MxbenchError
from ..workspace import Workspace
from .space import SUITE

SOURCE = "found by `mxbench fuzz`: the smallest cases that failed with some kernel at some time"


def keep(workspace: Workspace, case: Case) -> Case:
    """Add a case to its operator's found.json unless it is there; returns it under its name there.

    Raises:
        MxbenchError: the file is damaged, or cannot be written.
    """
    path = workspace.cases / case.op / f"{SUITE}.json"
    entry = _entry(case)
    entry["name"] = f"{case.contract}-{_digest(entry)}"
    document = _document(path, case.op)
    if entry["name"] not in [one.get("name") for one in document["cases"]]:
        document["cases"].append(entry)
        _write(path, document)
    return replace(case, name=entry["name"])


def _document(path: Path, op: str) -> dict[str, Any]:
    """What the file holds, or the frame of a new one."""
    if path.exists():
        suitefile.read(path, op, SUITE, path.name)  # names what is wrong with it, and where
        document: dict[str, Any] = jsonfile.read(path)
        return document
    return {
        "$schema": "../schema.json",
        "schema": 1,
        "op": op,
        "suite": SUITE,
        "source": SOURCE,
        "cases": [],
    }


def _entry(case: Case) -> dict[str, Any]:
    """The case as a suite file says it, what is usual left out."""
    usual = msgspec.to_builtins(case.spec.recipe())
    recipe = msgspec.to_builtins(case.recipe)
    params = msgspec.to_builtins(case.params)
    return {
        "name": "",
        "contract": case.contract,
        "params": {name: value for name, value in params.items() if value is not None},
        "dtype": case.dtype,
        "seed": case.seed,
        "inputs": {name: value for name, value in recipe.items() if value != usual[name]},
        "tolerance": msgspec.to_builtins(case.tolerance),
    }


def _digest(entry: dict[str, Any]) -> str:
    text = json.dumps(entry, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _write(path: Path, document: dict[str, Any]) -> None:
    head = {name: value for name, value in document.items() if name != "cases"}
    lines = ",\n".join(f"    {json.dumps(one)}" for one in document["cases"])
    frame = json.dumps(head, indent=2).removesuffix("\n}")
    text = f'{frame},\n  "cases": [\n{lines}\n  ]\n}}\n'
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise MxbenchError(
            f"cannot write what was found to {path}: {error.strerror}",
            "run in a checkout, or in a folder with your own kernels/ and cases/",
        ) from error
