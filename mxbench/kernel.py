"""Find and load a kernel module. Everything but `load` works on source text, without torch."""

from __future__ import annotations

import ast
import hashlib
import importlib.machinery
import importlib.util
import json
import os
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from .errors import MxbenchError, nearest
from .ops.base import Contract
from .workspace import Workspace

# Kernel modules live in an artificial package, because `kernels` is somebody else's name on the
# package index. Inside it `from ..common.dialect import ...` works as usual.
PACKAGE = "mxbench_kernels"
SCHEDULES = "MXBENCH_SCHEDULES"
"""Environment variable: a folder of schedules of one's own (see kernels/common/schedule.py)."""


@dataclass(frozen=True)
class Kernel:
    """One implementation: a Python file with functions named after contracts."""

    op: str
    name: str
    path: Path
    home: Path | None = None
    """Where its relative imports lead: `kernels/<op>/`, also for a file that lies elsewhere."""

    @cached_property
    def source(self) -> str:
        try:
            return self.path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise MxbenchError(f"cannot read kernel {self.path}: {error}") from error

    @cached_property
    def tree(self) -> ast.Module:
        try:
            return ast.parse(self.source, filename=str(self.path))
        except SyntaxError as error:
            raise MxbenchError(
                f"kernel {self.path}:{error.lineno}: {error.msg}", "fix the syntax error"
            ) from error

    @cached_property
    def imports(self) -> set[Path]:
        """The siblings that it imports, and those that they import."""
        return _siblings(self.tree, self.home or self.path.parent)

    @cached_property
    def sha(self) -> str:
        """Hash of the module, of the siblings it imports (and they in turn), and kernels/common."""
        digest = hashlib.sha256(self.source.encode())
        common = (self.home or self.path.parent).parent / "common"
        mine = os.environ.get(SCHEDULES)  # tuned schedules that go before the checkout's
        more = Path(mine).glob("*.json") if mine else ()
        for path in sorted([*self.imports, *common.rglob("*.py"), *common.rglob("*.json"), *more]):
            digest.update(path.name.encode() + path.read_bytes())
        return digest.hexdigest()[:16]

    @cached_property
    def summary(self) -> str:
        """First line of the module's docstring."""
        return (ast.get_docstring(self.tree) or "").split("\n", 1)[0]

    @cached_property
    def signatures(self) -> dict[str, str]:
        """Signature text of each public top-level function, by name."""
        found = {}
        for node in self.tree.body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                found[node.name] = _signature(node)
        return found

    @cached_property
    def uses_dialect(self) -> bool:
        """Whether it is built on the workspace's dialect, and so compiles without running.

        Any relative import counts: a module may take all its programs from a sibling. A file that
        stands alone must never be called with meta tensors: its launches would run.
        """
        return any(isinstance(node, ast.ImportFrom) and node.level for node in self.tree.body)

    def require(self, contract: Contract) -> None:
        """Raise MxbenchError unless the module defines the contract with its very signature."""
        have = self.signatures.get(contract.name)
        if have is None:
            others = ", ".join(sorted(self.signatures)) or "no public function"
            raise MxbenchError(
                f"kernel {self.name} ({self.path.name}) lacks contract {contract.name!r}",
                f"it defines {others}; wanted: def {contract.signature}",
            )
        if have != contract.signature:
            raise MxbenchError(
                f"kernel {self.name} ({self.path.name}): signature of {contract.name} differs",
                f"wanted: def {contract.signature}\n  found:  def {have}",
            )


def _siblings(tree: ast.Module, home: Path) -> set[Path]:
    """The files in `home` that a module imports relatively, and those that they import."""
    found: set[Path] = set()
    waiting = [tree]
    while waiting:
        for node in ast.walk(waiting.pop()):
            if not isinstance(node, ast.ImportFrom) or node.level != 1:
                continue
            names = [node.module] if node.module else [alias.name for alias in node.names]
            for path in (home / f"{name}.py" for name in names):
                if path.is_file() and path not in found:
                    found.add(path)
                    waiting.append(ast.parse(path.read_text(encoding="utf-8")))
    return found


