"""A context to render single pages in, without charts."""

from __future__ import annotations

import pytest

from mxbench import rules
from mxbench.report import functional, journals, measured, performance
from mxbench.report.catalog import Catalog
from mxbench.report.parts import Context
from mxbench.report.texts import Texts

from . import synthetic as s


class Pages:
    """Renders the pages of the first device of some records."""

    def __init__(self, tmp_path):
        self.folder = tmp_path

    def context(self, *records, language="en", rule="xh-202608", here=s.HERE):
        source = journals.Source(self.folder / "journal.jsonl", tuple(records), ())
        device = journals.devices([source])[0]
        return Context(Texts(language), Catalog(here, rules.load(here, rule)), device, "")

    def functional(self, *records, **how):
        return functional.render(self.context(*records, **how))

    def performance(self, *records, **how):
        context = self.context(*records, **how)
        return performance.render(context, measured.timings(context.device, context.catalog), {})


@pytest.fixture
def pages(tmp_path):
    return Pages(tmp_path)


@pytest.fixture
def row():
    """Finds the cells of the table row whose first cell (or cells) begin with the given ones."""

    def find(page, *first):
        for line in page.splitlines():
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if line.startswith("|") and cells[: len(first)] == list(first):
                return cells
        raise AssertionError(f"no row {first} in\n{page}")

    return find
