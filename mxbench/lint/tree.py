"""The lint over kernels of a workspace, as `lint` and whoever packs them call it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..kernel import Kernel
from ..workspace import Workspace
from . import lint
from .findings import Report
from .sizes import case_sizes


def lint_kernels(
    workspace: Workspace, kernels: Iterable[Kernel], allowed: Mapping[str, str] | None = None
) -> list[tuple[str, Report]]:
    """(`op/name`, report) of each kernel and of what it imports from its folder.

    A file outside the workspace's folders stands alone: its relative imports lead nowhere.

    Raises:
        MxbenchError: exit code 2; a kernel cannot be read, or defines nothing that is called.
    """
    sizes: dict[str, frozenset[int]] = {}
    found = []
    for one in kernels:
        home = (workspace.kernels / one.op).resolve()
        inside = bool(one.op) and one.path.resolve().parent == home
        if one.op not in sizes:
            sizes[one.op] = case_sizes(workspace, one.op)
        name = f"{one.op}/{one.name}" if inside else one.path.name
        report = lint(one.path, home if inside else None, sizes[one.op], allowed)
        found.append((name, report))
    return found
