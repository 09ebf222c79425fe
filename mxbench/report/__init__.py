"""Reports from journals: design, function and performance of each device, and a summary.

Everything is rendered from journals, design texts and the compiler's figures kept beside a
journal; nothing here, or below, imports torch. The Markdown pages are the one source of what is
said: PDF and HTML are the same pages set in another way.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import resources, rules
from ..errors import MxbenchError, nearest
from ..record import unwritable
from ..workspace import Workspace
from . import charts, design, functional, journals, performance, resource_table, summary
from .catalog import Catalog
from .journals import default_paths
from .measured import Timings, timings
from .parts import Context
from .summary import Section
from .texts import LANGUAGES, Language, Texts

__all__ = ["Options", "default_paths", "write"]

SUMMARY, FUNCTIONAL, PERFORMANCE, CHARTS = "summary.md", "functional.md", "performance.md", "charts"
DESIGN = "design.md"
HTML, SLIDES = "report.html", "slides.pptx"


@dataclass(frozen=True)
class Options:
    """What to make beside the Markdown pages."""

    pdf: bool = False
    """Each page as a PDF beside it."""
    html: bool = False
    """All pages as one, `report.html`."""
    slides: bool = False
    """`slides.pptx` of each GPU."""
    resources: bool = False
    """Compile what was timed and keep the compiler's figures as `resources.json`."""


def _to_stderr(message: str) -> None:
    print(message, file=sys.stderr)


def write(
    paths: Sequence[Path],
    out: Path,
    language: str = "zh",
    *,
    workspace: Workspace,
    rule: str = rules.DEFAULT_RULE,
    title: str = "",
    options: Options = Options(),
    notify: Callable[[str], None] = _to_stderr,
) -> list[Path]:
    """Render the journals `paths` into the folder `out`.

    Args:
        language: `zh` or `en`.
        workspace: where the suites and the rule are, to tell whether a suite is complete, and the
            design texts.
        rule: whose timings count, and whose gate.
        title: goes before the title of every page.
        options: what to make beside the pages.
        notify: takes what the user should know, such as damaged lines.

    Returns:
        The files written, the summary first.

    Raises:
        MxbenchError: exit code 2; a journal is missing, unreadable, empty or of another schema,
            the rule or the language is unknown, a design text is faulty, or `out` cannot be
            written to. Exit code 3; what PDF, slides or the compiler's figures need is missing.
    """
    t = Texts(_language(language))
    _require(options, t, notify)
    catalog = Catalog(workspace, rules.load(workspace, rule))
    sources = journals.read(paths)
    for source in sources:
        for message in source.damaged:
            notify(message)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / SUMMARY).open("a").close()  # fail before the work, not after it
        sections, written = [], []
        for device in journals.devices(sources):
            context = Context(t, catalog, device, title)
            section, files = _device(context, out / device.slug, workspace, options, notify)
            sections.append(section)
            written += files
        text = summary.render(sections, sources, title, t)
        (out / SUMMARY).write_text(text, encoding="utf-8")
        return [out / SUMMARY, *written, *_documents(out, sections, title, t, options)]
    except OSError as error:
        raise unwritable(out, error) from error


def _language(name: str) -> Language:
    for known in LANGUAGES:
        if name == known:
            return known  # type: ignore[return-value]  # one of the Literal's own words
    raise MxbenchError(f"unknown language {name!r}", nearest(name, LANGUAGES))


def _require(options: Options, t: Texts, notify: Callable[[str], None]) -> None:
    """Fail before any work where a document's library or font is missing."""
    if options.pdf:
        from . import pdf

        pdf.require(t, notify)
    if options.slides:
        from . import slides

        slides.require()


def _device(
    context: Context,
    folder: Path,
    workspace: Workspace,
    options: Options,
    notify: Callable[[str], None],
) -> tuple[Section, list[Path]]:
    """The pages and charts of a device."""
    folder.mkdir(exist_ok=True)
    found = timings(context.device, context.catalog)
    drawn = charts.draw_all(context, found, folder / CHARTS, notify)
    _forget_others(folder / CHARTS, drawn.files)
    written = []
    if options.resources and found.all:
        made = resource_table.refresh(found, context.catalog, workspace, folder, notify)
        written += [made] if made else []
    pages = {
        DESIGN: _design(context, found, workspace, folder, drawn, notify),
        FUNCTIONAL: functional.render(context, drawn.errors),
        PERFORMANCE: performance.render(context, found, drawn.suites),
    }
    shown = [name for name, text in pages.items() if text]
    for name in shown:
        (folder / name).write_text(pages[name] or "", encoding="utf-8")
        written.append(folder / name)
    links = {name: f"{folder.name}/{name}" for name in shown}
    return Section(context, found, links, drawn), [*written, *drawn.files]


def _forget_others(folder: Path, drawn: Sequence[Path]) -> None:
    """Remove the pictures of an earlier journal, which no page shows any more."""
    for picture in {*folder.glob("*.svg"), *folder.glob("*.png")} - set(drawn):
        picture.unlink()


def _design(
    context: Context,
    found: Timings,
    workspace: Workspace,
    folder: Path,
    drawn: charts.Drawn,
    notify: Callable[[str], None],
) -> str | None:
    """The design report; None for a CPU, which has no figures to fill it with."""
    if context.device.is_cpu or not found.all:
        return None
    ops = list(dict.fromkeys(m.record.op for m in found.all))
    known = resources.load(folder / resources.FILE)
    return design.render(
        context, found, ops, workspace, known, drawn.steps, drawn.operators, notify
    )


def _documents(
    out: Path, sections: Sequence[Section], title: str, t: Texts, options: Options
) -> list[Path]:
    """The same pages as PDF, as one HTML page, and slides."""
    written = []
    if options.pdf:
        from . import pdf

        for section in sections:
            for link in section.pages.values():
                page = out / link
                made = page.with_suffix(".pdf")
                pdf.write(page, made, t, section.context.device.name)
                written.append(made)
    if options.html:
        from . import html_page

        made = out / HTML
        html_page.write(out / SUMMARY, sections, made, title, t)
        written.append(made)
    if options.slides:
        from . import slides

        written += slides.write_all(out, sections, title, t)
    return written
