"""What a bundle is made of: modules, their top-level statements, and what their names mean."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from pathlib import Path

from .. import scopes
from ..errors import MxbenchError


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

NAMESPACE = "*"
"""As a symbol's name: the module itself, where it is used as a value."""


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
