"""All report pages as one HTML file: nothing outside it is needed, tables sort and filter."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Sequence
from html import escape
from importlib import resources as files
from pathlib import Path

from . import html_text
from .html_text import Body
from .summary import Section
from .texts import Texts

# What the charts are drawn in -> what the page's light or dark scheme shows instead.
INKS = {
    "#ffffff": "var(--paper)",
    "#222222": "var(--ink)",
    "#000000": "var(--ink)",
    "#555555": "var(--soft)",
    "#bbbbbb": "var(--rule)",
    "#e4e4e4": "var(--grid)",
    "#7f7f7f": "var(--grey)",
    "#999999": "var(--grey)",
    "#0072b2": "var(--blue)",
}
LEVELS = (2, 3)


def write(summary: Path, sections: Sequence[Section], out: Path, title: str, t: Texts) -> None:
    """Make the file `out` of the summary and every device's pages.

    Raises:
        OSError: `out` cannot be written.
    """
    folder = summary.parent
    links = {link: f"#{_anchor(link)}" for s in sections for link in s.pages.values()}
    first = html_text.render(summary.read_text(encoding="utf-8"), "summary", _no_figure)
    pages = [("summary", first, re.sub(r'href="([^"]+)"', _inner(links), first.html))]
    for section in sections:
        for link in section.pages.values():
            pages.append((_anchor(link), *_page(folder / link, _anchor(link))))
    heading = f"{title} {t('summary_title')}".strip()
    out.write_text(_document(heading, pages, t), encoding="utf-8")


def _anchor(link: str) -> str:
    return re.sub(r"\W+", "-", link.removesuffix(".md"))


def _inner(links: dict[str, str]) -> Callable[[re.Match[str]], str]:
    return lambda m: f'href="{links.get(m[1], m[1])}"'


def _page(path: Path, prefix: str) -> tuple[Body, str]:
    body = html_text.render(
        path.read_text(encoding="utf-8"),
        prefix,
        lambda src, words: _figure(path.parent / src, words),
    )
    return body, body.html


def _no_figure(path: str, caption: str) -> str:
    return f"<p>{escape(caption)}</p>"


def _figure(path: Path, caption: str) -> str:
    """The chart itself as inline SVG, in the page's own colours."""
    name = escape(caption, quote=True)
    svg = themed(path.read_text(encoding="utf-8"))
    return f'<figure role="img" aria-label="{name}">{svg}</figure>'


def themed(svg: str) -> str:
    """An SVG of ours without its prolog, its colours replaced by the page's variables."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r' (?:d|x|y)="[^"]*"', lambda m: re.sub(r"-?\d+\.\d{3,}", _short, m[0]), svg)
    return re.sub(r"#[0-9a-f]{6}\b", lambda m: INKS.get(m[0], m[0]), svg)


def _short(number: re.Match[str]) -> str:
    """Two decimals of a point are enough on any screen."""
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


def _document(title: str, pages: Sequence[tuple[str, Body, str]], t: Texts) -> str:
    templates = files.files(__package__) / "templates"
    style = (templates / "page.css").read_text(encoding="utf-8")
    script = (templates / "page.js").read_text(encoding="utf-8")
    words = {name: t(f"page_{name}") for name in ("filter", "rows", "sort")}
    attributes = " ".join(f'data-{k}="{escape(v, quote=True)}"' for k, v in words.items())
    menu = "".join(_menu(anchor, body) for anchor, body, _ in pages)
    main = "".join(
        f'<section id="{anchor}"><h1>{escape(body.title)}</h1>{html}</section>'
        for anchor, body, html in pages
    )
    # An icon of its own, or browsers ask the network for one.
    icon = base64.b64encode(b'<svg xmlns="http://www.w3.org/2000/svg"/>').decode()
    return (
        f'<!doctype html><html lang="{t("html_language")}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<link rel="icon" href="data:image/svg+xml;base64,{icon}">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body {attributes}>"
        f'<header><button id="menu" aria-label="{t("contents")}">☰</button>'
        f"<strong>{escape(title)}</strong>"
        f'<button id="theme" aria-label="{t("page_theme")}">◐</button>'
        f"</header><nav>{menu}</nav><main>{main}</main><script>{script}</script></body></html>\n"
    )


def _menu(anchor: str, body: Body) -> str:
    items = "".join(
        f'<li class="l{h.level}"><a href="#{h.anchor}">{escape(h.text)}</a></li>'
        for h in body.headings
        if h.level in LEVELS
    )
    return (
        f'<details><summary><a href="#{anchor}">{escape(body.title)}</a></summary>'
        f"<ul>{items}</ul></details>"
    )
