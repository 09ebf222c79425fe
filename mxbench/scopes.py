"""Which binding a name in a Python file means: lexical scopes over a syntax tree. Runs nothing."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import Literal

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass(eq=False)
class Scope:
    """A module, class, function, lambda or comprehension, and the names it binds."""

    kind: Literal["module", "class", "function", "comprehension"]
    node: ast.AST
    parent: Scope | None = None
    bound: set[str] = field(default_factory=set)
    elsewhere: dict[str, Literal["global", "nonlocal"]] = field(default_factory=dict)
    """Names that a `global` or `nonlocal` statement sends to an outer scope."""

    def chain(self) -> list[Scope]:
        """This scope and those around it, innermost first."""
        found: list[Scope] = []
        scope: Scope | None = self
        while scope is not None:
            found.append(scope)
            scope = scope.parent
        return found

    def resolve(self, name: str) -> Scope | None:
        """The scope whose binding `name` means here; None for a builtin or an unknown name."""
        chain = self.chain()
        start = 0
        if self.elsewhere.get(name) == "global":
            start = len(chain) - 1
        elif self.elsewhere.get(name) == "nonlocal":
            start = 1
        for number, scope in enumerate(chain[start:], start):
            # A class body's names are not seen from the functions inside it.
            hidden = scope.kind == "class" and number > 0
            if not hidden and name in scope.bound and name not in scope.elsewhere:
                return scope
        return None


@dataclass
class Scopes:
    """The scopes of one file."""

    module: Scope
    of: dict[ast.AST, Scope]
    """For every node, the scope in which it is evaluated."""
    inside: dict[ast.AST, Scope]
    """For a function, class, lambda or comprehension, the scope that it opens."""

    def resolve(self, node: ast.Name) -> Scope | None:
        """The scope that binds a name node."""
        return self.of[node].resolve(node.id)


def analyse(tree: ast.Module) -> Scopes:
    """The scopes of a parsed file."""
    module = Scope("module", tree)
    builder = _Builder(Scopes(module, {tree: module}, {tree: module}))
    for statement in tree.body:
        builder.visit(statement, module)
    return builder.scopes


class _Builder:
    def __init__(self, scopes: Scopes) -> None:
        self.scopes = scopes

    def visit(self, node: ast.AST, scope: Scope) -> None:
        self.scopes.of[node] = scope
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            self._function(node, scope)
        elif isinstance(node, ast.ClassDef):
            scope.bound.add(node.name)
            inner = self._open("class", node, scope)
            for part in (*node.decorator_list, *node.bases, *node.keywords):
                self.visit(part, scope)
            for part in node.body:
                self.visit(part, inner)
        elif isinstance(node, _COMPREHENSIONS):
            self._comprehension(node, scope)
        elif isinstance(node, ast.NamedExpr):
            self.visit(node.value, scope)
            while scope.kind == "comprehension" and scope.parent is not None:
                scope = scope.parent  # it binds outside the comprehension
            self.visit(node.target, scope)
        else:
            self._bind(node, scope)
            for child in ast.iter_child_nodes(node):
                self.visit(child, scope)

    def _open(
        self,
        kind: Literal["class", "function", "comprehension"],
        node: ast.AST,
        parent: Scope,
    ) -> Scope:
        inner = self.scopes.inside[node] = Scope(kind, node, parent)
        return inner

    def _function(self, node: FunctionNode, scope: Scope) -> None:
        """Decorators, defaults and annotations belong to the scope around the function."""
        inner = self._open("function", node, scope)
        args = node.args
        every = [*args.posonlyargs, *args.args, *args.kwonlyargs]
        every += [extra for extra in (args.vararg, args.kwarg) if extra is not None]
        self.scopes.of[args] = scope
        for arg in every:
            inner.bound.add(arg.arg)
            self.scopes.of[arg] = inner
            if arg.annotation is not None:
                self.visit(arg.annotation, scope)
        for default in (*args.defaults, *(d for d in args.kw_defaults if d is not None)):
            self.visit(default, scope)
        if isinstance(node, ast.Lambda):
            self.visit(node.body, inner)
            return
        scope.bound.add(node.name)
        for decorator in node.decorator_list:
            self.visit(decorator, scope)
        if node.returns is not None:
            self.visit(node.returns, scope)
        for statement in node.body:
            self.visit(statement, inner)

    def _comprehension(
        self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp, scope: Scope
    ) -> None:
        """The first iterable belongs to the scope around, all else to one of its own."""
        inner = self._open("comprehension", node, scope)
        first = node.generators[0].iter
        self.visit(first, scope)
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, ast.comprehension):
                self.visit(child, inner)
        for generator in node.generators:
            self.scopes.of[generator] = inner
            for child in ast.iter_child_nodes(generator):
                if child is not first:
                    self.visit(child, inner)

    def _bind(self, node: ast.AST, scope: Scope) -> None:
        if isinstance(node, ast.Global | ast.Nonlocal):
            word: Literal["global", "nonlocal"] = (
                "global" if isinstance(node, ast.Global) else "nonlocal"
            )
            for name in node.names:
                scope.elsewhere[name] = word
                if word == "global":
                    self.scopes.module.bound.add(name)
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            scope.bound.add(node.id)
        elif isinstance(node, ast.Import):
            scope.bound.update((a.asname or a.name).partition(".")[0] for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            scope.bound.update(a.asname or a.name for a in node.names if a.name != "*")
        else:
            self._bind_pattern(node, scope)

    def _bind_pattern(self, node: ast.AST, scope: Scope) -> None:
        """`except ... as name` and the captures of a `match`."""
        if isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
            if node.name is not None:
                scope.bound.add(node.name)
        elif isinstance(node, ast.MatchMapping) and node.rest is not None:
            scope.bound.add(node.rest)