def _signature(node: ast.FunctionDef) -> str:
    args = node.args
    parts = [a.arg for a in (*args.posonlyargs, *args.args)]
    if args.vararg:
        parts.append("*" + args.vararg.arg)
    elif args.kwonlyargs:
        parts.append("*")
    parts += [a.arg for a in args.kwonlyargs]
    if args.kwarg:
        parts.append("**" + args.kwarg.arg)
    return f"{node.name}({', '.join(parts)})"


def find_all(workspace: Workspace, op: str) -> list[Kernel]:
    """The kernels of an operator in the workspace, by name."""
    paths = sorted((workspace.kernels / op).glob("*.py"))
    return [Kernel(op, p.stem, p) for p in paths if not p.stem.startswith("_")]


def find(workspace: Workspace, op: str, name: str) -> Kernel:
    """Kernel `name` of `op`, or the file `name` if it ends in `.py`.

    Raises:
        MxbenchError: there is none; the message names the nearest.
    """
    if name.endswith(".py"):
        path = Path(name)
        if not path.is_file():
            raise MxbenchError(f"kernel file {name} does not exist", "check the path")
        return Kernel(op, path.stem, path.resolve(), (workspace.kernels / op).resolve())
    known = {k.name: k for k in find_all(workspace, op)}
    if name not in known:
        raise MxbenchError(f"operator {op} has no kernel {name!r}", nearest(name, known))
    return known[name]


def dispatch(workspace: Workspace, op: str, contract: str, target: str) -> str:
    """Name of the module that serves a contract on a target under `--kernel auto`."""
    path = workspace.kernels / "common" / "dispatch.json"
    for entry in json.loads(path.read_text(encoding="utf-8")).get(op, []):
        fits_contract = entry.get("contract", contract) == contract
        fits_target = entry.get("target", target) == target
        if fits_contract and fits_target:
            return str(entry["kernel"])
    raise MxbenchError(
        f"{path.name}: no kernel serves {op} {contract} on {target}", "name one with --kernel"
    )


def mount(kernels: Path, package: str = PACKAGE) -> None:
    """Make `kernels` importable as the package `package`, with one subpackage a folder."""
    for name, folder in [
        (package, kernels),
        *((f"{package}.{p.name}", p) for p in sorted(kernels.iterdir()) if p.is_dir()),
    ]:
        spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [str(folder)]
        sys.modules[name] = importlib.util.module_from_spec(spec)


def load(kernel: Kernel, kernels: Path, package: str = PACKAGE) -> types.ModuleType:
    """Import a kernel module (and with it torch and tilelang): only ever in a worker.

    A file outside the workspace is imported as if it lay in `kernels/<op>/`, so that its
    `from ..common.dialect import ...` finds the workspace's dialect. Under another `package` a
    process holds a second set of kernels, with a dialect of its own.
    """
    if package not in sys.modules:
        mount(kernels, package)
    inside = kernel.path.parent == (kernels / kernel.op).resolve()
    stem = kernel.path.stem if inside else f"_file_{kernel.sha}_{kernel.path.stem}"
    name = f"{package}.{kernel.op}.{stem}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, kernel.path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def dialect(kernels: Path, package: str = PACKAGE) -> Any:
    """The workspace's `kernels/common/dialect.py` as a module."""
    if package not in sys.modules:
        mount(kernels, package)
    return importlib.import_module(f"{package}.common.dialect")


def schedules(kernels: Path, package: str = PACKAGE) -> Any:
    """The workspace's `kernels/common/schedule.py` as a module."""
    if package not in sys.modules:
        mount(kernels, package)
    return importlib.import_module(f"{package}.common.schedule")


def function(module: types.ModuleType, contract: Contract) -> Callable[..., None]:
    """The module's function for a contract."""
    found: Callable[..., None] = getattr(module, contract.name)
    return found
