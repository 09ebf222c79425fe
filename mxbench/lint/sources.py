"""The files of a kernel, and what their names mean, as far as reading tells. Runs nothing."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ..errors import MxbenchError
from ..scopes import Scope, Scopes, analyse
from .constants import DEEPEST, text

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(eq=False)
class Source:
    """One file."""

    key: str
    """Its place below the kernels folder without `.py`, or its name."""
    path: Path
    tree: ast.Module
    text: str
    scopes: Scopes
    bindings: dict[Scope, dict[str, list[Binding]]] = field(default_factory=dict)
    stars: list[str] = field(default_factory=list)
    """Modules that are star-imported."""

    @cached_property
    def described(self) -> set[int]:
        """Ids of the strings that stand alone as a statement: they describe something."""
        return {id(n.value) for n in ast.walk(self.tree) if isinstance(n, ast.Expr)}


@dataclass(frozen=True)
class Binding:
    """One way in which a name gets its value."""

    kind: str
    """`path`: a dotted name of a library. `module`: a file here. `from`: a name of a file here.
    `def`: a function or class. `value`: an expression. `item`: a part of an expression's value.
    `other`: a parameter, a loop variable."""
    text: str = ""
    node: ast.AST | None = None


@dataclass(frozen=True)
class Definition:
    """A function, class or lambda of one of the files."""

    source: Source
    node: Function | ast.ClassDef | ast.Lambda


Target = str | Definition
"""What an expression may stand for: a library's dotted name, or a definition here."""


