"""Several Python modules that import each other relatively, made one file. Runs none of them.

The text of a top-level statement is kept as it stands, comments included; what changes are the
names in it, at the places the syntax tree gives: `_tile.absorb` becomes `absorb`, or
`tile_absorb` where `absorb` already means something else. Statements that the wanted functions
do not reach are left out.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from . import scopes
from .errors import MxbenchError


@dataclass(frozen=True)
class Symbol:
    """A top-level name of a module that is bundled."""

    module: str
    """Its path below the kernels folder without `.py`, such as `common/dialect`."""
    name: str


@dataclass(frozen=True)
class External:
    """A name that an import of another library binds."""

    statement: str
    """The import that binds it, and nothing else."""


@dataclass(frozen=True)
class ModuleAlias:
    """A name that stands for a bundled module."""

    module: str


Meaning = Symbol | External | ModuleAlias


@dataclass
class Part:
    """One or more top-level statements that share lines, and what belongs to them."""

    module: str
    nodes: list[ast.stmt]
    first: int
    """Line of the comments that precede them, from 0."""
    last: int
    """Line after them."""
    defines: set[str]
    refs: set[Symbol | External] = field(default_factory=set)


@dataclass(frozen=True)
class Edit:
    """A stretch of a module's source that is written otherwise."""

    line: int
    start: int
    end_line: int
    end: int
    """Lines from 0, columns in bytes."""
    meaning: Symbol | None
    """What stands there instead: the symbol's final name; None for an annotation in quotes."""
    node: ast.AST


@dataclass
class Module:
    """A file to bundle."""

    key: str
    path: Path
    lines: list[bytes]
    tree: ast.Module
    scopes: scopes.Scopes
    meanings: dict[str, Meaning]
    """What the names bound at its top level mean."""
    parts: list[Part] = field(default_factory=list)
    edits: list[Edit] = field(default_factory=list)
    quoted: bool = False
    """Whether `from __future__ import annotations` makes strings of its annotations."""

    def error(self, node: ast.AST, what: str) -> MxbenchError:
        line = getattr(node, "lineno", 1)
        return MxbenchError(
            f"{self.path.name}:{line}: {what}", "write it so that one file can hold it"
        )


@dataclass(frozen=True)
class Bundle:
    """The pieces of the one file."""

    imports: list[str]
    modules: list[tuple[str, str, str]]
    """(key, docstring, source) of each module of which something is left, leaves first."""
    names: dict[Symbol, str]
    """What each symbol that is kept is called."""


def bundle(
    entry: Path,
    home: Path,
    wanted: Iterable[str],
    also: Iterable[Symbol] = (),
    replaced: Mapping[Symbol, str] | None = None,
    reserved: Iterable[str] = (),
) -> Bundle:
    """All that the functions `wanted` of the module `entry` need.

    Args:
        home: the folder in which `entry`'s relative imports start, `kernels/<op>/`.
        also: further symbols to keep, if their module is among the imported ones.
        replaced: other sources for some definitions; they may refer to nothing of the modules.
        reserved: names that the bundled modules must leave free.

    Raises:
        MxbenchError: exit code 2; a construct that one file cannot hold, with file and line.
    """
    loaded = _Loader(home).load(entry)
    for module in loaded.values():
        _Reader(module, loaded, replaced or {}).read()
    top = list(loaded)[-1]
    roots: set[Symbol | External] = {_owner(loaded, Symbol(top, name)) for name in wanted}
    roots |= {symbol for symbol in also if symbol.module in loaded}
    kept = _reachable(loaded, roots)
    names = _final_names(loaded, kept, set(reserved))
    texts = [
        (key, ast.get_docstring(module.tree) or "", _text(module, kept, names, replaced or {}))
        for key, module in loaded.items()
    ]
    imports = {ref.statement for part in kept for ref in part.refs if isinstance(ref, External)}
    return Bundle(merged(imports), [t for t in texts if t[2]], names)


def merged(statements: Iterable[str]) -> list[str]:
    """Import statements in order, those from one module as one."""
    plain, by_module = set(), dict[str, set[str]]()
    for statement in statements:
        module, found, names = statement.removeprefix("from ").partition(" import ")
        if found:
            by_module.setdefault(module, set()).update(names.split(", "))
        else:
            plain.add(statement)
    return sorted(plain) + [
        f"from {module} import {', '.join(sorted(names))}"
        for module, names in sorted(by_module.items())
    ]


# --- loading ------------------------------------------------------------------------------------


class _Loader:
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


def _owner(loaded: Mapping[str, Module], symbol: Symbol) -> Symbol:
    """Where a symbol is defined, if its module has it from another one.

    Raises:
        MxbenchError: nowhere.
    """
    meaning = loaded[symbol.module].meanings.get(symbol.name)
    if isinstance(meaning, Symbol):
        return meaning if meaning == symbol else _owner(loaded, meaning)
    raise MxbenchError(f"{symbol.module}.py defines no {symbol.name}", "check the import")


# --- what refers to what ------------------------------------------------------------------------


