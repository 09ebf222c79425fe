"""Markdown pages to HTML: what PDF and the one-page report have in common."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markdown_it import MarkdownIt
from markdown_it.token import Token

Figure = Callable[[str, str], str]
"""(path, caption) -> HTML of a picture."""


@dataclass(frozen=True)
class Heading:
    level: int
    text: str
    anchor: str


@dataclass(frozen=True)
class Body:
    """A page's HTML without its frame."""

    title: str
    html: str
    headings: tuple[Heading, ...]
    """All but the title, in order."""


def render(text: str, prefix: str, figure: Figure) -> Body:
    """A Markdown page as HTML.

    Raw HTML in the page is shown as text, and comments are dropped. Every table stands in a
    `div.table`, whose `data-columns` says how wide it is.

    Args:
        prefix: begins every anchor, so that several pages can stand in one document.
        figure: makes the HTML of a picture that stands alone in its paragraph.
    """
    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = reader.parse(re.sub(r"^<!--.*?-->[ \t]*$", "", text, flags=re.MULTILINE | re.DOTALL))
    title = ""
    headings: list[Heading] = []
    kept: list[Token] = []
    i = 0
    while i < len(tokens):
        token = tokens[i]
        if token.type == "heading_open":
            words = _plain(tokens[i + 1])
            level = int(token.tag[1])
            if level == 1 and not title:
                title = words
                i += 3
                continue
            anchor = f"{prefix}-{len(headings) + 1}"
            headings.append(Heading(level, words, anchor))
            token.attrSet("id", anchor)
        picture = _picture(tokens[i : i + 3])
        if picture:
            kept.append(_raw(figure(*picture)))
            i += 3
            continue
        if token.type == "table_open":
            columns = _columns(tokens, i)
            kept.append(_raw(f'<div class="table" data-columns="{columns}">'))
        kept.append(token)
        if token.type == "table_close":
            kept.append(_raw("</div>"))
        i += 1
    html = reader.renderer.render(kept, reader.options, {})
    return Body(title, html, tuple(headings))


def _plain(inline: Token) -> str:
    """A heading's words without its marks."""
    kinds = ("text", "code_inline", "softbreak")
    return "".join(c.content or " " for c in inline.children or () if c.type in kinds)


def _picture(three: Sequence[Token]) -> tuple[str, str] | None:
    """(path, caption) if a paragraph holds one picture and nothing else."""
    if len(three) < 3 or three[0].type != "paragraph_open":
        return None
    children = three[1].children or []
    if len(children) != 1 or children[0].type != "image":
        return None
    return str(children[0].attrGet("src")), children[0].content


def _columns(tokens: Sequence[Token], start: int) -> int:
    """Columns of the table that opens at `start`."""
    count = 0
    for token in tokens[start:]:
        count += token.type == "th_open"
        if token.type == "thead_close":
            break
    return count


def _raw(html: str) -> Token:
    return Token("html_block", "", 0, content=html + "\n")
