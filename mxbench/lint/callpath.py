"""Which functions a call of the kernel may reach, and which of their names are tensors."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from ..ops import OPERATORS
from ..publicjudge.signature import MOE_DRAFT, SIGNATURES
from ..scopes import Scope
from . import words
from .sources import Definition, Function, Source, Sources

ENTRY = "run_kernel"
CONTRACTS = {n: spec for op in OPERATORS.values() for n, spec in op.contracts.items()}
DEVICE = ("prim_func", "macro")
"""Decorators under which TileLang reads a function instead of Python running it."""
_SAY_NOTHING = {"get", "items", "keys", "values", "append", "pop", "update", "add", "format"}


@dataclass(frozen=True)
class Region:
    """A stretch of code that a call may run: a function's body, or a module-level value."""

    source: Source
    node: ast.AST
    device: frozenset[ast.AST] = frozenset()
    """Functions to leave out."""

    def walk(self) -> Iterator[ast.AST]:
        """Its nodes, device code left out."""
        waiting: list[ast.AST] = [self.node]
        while waiting:
            node = waiting.pop()
            yield node
            for child in ast.iter_child_nodes(node):
                if child not in self.device:
                    waiting.append(child)


def device_code(sources: Sources, source: Source) -> set[ast.AST]:
    """The functions that TileLang compiles, so that Python runs nothing in them.

    Those under TileLang's own decorators: any but `jit`, and `jit` where a grid is opened.
    """
    found: set[ast.AST] = set()
    for node in ast.walk(source.tree):
        if not isinstance(node, Function):
            continue
        for decorator in node.decorator_list:
            inner = decorator.func if isinstance(decorator, ast.Call) else decorator
            for target in sources.targets(source, inner):
                if isinstance(target, str) and target.startswith(("tilelang.", "tvm.")):
                    name = target.rpartition(".")[2]
                    if name in DEVICE or ("jit" in name and _opens_grid(node)):
                        found.add(node)
    return found