class _Reader:
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
                symbol = _owner(self.loaded, Symbol(meaning.module, node.attr))
                part.refs.add(symbol)
                self._edit(node, symbol)
        elif isinstance(node, ast.Name):
            meaning = self._meaning(node)
            if isinstance(meaning, External):
                part.refs.add(meaning)
            elif isinstance(meaning, Symbol):
                symbol = _owner(self.loaded, meaning)
                part.refs.add(symbol)
                self._edit(node, symbol)
            elif isinstance(meaning, ModuleAlias) and id(node) not in self._bases:
                raise module.error(node, f"module {meaning.module} used as a value")
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


def _reachable(loaded: Mapping[str, Module], roots: set[Symbol | External]) -> list[Part]:
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


# --- names --------------------------------------------------------------------------------------


def _final_names(
    loaded: Mapping[str, Module], kept: list[Part], reserved: set[str]
) -> dict[Symbol, str]:
    """A name for every kept symbol: its own, or with its module's in front where that is taken.

    Raises:
        MxbenchError: two libraries under one name, or a name that stays taken either way.
    """
    taken = set(dir(builtins)) | reserved
    for name, statements in _external_names(loaded, kept).items():
        if len(statements) > 1:
            said = " and ".join(sorted(statements))
            raise MxbenchError(f"{name} means different things: {said}", "rename one of them")
        taken.add(name)
    shadows = _shadows(loaded)
    names: dict[Symbol, str] = {}
    for part in kept:
        for name in sorted(part.defines):
            symbol = Symbol(part.module, name)
            if symbol in names:
                continue
            stem = part.module.rpartition("/")[2].strip("_")
            for candidate in (name, f"{stem}_{name.lstrip('_')}"):
                if candidate not in taken and candidate not in shadows.get(symbol, set()):
                    break
            else:
                raise MxbenchError(
                    f"{part.module}.py: {name} has no name that is free in one file",
                    "rename it, or the local variable of the same name where it is used",
                )
            names[symbol] = candidate
            taken.add(candidate)
    return names


def _external_names(loaded: Mapping[str, Module], kept: list[Part]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    refs = {ref for part in kept for ref in part.refs}
    for module in loaded.values():
        for name, meaning in module.meanings.items():
            if isinstance(meaning, External) and meaning in refs:
                found.setdefault(name, set()).add(meaning.statement)
    return found


def _shadows(loaded: Mapping[str, Module]) -> dict[Symbol, set[str]]:
    """For each symbol, the local names in sight wherever it is referred to."""
    found: dict[Symbol, set[str]] = {}
    for module in loaded.values():
        for edit in module.edits:
            if edit.meaning is not None:
                chain = module.scopes.of[edit.node].chain()[:-1]
                near = set().union(*(scope.bound for scope in chain))
                found.setdefault(edit.meaning, set()).update(near)
    return found


# --- text ---------------------------------------------------------------------------------------


def _text(
    module: Module, kept: list[Part], names: Mapping[Symbol, str], replaced: Mapping[Symbol, str]
) -> str:
    pieces = []
    for part in module.parts:
        if not any(part is one for one in kept):
            continue
        for name in part.defines:
            if (symbol := Symbol(module.key, name)) in replaced:
                pieces.append("\n\n" + replaced[symbol].strip("\n"))
                break
        else:
            pieces.append(_part_text(module, part, names))
    return "\n".join(pieces).strip("\n")


def _part_text(module: Module, part: Part, names: Mapping[Symbol, str]) -> str:
    for node in ast.walk(ast.Module(body=part.nodes, type_ignores=[])):
        if isinstance(node, ast.Global):
            for name in node.names:
                if names.get(Symbol(module.key, name), name) != name:
                    raise module.error(node, f"a global statement on {name}, which is renamed here")
    mine = [e for e in module.edits if part.first <= e.line and e.end_line < part.last]
    lines = _edited(module.lines, mine, names)[part.first : part.last]
    return b"\n".join(line for line in lines if line is not None).decode()


def _edited(
    lines: list[bytes], edits: list[Edit], names: Mapping[Symbol, str]
) -> list[bytes | None]:
    """The lines with all edits applied; None for one that was joined to an earlier one."""
    hints = [edit for edit in edits if edit.meaning is None]
    inside = {id(node) for hint in hints for node in ast.walk(hint.node)} - {
        id(hint.node) for hint in hints
    }
    out: list[bytes | None] = list(lines)
    # From the end backwards, so that columns stay true.
    for edit in sorted(edits, key=lambda e: (e.line, e.start), reverse=True):
        if id(edit.node) in inside or (edit.meaning and any(edit.node is h.node for h in hints)):
            continue
        if edit.meaning is None:
            new = '"' + ast.unparse(edit.node).replace('"', "'") + '"'
        else:
            new = names[edit.meaning]
        head, tail = out[edit.line], out[edit.end_line]
        assert head is not None and tail is not None
        out[edit.line] = head[: edit.start] + new.encode() + tail[edit.end :]
        for between in range(edit.line + 1, edit.end_line + 1):
            out[between] = None
    return out
