"""Reports from journals: a functional and a performance page for each device, and a summary.

Everything is rendered from journals alone; nothing here, or below, imports torch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from .. import rules
from ..errors import MxbenchError, nearest
from ..record import unwritable
from ..workspace import Workspace
from . import charts, functional, journals, performance, summary
from .catalog import Catalog
from .journals import default_paths
from .measured import timings
from .parts import Context
from .summary import Section
from .texts import LANGUAGES, Language, Texts

__all__ = ["default_paths", "write"]

SUMMARY, FUNCTIONAL, PERFORMANCE, CHARTS = "summary.md", "functional.md", "performance.md", "charts"


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
    notify: Callable[[str], None] = _to_stderr,
) -> list[Path]:
    """Render the journals `paths` into the folder `out`.

    Args:
        language: `zh` or `en`.
        workspace: where the suites and the rule are, to tell whether a suite is complete.
        rule: whose timings count, and whose gate.
        title: goes before the title of every page.
        notify: takes what the user should know, such as damaged lines.

    Returns:
        The files written, the summary first.

    Raises:
        MxbenchError: exit code 2; a journal is missing, unreadable, empty or of another schema,
            the rule or the language is unknown, or `out` cannot be written to.
    """
    t = Texts(_language(language))
    catalog = Catalog(workspace, rules.load(workspace, rule))
    sources = journals.read(paths)
    for source in sources:
        for message in source.damaged:
            notify(message)
    try:
        return _write(sources, out, catalog, title, t, notify)
    except OSError as error:
        raise unwritable(out, error) from error


def _language(name: str) -> Language:
    for known in LANGUAGES:
        if name == known:
            return known  # type: ignore[return-value]  # one of the Literal's own words
    raise MxbenchError(f"unknown language {name!r}", nearest(name, LANGUAGES))


def _write(
    sources: Sequence[journals.Source],
    out: Path,
    catalog: Catalog,
    title: str,
    t: Texts,
    notify: Callable[[str], None],
) -> list[Path]:
    out.mkdir(parents=True, exist_ok=True)
    (out / SUMMARY).open("a").close()  # fail before the work, not after it
    written, sections = [], []
    for device in journals.devices(sources):
        folder = out / device.slug
        folder.mkdir(exist_ok=True)
        context = Context(t, catalog, device, title)
        found = timings(device, catalog)
        page = folder / FUNCTIONAL
        page.write_text(functional.render(context), encoding="utf-8")
        pictures, files = charts.draw_all(context, found, folder / CHARTS, notify)
        other = folder / PERFORMANCE
        other.write_text(performance.render(context, found, pictures), encoding="utf-8")
        written += [page, other, *files]
        slug = device.slug
        sections.append(Section(context, found, f"{slug}/{FUNCTIONAL}", f"{slug}/{PERFORMANCE}"))
    text = summary.render(sections, sources, title, t)
    (out / SUMMARY).write_text(text, encoding="utf-8")
    return [out / SUMMARY, *written]
