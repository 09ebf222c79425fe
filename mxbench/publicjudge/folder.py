"""A problem folder and a submission as files: what can be said without running them."""

from __future__ import annotations

import ast
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from .. import jsonfile
from ..errors import MxbenchError, nearest
from ..workspace import Workspace

CONFIG = "testcase_config.py"
OURS = "problems"
"""Folder in `cases/` with a problem of our own for each operator."""


@dataclass(frozen=True)
class ProblemFolder:
    """One problem of the public judge."""

    path: Path
    title: str
    """`displayId` of its `meta.json`."""
    sha: str
    """Hash of its two files."""

    @property
    def slug(self) -> str:
        """Its folder's name in the characters that a suite's name may have."""
        return re.sub(r"[^A-Za-z0-9._-]+", "-", self.path.name).strip("-.") or "problem"


def find(workspace: Workspace, name: str) -> ProblemFolder:
    """The problem in folder `name`, or our own one of operator `name`.

    Raises:
        MxbenchError: exit code 2; no such folder, a file is missing, or `meta.json` is damaged.
    """
    path = Path(name)
    if not path.is_dir():
        ours = workspace.cases / OURS
        path = ours / name
        if "/" in name or not path.is_dir():
            known = [p.name for p in ours.iterdir() if p.is_dir()] if ours.is_dir() else []
            raise MxbenchError(
                f"there is no problem folder {name}", f"{nearest(name, known)}; or name a folder"
            )
    meta, config = path / "meta.json", path / CONFIG
    for file in (meta, config):
        if not file.is_file():
            raise MxbenchError(
                f"problem {path.name} has no {file.name}",
                f"a problem folder holds meta.json and {CONFIG}",
            )
    content = jsonfile.read(meta, f"{path.name}/meta.json")
    if not isinstance(content, dict):
        raise MxbenchError(
            f"{path.name}/meta.json: $: expected an object", "write displayId and type into one"
        )
    source = parse(config)
    digest = hashlib.sha256(meta.read_bytes() + source.encode()).hexdigest()[:16]
    return ProblemFolder(path.resolve(), str(content.get("displayId", path.name)), digest)


def parse(path: Path) -> str:
    """The text of a Python file that parses; MxbenchError with its line if it does not."""
    try:
        source = path.read_text(encoding="utf-8-sig")
        ast.parse(source)
    except SyntaxError as error:
        raise MxbenchError(
            f"{path.name}:{error.lineno}: {error.msg}", "fix the syntax error"
        ) from error
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise MxbenchError(f"cannot read {path}: {error}") from error
    return source


@dataclass(frozen=True)
class SubmissionFile:
    """A file to hand in."""

    path: Path
    sha: str

    @property
    def name(self) -> str:
        return self.path.stem


def submission(name: str) -> SubmissionFile:
    """A submission file; MxbenchError if it cannot be one, with the reason."""
    path = Path(name)
    if not path.is_file():
        raise MxbenchError(
            f"there is no submission {name}",
            "name a .py file, such as one that `mxbench export OP --out FILE.py` wrote",
        )
    source = parse(path)
    tree = ast.parse(source)
    bound = {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
    bound |= {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
    bound |= {
        a.asname or a.name
        for n in ast.walk(tree)
        if isinstance(n, ast.Import | ast.ImportFrom)
        for a in n.names
    }
    if not bound & {"run_kernel", "*"}:
        functions = sorted(n.name for n in tree.body if isinstance(n, ast.FunctionDef))
        raise MxbenchError(
            f"submission {path.name} defines no function run_kernel",
            f"it defines {', '.join(functions) or 'no function'}; the judge calls run_kernel",
        )
    return SubmissionFile(path.resolve(), hashlib.sha256(source.encode()).hexdigest()[:16])
