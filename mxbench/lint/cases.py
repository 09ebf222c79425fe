"""Sizes of test cases in a kernel: compared with, looked up by, matched."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from .constants import constant
from .sizes import VARIED
from .sources import Source, Sources

Place = tuple[str, str]

SMALLEST_SIZE = 1024
"""A single number below it is as likely a head size or a tile as a test case's length."""


NAMES = frozenset(name for names in VARIED.values() for name in names) | {"tokens"}
"""Parameters by which test cases differ."""


class Cases:
    """Finds them. `sizes` are those by which the contest's cases differ."""

    def __init__(self, sources: Sources, sizes: frozenset[int]) -> None:
        self.sources, self.sizes = sources, sizes

    def places(self, source: Source, node: ast.AST) -> Iterator[Place]:
        """Findings at one node of the call path."""
        if isinstance(node, ast.Compare):
            yield from self.compared(source, node)
        elif isinstance(node, ast.Dict):
            yield from self.keys(source, node)
        elif isinstance(node, ast.match_case):
            yield from self.matched(source, node)

    def compared(self, source: Source, node: ast.Compare) -> Iterator[Place]:
        sides = [node.left, *node.comparators]
        if not all(isinstance(op, ast.Eq | ast.NotEq | ast.In | ast.NotIn) for op in node.ops):
            return
        values = [constant(self.sources, source, side) for side in sides]
        if all(value is not None for value in values):
            return
        for op, value, side in zip([None, *node.ops], values, sides, strict=True):
            if isinstance(op, ast.In | ast.NotIn):
                yield from self._collection(source, side)
            elif self._is_case(value):
                yield "test-case-shape", f"compared with {value}"

    def _collection(self, source: Source, node: ast.expr) -> Iterator[Place]:
        """The right side of `in`: a display, or a name of one."""
        if isinstance(node, ast.Name):
            for binding in self.sources.bindings(source, node):
                if binding.kind == "value" and isinstance(
                    binding.node, ast.Tuple | ast.List | ast.Set | ast.Dict
                ):
                    yield from self._collection(source, binding.node)
        elif isinstance(node, ast.Dict):
            yield from self.keys(source, node)
        elif isinstance(node, ast.Tuple | ast.List | ast.Set):
            for part in node.elts:
                value = constant(self.sources, source, part)
                if self._is_case(value):
                    yield "test-case-shape", f"compared with {value}"

    def keys(self, source: Source, node: ast.Dict) -> Iterator[Place]:
        """A table by sizes, and a condition such as `{"kv_ctx": 65536}`."""
        for key, entry in zip(node.keys, node.values, strict=True):
            name = None if key is None else constant(self.sources, source, key)
            value = constant(self.sources, source, entry)
            if self._is_case(name):
                yield "test-case-shape", f"a table with an entry for {name}"
            elif name in NAMES and self._is_case(value):
                yield "test-case-shape", f"a condition that {name} is {value}"

    def matched(self, source: Source, node: ast.match_case) -> Iterator[Place]:
        for part in ast.walk(node.pattern):
            if isinstance(part, ast.MatchValue):
                value = constant(self.sources, source, part.value)
                if self._is_case(value):
                    yield "test-case-shape", f"matched with {value}"

    def _is_case(self, value: object) -> bool:
        """Whether a constant is a size that tells the contest's cases apart, or sizes of one."""
        if isinstance(value, bool):
            return False
        if isinstance(value, int):
            return value >= SMALLEST_SIZE and value in self.sizes
        if isinstance(value, tuple):
            numbers = [n for n in value if isinstance(n, int) and not isinstance(n, bool)]
            big = [n for n in numbers if n >= 32]
            telling = any(n >= SMALLEST_SIZE and n in self.sizes for n in big)
            return len(numbers) >= 2 and (
                telling or (bool(big) and all(n in self.sizes for n in big))
            )
        return False
