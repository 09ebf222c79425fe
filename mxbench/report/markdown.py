"""Markdown building blocks. Tables go through tabulate, which aligns Chinese by display width."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tabulate import tabulate

TEXT, NUMBER = "left", "right"


def escape(text: str) -> str:
    """`text` on one line, without the characters that would end a table cell or begin a tag."""
    one_line = re.sub(r"\s*[\r\n]+\s*", " ", text).strip()
    return one_line.replace("|", "\\|").replace("<", "&lt;").replace(">", "&gt;")


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], align: Sequence[str]) -> str:
    """A pipe table, one alignment (TEXT or NUMBER) a column.

    Cells are taken as they are: what comes from outside goes through `escape` first.
    """
    return tabulate(rows, heads, tablefmt="pipe", colalign=tuple(align), disable_numparse=True)


def bullets(items: Sequence[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def code(lines: Sequence[str]) -> str:
    """A block of shell commands."""
    return "\n".join(("```bash", *lines, "```"))


def quote(text: str) -> str:
    """A paragraph that stands out."""
    return "\n".join(f"> {line}".rstrip() for line in text.split("\n"))


def image(caption: str, path: str) -> str:
    return f"![{caption}]({path})"


class Page:
    """A document in the making: blocks, one blank line between them."""

    def __init__(self, title: str) -> None:
        self._blocks = [f"# {title}"]

    def heading(self, text: str, level: int = 2) -> None:
        self._blocks.append(f"{'#' * level} {text}")

    def add(self, *blocks: str) -> None:
        """Append what is not empty."""
        self._blocks += [block for block in blocks if block]

    def text(self) -> str:
        return "\n\n".join(self._blocks) + "\n"
