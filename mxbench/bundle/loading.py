"""Finds the modules to bundle, those that others need first."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path

from .. import scopes
from ..errors import MxbenchError
from .parts import External, Module, ModuleAlias, Symbol


class Loader:
    """Finds the modules, those that others need first."""

    def __init__(self, home: Path) -> None:
        self.home, self.top = home, home.parent
        self.found: dict[str, Module] = {}
        self._open: list[str] = []

    def load(self, entry: Path) -> dict[str, Module]:
        self._add(f"{self.home.name}/{entry.stem}", entry)
        return self.found

    def _add(self, key: str, path: Path) -> None:
        if key in self.found:
            return
        if key in self._open:
            circle = " -> ".join([*self._open[self._open.index(key) :], key])
            raise MxbenchError(f"modules import each other in a circle: {circle}", "break it up")
        self._open.append(key)
        try:
            source = path.read_text(encoding="utf-8")
            tree = ast.parse(source, filename=str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise MxbenchError(f"cannot read {path}: {error}") from error
        except SyntaxError as error:
            raise MxbenchError(f"{path.name}:{error.lineno}: {error.msg}") from error
        lines = [line.encode() for line in source.splitlines()]
        module = Module(key, path, lines, tree, scopes.analyse(tree), {})
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom | ast.Import):
                self._import(module, node)
        for name in module.scopes.module.bound:
            module.meanings.setdefault(name, Symbol(key, name))
        self._open.pop()
        self.found[key] = module

    def _import(self, module: Module, node: ast.Import | ast.ImportFrom) -> None:
        top_level = node in module.tree.body
        if isinstance(node, ast.ImportFrom) and node.level:
            if not top_level:
                raise module.error(node, "a relative import inside a function or a branch")
            self._relative(module, node)
        elif isinstance(node, ast.ImportFrom) and node.module == "__future__":
            module.quoted |= any(alias.name == "annotations" for alias in node.names)
        elif top_level:
            for alias in node.names:
                if alias.name == "*":
                    raise module.error(node, f"a star import of {node.module}")  # type: ignore[union-attr]  # `import *` has a from
                name = alias.asname or alias.name.partition(".")[0]
                module.meanings[name] = External(_statement(node, alias))

    def _relative(self, module: Module, node: ast.ImportFrom) -> None:
        if node.level > 2:
            raise module.error(node, f"an import from {'.' * node.level}, above the kernels folder")
        base = module.key.rpartition("/")[0] if node.level == 1 else ""
        inner = "/".join(filter(None, [base, (node.module or "").replace(".", "/")]))
        whole = self._file(inner)
        for alias in node.names:
            name = alias.asname or alias.name
            if alias.name == "*":
                raise module.error(node, "a relative star import")
            if whole is not None:
                self._add(inner, whole)
                module.meanings[name] = Symbol(inner, alias.name)
                continue
            key = "/".join(filter(None, [inner, alias.name]))
            path = self._file(key)
            if path is None:
                raise module.error(node, f"there is no module {key}.py in the kernels folder")
            self._add(key, path)
            module.meanings[name] = ModuleAlias(key)

    def _file(self, key: str) -> Path | None:
        path = self.top / f"{key}.py"
        return path if key and path.is_file() else None


def _statement(node: ast.Import | ast.ImportFrom, alias: ast.alias) -> str:
    what = f"{alias.name} as {alias.asname}" if alias.asname else alias.name
    if isinstance(node, ast.ImportFrom):
        return f"from {node.module} import {what}"
    return f"import {what}"


def owner(loaded: Mapping[str, Module], symbol: Symbol) -> Symbol:
    """Where a symbol is defined, if its module has it from another one.

    Raises:
        MxbenchError: nowhere.
    """
    meaning = loaded[symbol.module].meanings.get(symbol.name)
    if isinstance(meaning, Symbol):
        return meaning if meaning == symbol else owner(loaded, meaning)
    raise MxbenchError(f"{symbol.module}.py defines no {symbol.name}", "check the import")