class Sources:
    """A kernel's file and those of its folder that it imports."""

    def __init__(self, entry: Path, home: Path | None = None) -> None:
        self.home = home or entry.parent
        self.files: dict[str, Source] = {}
        self.entry = self._load(entry.stem if home is None else f"{home.name}/{entry.stem}", entry)

    def _load(self, key: str, path: Path) -> Source:
        if key in self.files:
            return self.files[key]
        try:
            text = path.read_text(encoding="utf-8-sig")
            tree = ast.parse(text, filename=str(path))
        except SyntaxError as error:
            raise MxbenchError(
                f"{path.name}:{error.lineno}: {error.msg}", "fix the syntax error"
            ) from error
        except (OSError, UnicodeDecodeError, ValueError) as error:
            raise MxbenchError(f"cannot read {path}: {error}") from error
        source = Source(key, path, tree, text, analyse(tree))
        self.files[key] = source
        for node in ast.walk(tree):
            self._bind(source, node)
        return source

    # --- bindings -------------------------------------------------------------------------------

    def _add(self, source: Source, node: ast.AST, name: str, binding: Binding) -> None:
        scope = source.scopes.of[node].resolve(name) or source.scopes.of[node]
        source.bindings.setdefault(scope, {}).setdefault(name, []).append(binding)

    def _bind(self, source: Source, node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.asname or alias.name.partition(".")[0]
                path = alias.name if alias.asname else name
                self._add(source, node, name, Binding("path", path))
        elif isinstance(node, ast.ImportFrom):
            self._bind_from(source, node)
        elif isinstance(node, Function | ast.ClassDef):
            self._add(source, node, node.name, Binding("def", node=node))
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                self._bind_target(source, target, node.value)
        elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value is not None:
            self._bind_target(source, node.target, node.value)
        elif isinstance(node, ast.For | ast.AsyncFor | ast.comprehension):
            self._bind_target(source, node.target, node.iter, item=True)
        elif isinstance(node, ast.withitem) and node.optional_vars is not None:
            self._bind_target(source, node.optional_vars, node.context_expr)

    def _bind_from(self, source: Source, node: ast.ImportFrom) -> None:
        for alias in node.names:
            name = alias.asname or alias.name
            if not node.level:
                if alias.name == "*":
                    source.stars.append(node.module or "")
                else:
                    self._add(source, node, name, Binding("path", f"{node.module}.{alias.name}"))
                continue
            base = source.key.rpartition("/")[0] if node.level == 1 else ""
            inner = "/".join(filter(None, [base, (node.module or "").replace(".", "/")]))
            if self._file(inner) is not None:
                self._load(inner, self.home.parent / f"{inner}.py")
                self._add(source, node, name, Binding("from", f"{inner}:{alias.name}"))
            elif self._file(key := "/".join(filter(None, [inner, alias.name]))) is not None:
                self._load(key, self.home.parent / f"{key}.py")
                self._add(source, node, name, Binding("module", key))
            else:
                raise MxbenchError(
                    f"{source.path.name}:{node.lineno}: no module for {'.' * node.level}"
                    f"{node.module or ''} {alias.name} in the kernels folder",
                    "lint a kernel where its imports lead somewhere, or one whole file",
                )

    def _file(self, key: str) -> Path | None:
        path = self.home.parent / f"{key}.py"
        return path if key and path.is_file() else None

    def _bind_target(
        self, source: Source, target: ast.expr, value: ast.expr, item: bool = False
    ) -> None:
        if isinstance(target, ast.Name):
            kind = "item" if item else "value"
            self._add(source, target, target.id, Binding(kind, node=value))
        elif isinstance(target, ast.Tuple | ast.List):
            parts = value.elts if isinstance(value, ast.Tuple | ast.List) and not item else None
            for number, part in enumerate(target.elts):
                if parts is not None and len(parts) == len(target.elts):
                    self._bind_target(source, part, parts[number])
                else:
                    self._bind_target(source, part, value, item=True)

    # --- meanings -------------------------------------------------------------------------------

    def bindings(self, source: Source, node: ast.Name) -> list[Binding]:
        """How a name gets its value; empty for a builtin or a parameter."""
        scope = source.scopes.resolve(node)
        return source.bindings.get(scope, {}).get(node.id, []) if scope is not None else []

    def targets(self, source: Source, node: ast.AST, depth: int = 0) -> set[Target]:
        """What an expression may stand for."""
        if depth > DEEPEST:
            return set()
        if isinstance(node, ast.Name):
            return self._name_targets(source, node, depth)
        if isinstance(node, ast.Attribute):
            return self._attribute(source, node.value, node.attr, depth)
        if isinstance(node, ast.Call):
            return self._call_targets(source, node, depth)
        if isinstance(node, ast.Subscript):
            return self._subscript(source, node, depth)
        if isinstance(node, ast.IfExp):
            either = (node.body, node.orelse)
            return set().union(*(self.targets(source, n, depth + 1) for n in either))
        if isinstance(node, ast.BoolOp):
            return set().union(*(self.targets(source, n, depth + 1) for n in node.values))
        if isinstance(node, ast.Lambda):
            return {Definition(source, node)}
        if isinstance(node, ast.NamedExpr | ast.Starred):
            return self.targets(source, node.value, depth + 1)
        return set()

    def _name_targets(self, source: Source, node: ast.Name, depth: int) -> set[Target]:
        scope = source.scopes.resolve(node)
        if scope is None:
            if hasattr(builtins, node.id):
                return {f"builtins.{node.id}"}
            return {f"{module}.{node.id}" for module in source.stars}
        found: set[Target] = set()
        for binding in self.bindings(source, node):
            found |= self._binding(source, binding, depth)
        return found

    def _binding(self, source: Source, binding: Binding, depth: int) -> set[Target]:
        if binding.kind == "path":
            return {binding.text}
        if binding.kind == "module":
            return {f"file:{binding.text}"}
        if binding.kind == "from":
            key, _, name = binding.text.partition(":")
            return self._member(key, name, depth)
        if binding.kind == "def" and isinstance(binding.node, Function | ast.ClassDef):
            return {Definition(source, binding.node)}
        if binding.kind == "value" and binding.node is not None:
            return self.targets(source, binding.node, depth + 1)
        if binding.kind == "item" and binding.node is not None:
            return self._parts(source, binding.node, depth + 1)
        return set()

    def _parts(self, source: Source, node: ast.AST, depth: int) -> set[Target]:
        """What the items of a display may stand for."""
        if depth > DEEPEST:
            return set()
        if isinstance(node, ast.Dict):
            return set().union(*(self.targets(source, v, depth + 1) for v in node.values), set())
        if isinstance(node, ast.Tuple | ast.List | ast.Set):
            return set().union(*(self.targets(source, v, depth + 1) for v in node.elts), set())
        if isinstance(node, ast.Name):
            values = [b.node for b in self.bindings(source, node) if b.kind == "value" and b.node]
            return set().union(*(self._parts(source, v, depth + 1) for v in values), set())
        return set()

    def _member(self, key: str, name: str, depth: int) -> set[Target]:
        other = self.files[key]
        found: set[Target] = set()
        for binding in other.bindings.get(other.scopes.module, {}).get(name, []):
            found |= self._binding(other, binding, depth + 1)
        return found

    def _attribute(self, source: Source, value: ast.AST, name: str, depth: int) -> set[Target]:
        found: set[Target] = set()
        for target in self.targets(source, value, depth + 1):
            if isinstance(target, str) and target.startswith("file:"):
                found |= self._member(target.removeprefix("file:"), name, depth)
            elif isinstance(target, str):
                found.add(f"{target}.{name}")
            elif isinstance(target.node, ast.ClassDef):
                found |= {
                    Definition(target.source, n)
                    for n in target.node.body
                    if isinstance(n, Function) and n.name == name
                }
        return found

    def _call_targets(self, source: Source, node: ast.Call, depth: int) -> set[Target]:
        """What calls of looking-up functions give: getattr, import_module, partial, vars."""
        found: set[Target] = set()
        for function in self.targets(source, node.func, depth + 1):
            if isinstance(function, Definition) and isinstance(function.node, ast.ClassDef):
                found.add(function)  # an instance, of which the class tells the methods
            elif isinstance(function, Definition):
                found |= self._returned(function, depth)
            elif function == "builtins.getattr" and len(node.args) >= 2:
                name = text(self, source, node.args[1])
                if name is not None:
                    found |= self._attribute(source, node.args[0], name, depth)
            elif function in ("importlib.import_module", "builtins.__import__") and node.args:
                name = text(self, source, node.args[0])
                if name is not None:
                    whole = function == "importlib.import_module"
                    found.add(name if whole else name.partition(".")[0])
            elif function == "functools.partial" and node.args:
                found |= self.targets(source, node.args[0], depth + 1)
            elif function == "builtins.vars" and node.args:
                base = self.targets(source, node.args[0], depth + 1)
                found |= {f"{t}.__dict__" for t in base if isinstance(t, str)}
        return found

    def _returned(self, function: Definition, depth: int) -> set[Target]:
        """What a function here may return: a closure, say."""
        found: set[Target] = set()
        if isinstance(function.node, ast.Lambda):
            return self.targets(function.source, function.node.body, depth + 1)
        waiting: list[ast.AST] = list(function.node.body)
        while waiting:
            node = waiting.pop()
            if isinstance(node, ast.Return) and node.value is not None:
                found |= self.targets(function.source, node.value, depth + 1)
            elif not isinstance(node, Function | ast.ClassDef | ast.Lambda):
                waiting += ast.iter_child_nodes(node)
        return found

    def _subscript(self, source: Source, node: ast.Subscript, depth: int) -> set[Target]:
        found: set[Target] = set()
        name = text(self, source, node.slice)
        for target in self.targets(source, node.value, depth + 1):
            if isinstance(target, str) and name is not None:
                if target.endswith(".__dict__"):
                    found.add(f"{target.removesuffix('.__dict__')}.{name}")
                elif target == "sys.modules":
                    found.add(name)
        if isinstance(node.value, ast.Call) and name is not None:
            calls = self.targets(source, node.value.func, depth + 1)
            if "builtins.globals" in calls:
                found |= self._member(source.key, name, depth)
        return found | self._parts(source, node.value, depth + 1)

    def definitions(self) -> Iterator[Definition]:
        """All functions and classes of all files."""
        for source in self.files.values():
            for node in ast.walk(source.tree):
                if isinstance(node, Function | ast.ClassDef):
                    yield Definition(source, node)
