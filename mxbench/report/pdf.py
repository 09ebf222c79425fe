"""A report page as PDF: A4, contents with page numbers, Chinese that shows. Wraps WeasyPrint."""

from __future__ import annotations

import contextlib
import ctypes.util
import os
import re
from collections.abc import Callable, Iterator
from html import escape
from importlib import resources as files
from pathlib import Path
from typing import Any

from ..errors import EXIT_ENVIRONMENT, MxbenchError
from . import figures, html_text
from .html_text import Body
from .texts import Texts

EPOCH = "SOURCE_DATE_EPOCH"
SLOW = (
    "PDFs take a minute longer: a Chinese font is large, and HarfBuzz's library that picks the "
    "characters used is missing (apt install libharfbuzz-subset0)"
)
DEEPEST = 4
"""Level of headings in the contents, as far as they stay short."""
MOST_CONTENTS = 48
"""Lines of the contents, to fit a page."""
WIDE = 14
"""Columns from which a table wants landscape pages; a page with one is set so throughout, since
turning pages for each such table leaves half of the others empty."""


def require(t: Texts, notify: Callable[[str], None]) -> None:
    """MxbenchError, exit code 3, unless PDFs can be made in the language."""
    _weasyprint()
    if t.language != "zh":
        return
    if figures.chinese_font() is None:
        raise MxbenchError(
            "--pdf: no font with Chinese characters is installed; the text would be empty boxes",
            "apt install fonts-noto-cjk libharfbuzz-subset0, or --lang en",
            EXIT_ENVIRONMENT,
        )
    if ctypes.util.find_library("harfbuzz-subset") is None:
        notify(SLOW)


def _weasyprint() -> Any:
    try:
        import weasyprint
    except ModuleNotFoundError as error:
        raise MxbenchError(
            f"--pdf needs the package {error.name}, which is not installed",
            "pip install 'mxbench[pdf]'",
            EXIT_ENVIRONMENT,
        ) from error
    except OSError as error:  # it is a Python package over Pango
        raise MxbenchError(
            "--pdf: WeasyPrint does not find the Pango libraries",
            "apt install libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0",
            EXIT_ENVIRONMENT,
        ) from error
    return weasyprint


def write(page: Path, out: Path, t: Texts, running: str) -> None:
    """Set the Markdown file `page` as the PDF `out`.

    Args:
        running: stands at the top of every page beside the title.

    Raises:
        OSError: `out` cannot be written.
    """
    with _without_time():
        made = document(page, t, running).write_pdf(pdf_identifier=b"mxbench")
    out.write_bytes(made)


@contextlib.contextmanager
def _without_time() -> Iterator[None]:
    """Where HarfBuzz cannot subset fonts, fontTools does, and stamps them with the time of day."""
    before = os.environ.get(EPOCH)
    os.environ[EPOCH] = before or "0"
    try:
        yield
    finally:
        if before is None:
            del os.environ[EPOCH]
        else:
            os.environ[EPOCH] = before


def document(page: Path, t: Texts, running: str) -> Any:
    """The Markdown file `page` as WeasyPrint's document, to be written or looked at."""
    body = html_text.render(page.read_text(encoding="utf-8"), "s", _figure)
    return _weasyprint().HTML(string=_document(body, t, running), base_url=f"{page.parent}/")


def _document(body: Body, t: Texts, running: str) -> str:
    style = (files.files(__package__) / "templates" / "print.css").read_text(encoding="utf-8")
    family = figures.chinese_font() or figures.LATIN
    style = style.replace("CJK_FAMILY", family)
    html = re.sub(r'<div class="table" data-columns="(\d+)">', _table, body.html)
    widest = max(map(int, re.findall(r'data-columns="(\d+)"', body.html)), default=0)
    setting = "landscape" if widest >= WIDE else "portrait"
    levels = _contents_levels(body)
    contents = "".join(
        f'<li class="l{h.level}"><a href="#{h.anchor}">{escape(h.text)}</a></li>'
        for h in body.headings
        if h.level in levels
    )
    return (
        f'<!doctype html><html lang="{t("html_language")}"><head><meta charset="utf-8">'
        f"<title>{escape(body.title)}</title><style>{style}</style></head>"
        f'<body class="{setting}">'
        f"<header><h1>{escape(body.title)}</h1></header>"
        f'<div class="running">{escape(running)}</div>'
        f"<nav><h2>{t('contents')}</h2><ul>{contents}</ul></nav><main>{html}</main></body></html>"
    )


def _contents_levels(body: Body) -> range:
    """The levels of headings that the contents have room for."""
    for deepest in range(DEEPEST, 2, -1):
        if sum(2 <= h.level <= deepest for h in body.headings) <= MOST_CONTENTS:
            return range(2, deepest + 1)
    return range(2, 3)


def _table(opened: re.Match[str]) -> str:
    """Wide tables get a smaller type."""
    columns = int(opened[1])
    size = next((i for i, most in enumerate((6, 8, 10, 13, 16)) if columns <= most), 5)
    return f'<div class="table size{size}">'


def _figure(path: str, caption: str) -> str:
    return (
        f'<figure><img src="{escape(path)}" alt="{escape(caption)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )
