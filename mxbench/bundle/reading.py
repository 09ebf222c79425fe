"""What refers to what: a module's parts, their references, and the places to rewrite."""

from __future__ import annotations

import ast
from collections.abc import Mapping

from .loading import owner
from .parts import NAMESPACE, Edit, External, Meaning, Module, ModuleAlias, Part, Symbol


class Reader:
    """Finds a module's parts, their references, and the places to rewrite."""

    def __init__(
        self, module: Module, loaded: Mapping[str, Module], replaced: Mapping[Symbol, str]
    ) -> None:
        self.module, self.loaded, self.replaced = module, loaded, replaced
        attributes = (n for n in ast.walk(module.tree) if isinstance(n, ast.Attribute))
        self._bases = {id(attribute.value) for attribute in attributes}

    def read(self) -> None:
        module = self.module
        self._split()
        for part in module.parts:
            names = {Symbol(module.key, name) for name in part.defines}
            if names & self.replaced.keys():
                continue
            for statement in part.nodes:
                for node in ast.walk(statement):
                    self._look(part, node)

    def _split(self) -> None:
        module = self.module
        end = 0
        for number, node in enumerate(module.tree.body):
            decorators = getattr(node, "decorator_list", [])
            first = min([node.lineno, *(d.lineno for d in decorators)]) - 1
            last = node.end_lineno or node.lineno
            skipped = isinstance(node, ast.Import | ast.ImportFrom) or (
                number == 0 and ast.get_docstring(module.tree) is not None
            )
            if skipped:
                end = max(end, last)
                continue
            defines = {
                name.id
                for name in ast.walk(node)
                if isinstance(name, ast.Name)
                and not isinstance(name.ctx, ast.Load)
                and module.scopes.of[name] is module.scopes.module
            }
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                defines.add(node.name)
            defines |= _defined_in_branches(node)
            comment = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            if module.parts and (comment or first < module.parts[-1].last):
                part = module.parts[-1]  # a description of what stands above, or the same line
                part.nodes.append(node)
                part.last = last
                part.defines |= defines
            else:
                module.parts.append(Part(module.key, [node], end, last, defines))
            end = last

    def _look(self, part: Part, node: ast.AST) -> None:
        module = self.module
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            meaning = self._meaning(node.value)
            if isinstance(meaning, ModuleAlias):
                symbol = owner(self.loaded, Symbol(meaning.module, node.attr))
                part.refs.add(symbol)
                self._edit(node, symbol)
        elif isinstance(node, ast.Name):
            meaning = self._meaning(node)
            if isinstance(meaning, External):
                part.refs.add(meaning)
            elif isinstance(meaning, Symbol):
                symbol = owner(self.loaded, meaning)
                part.refs.add(symbol)
                self._edit(node, symbol)
            elif isinstance(meaning, ModuleAlias) and id(node) not in self._bases:
                symbol = _namespace(self.loaded[meaning.module])
                part.refs.add(symbol)
                self._edit(node, symbol)
        elif (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            and node in part.nodes
        ):
            part.refs.add(Symbol(module.key, node.name))
            self._edit_name(node)
        if module.quoted:
            self._quote(node)

    def _meaning(self, node: ast.Name) -> Meaning | None:
        """What a name at the top level means; None for a local or a builtin one."""
        if self.module.scopes.resolve(node) is not self.module.scopes.module:
            return None
        return self.module.meanings.get(node.id)

    def _quote(self, node: ast.AST) -> None:
        """Annotations that nobody evaluated in their own module may name what comes later."""
        hints: list[ast.expr | None] = []
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            hints.append(node.returns)
        elif isinstance(node, ast.arg | ast.AnnAssign):
            hints.append(node.annotation)
        for hint in hints:
            names = [] if hint is None else [n for n in ast.walk(hint) if isinstance(n, ast.Name)]
            if hint is not None and any(isinstance(self._meaning(n), Symbol) for n in names):
                self._edit(hint, None)

    def _edit_name(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        """The name in `def name(` or `class name:`, of which the tree tells no place."""
        line = self.module.lines[node.lineno - 1]
        name = node.name.encode()
        start = line.index(name, node.col_offset + len(b"def "))
        place = node.lineno - 1, start, node.lineno - 1, start + len(name)
        self.module.edits.append(Edit(*place, Symbol(self.module.key, node.name), node))

    def _edit(self, node: ast.expr, meaning: Symbol | None) -> None:
        assert node.end_lineno is not None and node.end_col_offset is not None
        place = node.lineno - 1, node.col_offset, node.end_lineno - 1, node.end_col_offset
        self.module.edits.append(Edit(*place, meaning, node))


def _namespace(module: Module) -> Symbol:
    """The symbol of a module that is used as a value: at its end stands an object like it."""
    symbol = Symbol(module.key, NAMESPACE)
    if not any(NAMESPACE in part.defines for part in module.parts):
        end = len(module.lines)
        part = Part(module.key, [], end, end, {NAMESPACE})
        part.refs |= {Symbol(module.key, n) for one in module.parts for n in one.defines}
        part.refs.add(External("from types import SimpleNamespace"))
        module.parts.append(part)
    return symbol


def _defined_in_branches(node: ast.stmt) -> set[str]:
    """Functions and classes that an `if` or `try` at the top level defines."""
    found = set()
    waiting: list[ast.AST] = [node]
    while waiting:
        for child in ast.iter_child_nodes(waiting.pop()):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                if isinstance(node, ast.If | ast.Try | ast.With | ast.For | ast.While):
                    found.add(child.name)
            elif isinstance(child, ast.stmt | ast.ExceptHandler):
                waiting.append(child)
    return found


def reachable(loaded: Mapping[str, Module], roots: set[Symbol | External]) -> list[Part]:
    """The parts that define what is wanted, and what those need; and all that define nothing."""
    parts = [part for module in loaded.values() for part in module.parts]
    makers: dict[Symbol | External, list[Part]] = {}
    for part in parts:
        for name in part.defines:
            makers.setdefault(Symbol(part.module, name), []).append(part)
    kept: list[Part] = []
    waiting = list(roots) + [ref for part in parts if not part.defines for ref in part.refs]
    seen: set[Symbol | External] = set(waiting)
    while waiting:
        for part in makers.get(waiting.pop(), []):
            if part not in kept:
                kept.append(part)
                waiting += part.refs - seen
                seen |= part.refs
    return [part for part in parts if not part.defines or any(part is one for one in kept)]
