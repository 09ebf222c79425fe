"""The value of an expression of constants, as far as reading tells."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .sources import Source, Sources

DEEPEST = 24  # names of names, ...


def text(sources: Sources, source: Source, node: ast.AST, depth: int = 0) -> str | None:
    """The string that an expression is, if reading tells."""
    value = constant(sources, source, node, depth)
    return value if isinstance(value, str) else None


def constant(sources: Sources, source: Source, node: ast.AST, depth: int = 0) -> object:
    """The value of an expression of constants; None if it is none."""
    if depth > DEEPEST:
        return None
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.JoinedStr):
        texts = [text(sources, source, part, depth + 1) for part in node.values]
        return None if None in texts else "".join(text or "" for text in texts)
    if isinstance(node, ast.FormattedValue):
        value = constant(sources, source, node.value, depth + 1)
        return None if value is None else str(value)
    if isinstance(node, ast.BinOp):
        return _folded(sources, source, node, depth)
    if isinstance(node, ast.Tuple | ast.List):
        items = tuple(constant(sources, source, part, depth + 1) for part in node.elts)
        return None if None in items else items
    if isinstance(node, ast.Name):
        values = [b for b in sources.bindings(source, node)]
        if len(values) == 1 and values[0].kind == "value" and values[0].node is not None:
            return constant(sources, source, values[0].node, depth + 1)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
        glue = text(sources, source, node.func.value, depth + 1)
        parts = constant(sources, source, node.args[0], depth + 1)
        if node.func.attr == "join" and glue is not None and isinstance(parts, tuple):
            return glue.join(map(str, parts))
    return None


def _folded(sources: Sources, source: Source, node: ast.BinOp, depth: int) -> object:
    left = constant(sources, source, node.left, depth + 1)
    right = constant(sources, source, node.right, depth + 1)
    if isinstance(left, str) and isinstance(right, str) and isinstance(node.op, ast.Add):
        return left + right
    if not (isinstance(left, int) and isinstance(right, int)):
        return None
    if isinstance(node.op, ast.Add):
        return left + right
    if isinstance(node.op, ast.Sub):
        return left - right
    if isinstance(node.op, ast.Mult):
        return left * right
    small = 0 <= right < 64
    if isinstance(node.op, ast.LShift) and small:
        return left << right
    if isinstance(node.op, ast.Pow) and small and abs(left) < 1 << 16:
        return left**right
    return None
