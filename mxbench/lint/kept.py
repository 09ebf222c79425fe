"""What a call leaves behind for the next one: tensors in module state, caches, graphs."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from .callpath import CallPath, Region
from .sources import Definition, Function, Source, Sources

CACHES = ("functools.lru_cache", "functools.cache", "functools.cached_property")
STORES = ("append", "add", "setdefault", "update", "insert", "extend", "appendleft", "put", "push",
          "__setitem__")  # fmt: skip
"""Methods that put an argument into what they are called on."""
IDENTITIES = ("builtins.id", "builtins.hash", "weakref.ref")

Place = tuple[str, str]


class Kept:
    """Finds tensors that outlive their call."""

    def __init__(self, sources: Sources, calls: CallPath) -> None:
        self.sources, self.calls = sources, calls

    def places(self, region: Region, node: ast.AST) -> Iterator[Place]:
        """Findings at one node of the call path."""
        source = region.source
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.NamedExpr):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if node.value is not None and self._holds_tensor(source, node.value):
                for target in targets:
                    yield from self._stored(source, target)
        elif isinstance(node, ast.Call):
            yield from self._call(source, node)
        elif isinstance(node, Function):
            yield from self._defaults(source, node)

    def _stored(self, source: Source, target: ast.expr) -> Iterator[Place]:
        """A tensor assigned to something that is still there after the call."""
        if isinstance(target, ast.Tuple | ast.List):
            for part in target.elts:
                yield from self._stored(source, part)
            return
        where = self._outlives(source, target)
        if where:
            yield "cached-results", f"a tensor is kept in {where}"

    def _outlives(self, source: Source, target: ast.expr) -> str:
        """What keeps an assignment's target beyond the call, in words; empty if nothing does."""
        root: ast.expr = target
        while isinstance(root, ast.Attribute | ast.Subscript | ast.Call):
            root = root.func if isinstance(root, ast.Call) else root.value
        if not isinstance(root, ast.Name):
            return ""
        scope = source.scopes.resolve(root)
        if root is target:
            here = source.scopes.of[target]
            if scope is not None and scope is not here and root.id in here.elsewhere:
                return f"{root.id} ({here.elsewhere[root.id]})"
            return ""
        if self.calls.is_tensor(source, root):
            return ""  # into a tensor, which another rule speaks of
        if scope is source.scopes.module:
            return f"{root.id}, which outlives the call"
        if root.id in ("self", "cls"):
            return f"an attribute of {root.id}"
        if scope is not None and isinstance(scope.node, Function):
            if scope is not source.scopes.of[target] and scope.kind == "function":
                return f"{root.id} of the function around"
            if root.id in _mutable_defaults(scope.node):
                return f"the default value of {root.id}"
            return self._alias(source, root)
        return ""

    def _alias(self, source: Source, name: ast.Name) -> str:
        """A local name for module state, such as `cache = _CACHE`."""
        for binding in self.sources.bindings(source, name):
            value = binding.node
            while isinstance(value, ast.Attribute | ast.Subscript | ast.Call):
                value = value.func if isinstance(value, ast.Call) else value.value
            if isinstance(value, ast.Name) and value.id != name.id:
                scope = source.scopes.resolve(value)
                fresh = isinstance(binding.node, ast.Call)
                if scope is source.scopes.module and not fresh:
                    return f"{value.id}, which outlives the call"
        return ""

    def _holds_tensor(self, source: Source, value: ast.expr) -> bool:
        if self.calls.is_tensor(source, value):
            return True
        if isinstance(value, ast.Tuple | ast.List | ast.Set):
            return any(self._holds_tensor(source, part) for part in value.elts)
        if isinstance(value, ast.Dict):
            return any(self._holds_tensor(source, part) for part in value.values)
        if isinstance(value, ast.Lambda):
            names = (n for n in ast.walk(value.body) if isinstance(n, ast.Name))
            return any(
                self.calls.is_tensor(source, n)
                and source.scopes.resolve(n) is not source.scopes.inside[value]
                for n in names
            )
        return False

    def _call(self, source: Source, node: ast.Call) -> Iterator[Place]:
        functions = self.sources.targets(source, node.func)
        takes = any(self.calls.is_tensor(source, arg) for arg in node.args)
        if takes and functions & set(IDENTITIES):
            yield "cached-results", "a tensor's identity, which tells a call from another"
        holds = any(self._holds_tensor(source, arg) for arg in node.args)
        if holds and isinstance(node.func, ast.Attribute) and node.func.attr in STORES:
            where = self._outlives(source, node.func)
            if where:
                yield "cached-results", f"a tensor is kept in {where}"
        if holds and functions & {"builtins.setattr"}:
            yield "cached-results", "a tensor is kept by setattr"
        if takes and "builtins.globals" in self._called_inside(source, node.func):
            yield "cached-results", "a tensor is kept in globals()"
        for target in functions:
            if takes and isinstance(target, Definition) and self._is_cached(target):
                name = getattr(target.node, "name", "a lambda")
                yield "cached-results", f"{name} remembers what it was called with"

    def _called_inside(self, source: Source, node: ast.expr) -> set[object]:
        calls = (n for n in ast.walk(node) if isinstance(n, ast.Call))
        return {t for call in calls for t in self.sources.targets(source, call.func)}

    def _is_cached(self, definition: Definition) -> bool:
        for decorator in getattr(definition.node, "decorator_list", []):
            inner = decorator.func if isinstance(decorator, ast.Call) else decorator
            if self.sources.targets(definition.source, inner) & set(CACHES):
                return True
        return False

    def _defaults(
        self, source: Source, node: ast.FunctionDef | ast.AsyncFunctionDef
    ) -> Iterator[Place]:
        """A cached function that gives out a tensor gives the same one to every call."""
        if not self._is_cached(Definition(source, node)):
            return
        for part in ast.walk(node):
            value = part.value if isinstance(part, ast.Return) else None
            if value is not None and self._holds_tensor(source, value):
                yield "cached-results", f"{node.name} gives every call the same tensor"


def _mutable_defaults(node: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """Parameters whose default is one object for all calls."""
    args = node.args
    plain = [*args.posonlyargs, *args.args]
    pairs = list(zip(plain[len(plain) - len(args.defaults) :], args.defaults, strict=True))
    pairs += [(a, d) for a, d in zip(args.kwonlyargs, args.kw_defaults, strict=True) if d]
    return {a.arg for a, d in pairs if not isinstance(d, ast.Constant)}
