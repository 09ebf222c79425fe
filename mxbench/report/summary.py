"""The page that links all others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import functional, performance
from .charts import Drawn
from .journals import Source
from .markdown import NUMBER, TEXT, Page, bullets, escape, table
from .measured import Timings
from .parts import Context, incomplete_notice
from .texts import Texts


@dataclass(frozen=True)
class Section:
    """One device on the summary page."""

    context: Context
    timings: Timings
    pages: dict[str, str]
    """File name of each page -> its path relative to the summary."""
    drawn: Drawn


def render(sections: Sequence[Section], sources: Sequence[Source], title: str, t: Texts) -> str:
    """The page as Markdown."""
    page = Page(f"{escape(title)} {t('summary_title')}".strip())
    page.add(t("summary_intro"))
    for section in sections:
        _device(page, section, t)
    page.heading(t("sources"))
    heads = [t("source_journal"), t("source_records"), t("source_damaged")]
    rows = [[f"`{_name(s.path)}`", str(len(s.records)), str(len(s.damaged))] for s in sources]
    page.add(table(heads, rows, [TEXT, NUMBER, NUMBER]))
    damaged = [escape(message) for source in sources for message in source.damaged]
    if damaged:
        page.add(t("damaged_intro"), bullets(damaged))
    return page.text()


def _name(path: Path) -> str:
    """Folder and file: enough to know it, and no path of this machine."""
    return f"{path.parent.name}/{path.name}"


def _device(page: Page, section: Section, t: Texts) -> None:
    context, timings = section.context, section.timings
    page.heading(escape(context.device.name))
    lines, _ = functional.results(context)
    page.add(incomplete_notice(lines, t))
    page.heading(t("functional_section"), 3)
    page.add(functional.rate_table(lines, context))
    page.add(f"→ [{t('see_functional')}]({section.pages['functional.md']})")
    page.heading(t("performance_section"), 3)
    if timings.all:
        page.add(performance.overview(context, timings))
    elif not timings.cpu:
        page.add(performance.nothing(context))
    if timings.cpu:
        page.add(t("cpu_excluded", n=timings.cpu))
    page.add(f"→ [{t('see_performance')}]({section.pages['performance.md']})")
    if "design.md" in section.pages:
        page.add(f"→ [{t('see_design')}]({section.pages['design.md']})")
