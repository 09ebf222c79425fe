"""The names that symbols get in the one file, and the text with those names in it."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Mapping

from ..errors import MxbenchError
from .parts import NAMESPACE, Edit, External, Module, Part, Symbol


def final_names(
    loaded: Mapping[str, Module], kept: list[Part], reserved: set[str]
) -> dict[Symbol, str]:
    """A name for every kept symbol: its own, or with its module's in front where that is taken.

    Raises:
        MxbenchError: two libraries under one name, or a name that stays taken either way.
    """
    taken = set(dir(builtins)) | reserved | {"SimpleNamespace"}
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
            both = (name, f"{stem}_{name.lstrip('_')}")
            for candidate in (stem, f"{stem}_module") if name == NAMESPACE else both:
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


def module_text(
    module: Module, kept: list[Part], names: Mapping[Symbol, str], replaced: Mapping[Symbol, str]
) -> str:
    pieces = []
    for part in module.parts:
        if not any(part is one for one in kept):
            continue
        if part.defines == {NAMESPACE}:
            pieces.append(_namespace_text(module, names))
            continue
        for name in part.defines:
            if (symbol := Symbol(module.key, name)) in replaced:
                pieces.append("\n\n" + replaced[symbol].strip("\n"))
                break
        else:
            pieces.append(_part_text(module, part, names))
    return "\n".join(pieces).strip("\n")


def _namespace_text(module: Module, names: Mapping[Symbol, str]) -> str:
    """An object with the module's top-level names as attributes."""
    mine = {s.name: final for s, final in names.items() if s.module == module.key}
    lines = [f"    {name}={final}," for name, final in mine.items() if name != NAMESPACE]
    head = f"\n\n{mine[NAMESPACE]} = SimpleNamespace("
    return "\n".join([head, *lines, ")"])


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
