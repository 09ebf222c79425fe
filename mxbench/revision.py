"""The kernels of another git revision, in a folder of their own."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from . import archive
from .errors import EXIT_ENVIRONMENT, MxbenchError
from .workspace import Workspace

GIT_LIMIT = 60.0  # seconds


@contextlib.contextmanager
def checked_out(workspace: Workspace, revision: str) -> Iterator[Workspace]:
    """`workspace` with the kernels as of `revision`; cases and results stay where they are.

    Raises:
        MxbenchError: there is no git, no repository, no such revision, or no kernels in it.
    """
    commit = resolve(workspace, revision)
    with tempfile.TemporaryDirectory(prefix="mxbench-") as name:
        folder = Path(name)
        packed = folder / "kernels.zip"
        _git(workspace, "archive", "--format=zip", f"--output={packed}", commit, "kernels",
             fault=f"revision {revision!r} holds no kernels/")  # fmt: skip
        (folder / "tree").mkdir()
        archive.unpack(packed, folder / "tree")
        yield replace(workspace, kernels=folder / "tree" / "kernels")


def resolve(workspace: Workspace, revision: str) -> str:
    """The commit that `revision` names.

    Raises:
        MxbenchError: as `checked_out`.
    """
    _git(workspace, "rev-parse", "--git-dir", fault="these kernels are in no git repository")
    return _git(
        workspace, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}",
        fault=f"git knows no revision {revision!r}",
    )  # fmt: skip


def _git(workspace: Workspace, *arguments: str, fault: str) -> str:
    if shutil.which("git") is None:
        raise MxbenchError("--rev needs git, which is not on PATH", "install it", EXIT_ENVIRONMENT)
    done = subprocess.run(
        ["git", "-C", str(workspace.kernels.parent), *arguments],
        capture_output=True, text=True, timeout=GIT_LIMIT, check=False,
    )  # fmt: skip
    if done.returncode:
        raise MxbenchError(fault, "`git log --oneline` lists revisions")
    return done.stdout.strip()
