"""Several Python modules that import each other relatively, made one file. Runs none of them.

The text of a top-level statement is kept as it stands, comments included; what changes are the
names in it, at the places the syntax tree gives: `_tile.absorb` becomes `absorb`, or
`tile_absorb` where `absorb` already means something else. Statements that the wanted functions
do not reach are left out.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .loading import Loader, owner
from .parts import External, Symbol
from .reading import Reader, reachable
from .writing import final_names, module_text

__all__ = ["Bundle", "Symbol", "bundle", "merged"]


@dataclass(frozen=True)
class Bundle:
    """The pieces of the one file."""

    imports: list[str]
    modules: list[tuple[str, str, str]]
    """(key, docstring, source) of each module of which something is left, leaves first."""
    names: dict[Symbol, str]
    """What each symbol that is kept is called, also by the module that was asked for it."""


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
    loaded = Loader(home).load(entry)
    for module in loaded.values():
        Reader(module, loaded, replaced or {}).read()
    top = list(loaded)[-1]
    roots: set[Symbol | External] = {owner(loaded, Symbol(top, name)) for name in wanted}
    there = {symbol: owner(loaded, symbol) for symbol in also if symbol.module in loaded}
    roots |= set(there.values())
    kept = reachable(loaded, roots)
    names = final_names(loaded, kept, set(reserved))
    texts = [
        (
            key,
            ast.get_docstring(module.tree) or "",
            module_text(module, kept, names, replaced or {}),
        )
        for key, module in loaded.items()
    ]
    imports = {ref.statement for part in kept for ref in part.refs if isinstance(ref, External)}
    names |= {symbol: names[defined] for symbol, defined in there.items()}
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
