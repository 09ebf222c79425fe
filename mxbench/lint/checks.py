"""The rules themselves: one pass over the host code of the call path, one over everything."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator

from . import words
from .callpath import CallPath, Region
from .cases import Cases
from .constants import text
from .findings import Finding
from .kept import Kept
from .sources import Source, Sources

Place = tuple[str, str]
"""(rule, what stands there)."""

_OPERATORS = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Pow: "**",
    ast.Mod: "%", ast.MatMult: "@", ast.BitAnd: "&", ast.BitOr: "|", ast.BitXor: "^",
}  # fmt: skip
_CONVERT = {"builtins.int", "builtins.float", "builtins.bool", "builtins.sum", "builtins.max",
            "builtins.min", "builtins.abs", "builtins.pow", "builtins.round"}  # fmt: skip
_RUN_TEXT = {"builtins.exec", "builtins.eval", "builtins.compile", "types.FunctionType",
             "types.CodeType", "marshal.loads", "pickle.loads"}  # fmt: skip
_IMPORTERS = {"importlib.import_module", "builtins.__import__"}


class Checker:
    """Applies every rule to a kernel."""

    def __init__(self, sources: Sources, calls: CallPath, sizes: frozenset[int]) -> None:
        self.sources, self.calls = sources, calls
        self.kept, self.cases = Kept(sources, calls), Cases(sources, sizes)

    def run(self) -> list[Finding]:
        """The findings in order of file and line, each once."""
        found: dict[Finding, None] = {}
        for source in self.sources.files.values():
            for node in ast.walk(source.tree):
                for rule, what in self._anywhere(source, node):
                    found[_finding(source, node, rule, what)] = None
        for region in self.calls.regions:
            for node in region.walk():
                for rule, what in self._in_calls(region, node):
                    found[_finding(region.source, node, rule, what)] = None
        order = {path: i for i, path in enumerate(s.path for s in self.sources.files.values())}
        return sorted(found, key=lambda f: (order[f.path], f.line, f.rule, f.what))

    # --- anywhere in the files ------------------------------------------------------------------

    def _anywhere(self, source: Source, node: ast.AST) -> Iterator[Place]:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from self._import(node)
        elif isinstance(node, ast.Call):
            yield from self._late_import(source, node)
            yield from self._named(self._looked_up(source, node))
        elif isinstance(node, ast.Attribute):
            yield from self._named(node.attr)
        elif isinstance(node, ast.Name):
            for target in self.sources.targets(source, node):
                if isinstance(target, str) and target.count("."):
                    yield from self._named(target.rpartition(".")[2])
        elif isinstance(node, ast.Constant) and id(node) not in source.described:
            for sign in words.NATIVE_TEXT:
                if isinstance(node.value, str) and sign in node.value:
                    yield "raw-cuda", f"a string with {sign!r}"

    def _named(self, name: str | None) -> Iterator[Place]:
        if name in words.SOURCE_WORDS:
            yield "import-source", name or ""
        elif name in words.EXTERN_WORDS:
            yield "call-extern", name or ""
        elif name in words.NATIVE_WORDS:
            yield "raw-cuda", name or ""
        elif name in words.POINTERS:
            yield "data-ptr", name or ""

    def _looked_up(self, source: Source, node: ast.Call) -> str | None:
        """The name that a getattr, attrgetter or methodcaller with a constant looks up."""
        for target in self.sources.targets(source, node.func):
            if target == "builtins.getattr" and len(node.args) >= 2:
                return text(self.sources, source, node.args[1])
            if target in ("operator.attrgetter", "operator.methodcaller") and node.args:
                return text(self.sources, source, node.args[0])
            if target in ("builtins.getattr", "builtins.setattr"):
                return None
        return None

    def _import(self, node: ast.Import | ast.ImportFrom) -> Iterator[Place]:
        if isinstance(node, ast.ImportFrom):
            modules = [] if node.level else [node.module or ""]
            for alias in node.names:
                yield from self._named(alias.name)
        else:
            modules = [alias.name for alias in node.names]
        for module in modules:
            yield from self._library(module)

    def _library(self, module: str) -> Iterator[Place]:
        top = module.partition(".")[0]
        if top in words.NATIVE or module.startswith("torch.utils.cpp_extension"):
            yield "raw-cuda", f"import of {module}"
        elif top not in words.LIBRARIES and top not in sys.stdlib_module_names:
            yield "other-library", f"import of {module}"

    def _late_import(self, source: Source, node: ast.Call) -> Iterator[Place]:
        targets = self.sources.targets(source, node.func)
        if targets & _IMPORTERS and node.args:
            name = text(self.sources, source, node.args[0])
            if name is None:
                yield "unseen-code", "an import of what only running tells"
            else:
                yield from self._library(name)
        for target in sorted(t for t in targets if isinstance(t, str) and t in _RUN_TEXT):
            yield "unseen-code", f"{target.removeprefix('builtins.')}(...)"

    # --- in the host code of a call -------------------------------------------------------------

    def _in_calls(self, region: Region, node: ast.AST) -> Iterator[Place]:
        source = region.source
        yield from self.kept.places(region, node)
        yield from self.cases.places(source, node)
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
            yield from self._reference(source, node)
        if isinstance(node, ast.Attribute):
            yield from self._method(source, node.value, node.attr)
        elif isinstance(node, ast.Call):
            yield from self._call(source, node)
        elif isinstance(node, ast.BinOp | ast.AugAssign | ast.UnaryOp):
            yield from self._operator(source, node)
        elif isinstance(node, ast.Subscript):
            yield from self._subscript(source, node)
        elif isinstance(node, ast.If | ast.While | ast.IfExp | ast.Assert) and self.calls.is_tensor(
            source, node.test
        ):
            yield "host-device", "a branch on a tensor, which waits for the device"

    def _reference(self, source: Source, node: ast.Name | ast.Attribute) -> Iterator[Place]:
        for target in self.sources.targets(source, node):
            if not isinstance(target, str):
                continue
            if target.startswith("torch."):
                yield from _torch(target)
            elif target.startswith("operator.") and target.rpartition(".")[2] in (
                "matmul", "imatmul", "__matmul__", "__imatmul__",
            ):  # fmt: skip
                yield "torch-arithmetic", target

    def _method(self, source: Source, value: ast.AST, name: str) -> Iterator[Place]:
        """An attribute of something: what a tensor does by that name."""
        if any(isinstance(t, str) for t in self.sources.targets(source, value)):
            return  # of a library, which `_reference` looks at
        tensor = self.calls.is_tensor(source, value)
        if name in (words.HOST_METHODS if tensor else words.HOST_METHODS_ANYWHERE):
            yield "host-device", f".{name}"
        elif name in words.POINTERS or (tensor and name in words.NO_TENSOR | words.VIEWS):
            return
        elif name in words.COMPUTES_ANYWHERE or (tensor and not _harmless(name)):
            yield "torch-arithmetic", f".{name}"

    def _call(self, source: Source, node: ast.Call) -> Iterator[Place]:
        name = self._looked_up(source, node)
        if name is not None:
            yield from self._method(source, node.args[0], name)
        functions = self.sources.targets(source, node.func)
        looked_up = set(self.sources.targets(source, node))
        if not isinstance(node.func, ast.Name | ast.Attribute):
            looked_up |= functions
        for target in sorted(t for t in looked_up if isinstance(t, str)):
            if target.startswith("torch."):
                yield from _torch(target)
        if "operator.methodcaller" in functions and name not in words.NO_TENSOR | words.VIEWS:
            yield "torch-arithmetic", f"methodcaller({name!r})"
        if "builtins.getattr" in functions and name is None and node.args:
            base = self.sources.targets(source, node.args[0])
            if self.calls.is_tensor(source, node.args[0]) or any(
                isinstance(t, str) and t.partition(".")[0] in words.LIBRARIES for t in base
            ):
                yield "unseen-code", "getattr with a name that only running tells"
        takes = any(self.calls.is_tensor(source, arg) for arg in node.args)
        for function in sorted(f for f in functions if isinstance(f, str)):
            if takes and function in _CONVERT:
                yield "host-device", f"{function.removeprefix('builtins.')} of a tensor"
            elif takes and function.startswith("operator.") and not _harmless(function):
                yield "torch-arithmetic", function
        for keyword in node.keywords:
            if keyword.arg == "non_blocking":
                yield "host-device", "non_blocking="

    def _operator(
        self, source: Source, node: ast.BinOp | ast.AugAssign | ast.UnaryOp
    ) -> Iterator[Place]:
        if isinstance(node, ast.UnaryOp):
            if self.calls.is_tensor(source, node.operand) and not isinstance(node.op, ast.Not):
                yield "torch-arithmetic", "an operator on a tensor"
            return
        sides = (
            (node.left, node.right) if isinstance(node, ast.BinOp) else (node.target, node.value)
        )
        matrix = isinstance(node.op, ast.MatMult)
        if matrix or any(self.calls.is_tensor(source, side) for side in sides):
            yield "torch-arithmetic", f"operator {_OPERATORS.get(type(node.op), '')} on a tensor"

    def _subscript(self, source: Source, node: ast.Subscript) -> Iterator[Place]:
        if not self.calls.is_tensor(source, node.value):
            return
        if isinstance(node.ctx, ast.Store):
            yield "torch-arithmetic", "assignment into a tensor"
        elif any(self.calls.is_tensor(source, part) for part in ast.walk(node.slice)):
            yield "torch-arithmetic", "a tensor indexed by a tensor"


def _torch(target: str) -> Iterator[Place]:
    """What a dotted name of torch stands for in a call."""
    first, *rest = target.split(".")[1:]
    last = rest[-1] if rest else first
    if first == "utils" and rest[:1] == ["cpp_extension"]:
        yield "raw-cuda", target
    elif first in words.TORCH_DEVICES:
        if last in words.WAITS:
            yield "host-device", target
        elif last in words.GRAPHS:
            yield "cached-results", f"{target}: a graph replays what it recorded"
    elif first == "Tensor" and rest:
        if last in words.HOST_METHODS:
            yield "host-device", target
        elif last not in words.VIEWS | words.NO_TENSOR | words.POINTERS and not _harmless(last):
            yield "torch-arithmetic", target
    elif last in words.MAKES_FROM_HOST:
        yield "host-device", f"{target}, a copy from the host"
    elif first in words.TORCH_COMPUTES:
        if rest and last not in words.TORCH_COMPUTES:
            yield "torch-arithmetic", target
    elif not rest and last not in words.TORCH_FINE | words.DTYPES | words.TORCH_MODULES:
        yield "torch-arithmetic", target


def _harmless(name: str) -> bool:
    """Names that a tensor shares with everything, and comparisons of identity."""
    last = name.rpartition(".")[2]
    plain = last.startswith("__") and last not in words.DUNDERS
    return plain or last in ("attrgetter", "itemgetter", "methodcaller", "is_", "is_not", "index")


def _finding(source: Source, node: ast.AST, rule: str, what: str) -> Finding:
    line = getattr(node, "lineno", 0)
    if isinstance(node, ast.match_case):
        line = node.pattern.lineno
    return Finding(rule, source.path, line, what)