def _opens_grid(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether `with T.Kernel(...)` stands in the function itself."""
    waiting: list[ast.AST] = list(node.body)
    while waiting:
        inner = waiting.pop()
        for item in inner.items if isinstance(inner, ast.With) else ():
            call = item.context_expr
            if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "Kernel":
                return True
        if not isinstance(inner, Function | ast.ClassDef | ast.Lambda):
            waiting += ast.iter_child_nodes(inner)
    return False


class CallPath:
    """All host code from the entry functions on, and the tensors in it."""

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self.entries = self._entries()
        self.device = frozenset(
            node for source in sources.files.values() for node in device_code(sources, source)
        )
        self.regions: list[Region] = []
        self.tensors: set[tuple[Scope, str]] = set()
        """Names that hold tensors."""
        self._classes = {
            d.node.name: d for d in sources.definitions() if isinstance(d.node, ast.ClassDef)
        }
        self._reach()
        self._find_tensors()

    def _region(self, source: Source, node: ast.AST) -> Region:
        return Region(source, node, self.device)

    def _entries(self) -> list[Definition]:
        names = {ENTRY, *CONTRACTS}
        entry = self.sources.entry
        found = [
            Definition(entry, node)
            for node in entry.tree.body
            if isinstance(node, Function) and node.name in names
        ]
        if not found:
            for binding in entry.bindings.get(entry.scopes.module, {}).get(ENTRY, []):
                if binding.node is not None:
                    targets = self.sources.targets(entry, binding.node)
                    found += [t for t in targets if isinstance(t, Definition)]
        return found

    # --- reachable code -------------------------------------------------------------------------

    def _reach(self) -> None:
        waiting: list[Region] = [self._region(d.source, d.node) for d in self.entries]
        seen: set[ast.AST] = set()
        while waiting:
            region = waiting.pop()
            if region.node in seen:
                continue
            seen.add(region.node)
            if region.node in self.device:
                continue
            self.regions.append(region)
            for node in region.walk():
                waiting += self._from(region.source, node)

    def _from(self, source: Source, node: ast.AST) -> list[Region]:
        """Code that may run because of this node."""
        found: list[Region] = []
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
            for target in self.sources.targets(source, node):
                if isinstance(target, Definition):
                    found.append(self._region(target.source, target.node))
            if isinstance(node, ast.Name):
                found += self._module_values(source, node)
            elif not found:
                found += self._methods(node.attr)
        return found

    def _module_values(self, source: Source, node: ast.Name) -> list[Region]:
        """A table that was assigned to a module-level name: what is in it may be called."""
        if source.scopes.resolve(node) is not source.scopes.module:
            return []
        values = [b.node for b in self.sources.bindings(source, node) if b.kind == "value"]
        return [
            self._region(source, v)
            for v in values
            if isinstance(v, ast.Dict | ast.List | ast.Tuple)
        ]

    def _methods(self, name: str) -> list[Region]:
        """Methods of that name, where it is not known what they are called on."""
        found = []
        for definition in self._classes.values():
            assert isinstance(definition.node, ast.ClassDef)
            for method in definition.node.body:
                if isinstance(method, Function) and method.name == name:
                    found.append(self._region(definition.source, method))
        return found

    # --- tensors --------------------------------------------------------------------------------

    def _find_tensors(self) -> None:
        for definition in self.entries:
            for name in self._tensor_parameters(definition):
                self._mark(definition, name)
        before = -1
        while before != len(self.tensors):
            before = len(self.tensors)
            for region in self.regions:
                for node in region.walk():
                    self._spread(region.source, node)

    def _tensor_parameters(self, definition: Definition) -> list[str]:
        node = definition.node
        assert isinstance(node, Function)
        names = [a.arg for a in (*node.args.posonlyargs, *node.args.args)]
        spec = CONTRACTS.get(node.name)
        if spec is not None:
            return [name for name in spec.tensors if name in names]
        for signature in (*SIGNATURES.values(), MOE_DRAFT):
            if len(signature.arguments) == len(names):
                given = dict(zip(signature.arguments, names, strict=True))
                return [given[n] for n in (*signature.tensors.values(), *signature.unused)]
        return []

    def _mark(self, definition: Definition, name: str) -> None:
        self.tensors.add((definition.source.scopes.inside[definition.node], name))

    def _spread(self, source: Source, node: ast.AST) -> None:
        if isinstance(node, ast.Attribute) and node.attr in words.TELLS_TENSOR:
            if isinstance(node.value, ast.Name) and not self.sources.targets(source, node.value):
                self._mark_name(source, node.value)
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                self._assign(source, target, node.value)
        elif isinstance(node, ast.AnnAssign | ast.NamedExpr | ast.AugAssign):
            if node.value is not None:
                self._assign(source, node.target, node.value)
        elif isinstance(node, ast.For | ast.comprehension):
            if self._iterates_tensors(source, node.iter) and isinstance(node.target, ast.Name):
                self._mark_name(source, node.target)
        elif isinstance(node, ast.Call):
            self._pass_on(source, node)

    def _iterates_tensors(self, source: Source, node: ast.expr) -> bool:
        """Whether a loop's items are tensors: rows of one, or a display of some."""
        if isinstance(node, ast.Tuple | ast.List):
            return any(self.is_tensor(source, part) for part in node.elts)
        return self.is_tensor(source, node)

    def _mark_name(self, source: Source, node: ast.Name) -> None:
        scope = source.scopes.resolve(node)
        if scope is not None:
            self.tensors.add((scope, node.id))

    def _assign(self, source: Source, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Name):
            if self.is_tensor(source, value):
                self._mark_name(source, target)
        elif isinstance(target, ast.Tuple | ast.List) and isinstance(value, ast.Tuple | ast.List):
            for one, other in zip(target.elts, value.elts, strict=False):
                self._assign(source, one, other)

    def _pass_on(self, source: Source, call: ast.Call) -> None:
        """Tensors among a call's arguments are tensors among the function's parameters."""
        for target in self.sources.targets(source, call.func):
            if not isinstance(target, Definition):
                continue
            if isinstance(target.node, ast.ClassDef):
                for method in target.node.body:
                    if isinstance(method, Function) and method.name in ("__init__", "__call__"):
                        self._pass_to(source, call, Definition(target.source, method), True)
            elif target.node not in self.device:
                bound = isinstance(call.func, ast.Attribute)
                self._pass_to(source, call, target, bound)

    def _pass_to(self, source: Source, call: ast.Call, target: Definition, bound: bool) -> None:
        assert not isinstance(target.node, ast.ClassDef)
        args = target.node.args
        names = [a.arg for a in (*args.posonlyargs, *args.args)]
        if bound and names[:1] in (["self"], ["cls"]):
            names = names[1:]
        for name, value in zip(names, call.args, strict=False):
            if self.is_tensor(source, value):
                self._mark(target, name)
        for keyword in call.keywords:
            if keyword.arg and self.is_tensor(source, keyword.value):
                self._mark(target, keyword.arg)

    def is_tensor(self, source: Source, node: ast.AST) -> bool:
        """Whether an expression is known to be a tensor."""
        if isinstance(node, ast.Name):
            scope = source.scopes.resolve(node)
            return scope is not None and (scope, node.id) in self.tensors
        if isinstance(node, ast.Attribute):
            return node.attr in ("T", "mT", "data", "H", "mH") and self.is_tensor(
                source, node.value
            )
        if isinstance(node, ast.Subscript):
            return self.is_tensor(source, node.value)
        if isinstance(node, ast.BinOp):
            return self.is_tensor(source, node.left) or self.is_tensor(source, node.right)
        if isinstance(node, ast.UnaryOp):
            return self.is_tensor(source, node.operand)
        if isinstance(node, ast.IfExp):
            return self.is_tensor(source, node.body) or self.is_tensor(source, node.orelse)
        if isinstance(node, ast.NamedExpr):
            return self.is_tensor(source, node.value)
        if isinstance(node, ast.Compare):
            elementwise = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq)
            sides = (node.left, *node.comparators)
            return all(isinstance(op, elementwise) for op in node.ops) and any(
                self.is_tensor(source, side) for side in sides
            )
        return isinstance(node, ast.Call) and self._gives_tensor(source, node)

    def _gives_tensor(self, source: Source, call: ast.Call) -> bool:
        for target in self.sources.targets(source, call.func):
            if isinstance(target, str) and target.startswith("torch."):
                last = target.rpartition(".")[2]
                plain = words.TORCH_FINE - words.ALLOCATE | words.DTYPES | words.CUDA_FINE
                return last not in plain
        function = call.func
        return (
            isinstance(function, ast.Attribute)
            and function.attr not in words.NO_TENSOR | words.POINTERS | {"item", "tolist"}
            and self.is_tensor(source, function.value)
        )
