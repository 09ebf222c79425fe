"""The algorithm design report of one device: design texts, with tables from the journal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from .. import kernel as kernels
from ..errors import MxbenchError
from ..ops import operator
from ..resources import Resources
from ..workspace import Workspace
from . import design_text, numbers, parts
from .ablation import Ablation, ablation_table
from .markdown import NUMBER, TEXT, Page, escape, image, quote, table
from .measured import Measured, Timings
from .parts import Context
from .resource_table import resource_table

MOST_ROWS = 24
"""Cases of a suite in the table of floors; of more, so many evenly from small to large."""

Charts = Mapping[tuple[str, str], tuple[str, str]]
"""(operator, `ablation` or `errors`) -> (caption, path)."""


def render(
    context: Context,
    found: Timings,
    ops: Sequence[str],
    workspace: Workspace,
    resources: Resources | None,
    steps: Mapping[str, Ablation],
    charts: Charts,
    notify: Callable[[str], None],
) -> str | None:
    """The page as Markdown; None if no operator of the journal has a design text.

    Args:
        ops: operators to tell of.
        resources: what the compiler made of the programs, if that was read.
        notify: hears of operators that are left out.

    Raises:
        MxbenchError: a design text is empty, not UTF-8, or asks for an unknown table.
    """
    t = context.t
    page = Page(context.heading("design_title"))
    page.add(t("design_intro", device=context.device.name))
    told = False
    for op in ops:
        path = design_text.path_of(workspace, op, t.language)
        if path is None:
            notify(f"no kernels/{op}/{design_text.FILE}: the design report leaves {op} out")
            continue
        told = True
        text = design_text.read(path)
        page.heading(t(op) if op in parts.OPERATOR_NAMES else escape(op))
        if t.language == "zh" and path.name != design_text.CHINESE_FILE:
            page.add(quote(t("design_english", file=f"kernels/{op}/{path.name}")))
        page.heading(t("design_kernels"), 3)
        page.add(_kernels(op, context, workspace))
        tables = _tables(op, context, found, resources, steps.get(op), charts)
        for kind in design_text.KINDS:
            if kind not in design_text.marked(text):
                page.heading(t(f"design_{kind}"), 3)
                page.add(tables[kind])
        page.add(design_text.fill(design_text.demote(text, 1), tables))
    return page.text() if told else None


def _kernels(op: str, context: Context, workspace: Workspace) -> str:
    """What each module of the operator is."""
    t = context.t
    rows = []
    for one in kernels.find_all(workspace, op):
        try:
            known = [name for name in operator(op).contracts if name in one.signatures]
            rows.append([f"`{one.name}`", ", ".join(known), escape(one.summary), f"`{one.sha}`"])
        except MxbenchError:
            continue  # a module that does not parse is `check`'s business
    heads = [t("kernel"), t("contract"), t("what"), t("sha")]
    return table(heads, rows, [TEXT] * 4)


def _tables(
    op: str,
    context: Context,
    found: Timings,
    resources: Resources | None,
    steps: Ablation | None,
    charts: Charts,
) -> dict[str, str]:
    t = context.t
    picture = {kind: _image(charts.get((op, kind))) for kind in ("ablation", "errors")}
    ablation = [t("no_ablation")]
    if steps:
        ablation = [t("ablation_note"), ablation_table(steps, context), *picture["ablation"]]
    return {
        "floor": _joined(floor_table(op, context, found)),
        "ablation": _joined(ablation),
        "errors": _joined(picture["errors"] or [t("no_errors")]),
        "resources": _joined(resource_table(op, resources, t)),
    }


def _image(chart: tuple[str, str] | None) -> list[str]:
    return [image(*chart)] if chart else []


def _joined(blocks: Sequence[str]) -> str:
    return "\n\n".join(blocks)


# --- the floor, and what is reached -------------------------------------------------------------


def floor_table(op: str, context: Context, found: Timings) -> list[str]:
    """For each suite: work, intensity, floor and limit of its cases, and the time reached."""
    t = context.t
    suites = dict.fromkeys(m.record.suite for m in found.all if m.record.op == op)
    blocks = []
    for suite in suites:
        timed = [m for m in found.all if (m.record.op, m.record.suite) == (op, suite)]
        best = list(_fastest(timed).values())
        best.sort(key=lambda m: (context.catalog.place(m.record), m.record.case))
        shown = _thinned(best)
        left_out = t("thinned", n=len(shown), total=len(best)) if len(shown) < len(best) else ""
        blocks.append(f"**{t('suite')} {escape(suite)}**{left_out}")
        blocks.append(_floors(shown, context))
    if not blocks:
        return [t("no_timings", rule=context.catalog.rule.name)]
    sources = dict.fromkeys(m.record.bound.peaks for m in found.all if m.record.bound)
    peaks = t.listed([escape(t.peaks(source)) for source in sources])
    return [t("floor_note", peaks=peaks or numbers.ABSENT), *blocks]


def _fastest(timed: Sequence[Measured]) -> dict[str, Measured]:
    """The fastest timing of each case."""
    best: dict[str, Measured] = {}
    for m in timed:
        if m.record.case not in best or m.mean < best[m.record.case].mean:
            best[m.record.case] = m
    return best


def _thinned(best: list[Measured]) -> list[Measured]:
    if len(best) <= MOST_ROWS:
        return best
    by_floor = sorted(best, key=lambda m: m.floor or m.mean)
    step = (len(by_floor) - 1) / (MOST_ROWS - 1)
    return [by_floor[round(i * step)] for i in range(MOST_ROWS)]


def _floors(shown: Sequence[Measured], context: Context) -> str:
    t = context.t
    unit = numbers.unit_of([m.mean for m in shown])
    heads = [t("case"), "FLOP", "B", "FLOP/B", t("limit"), t("floor", unit=unit.name)]
    heads += [t("kernel"), f"{t('mean')} ({unit.name})", "p10–p90", t("share"), t("speedup")]
    rows = [[f"`{m.record.case}`", *_floor_cells(m, unit, context)] for m in shown]
    align = [TEXT, NUMBER, NUMBER, NUMBER, TEXT, NUMBER, TEXT, *[NUMBER] * 4]
    return table(heads, rows, align)


def _floor_cells(m: Measured, unit: numbers.Unit, context: Context) -> list[str]:
    t, work = context.t, m.record.work
    absent = numbers.ABSENT
    spread = absent
    if m.timing.p10 is not None and m.timing.p90 is not None:
        spread = numbers.span(unit.text(m.timing.p10), unit.text(m.timing.p90))
    return [
        numbers.amount(work.flops, "").strip(),
        numbers.amount(work.bytes, "").strip(),
        numbers.significant(work.flops / work.bytes, 3) if work.bytes else absent,
        t(f"is_{m.limit}") if m.limit else absent,
        unit.text(m.floor),
        escape(m.record.kernel),
        unit.text(m.mean),
        spread,
        numbers.percent(m.share) if m.share is not None else absent,
        numbers.ratio(m.speedup) if m.speedup is not None else absent,
    ]
