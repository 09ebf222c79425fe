"""The functional test report of one device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from ..record import Record
from ..verdict import Status
from . import commands, numbers, parts
from .coverage import Coverage, coverages
from .journals import case_key
from .markdown import NUMBER, TEXT, Page, bullets, code, escape, image, table
from .parts import Context
from .texts import Texts


def results(context: Context) -> tuple[list[Coverage], int]:
    """The newest verdict of every case and kernel, whatever rule it ran under; the superseded."""
    records, superseded = context.device.newest(case_key)
    return coverages(records, context.catalog), superseded


def render(context: Context, charts: Mapping[str, tuple[str, str]] | None = None) -> str:
    """The page as Markdown; `charts` are the (caption, path) of each operator's errors."""
    t, catalog = context.t, context.catalog
    lines, superseded = results(context)
    own = [line for line in lines if not line.parts]
    records = [r for line in own for r in (*line.records, *line.extra)]
    page = Page(context.heading("functional_title"))
    page.add(parts.incomplete_notice(lines, t))
    page.add(t("records_used", used=len(records)))
    page.heading(t("summary"))
    gate = numbers.percent(catalog.rule.gate.pass_rate)
    page.add(rate_table(lines, context), t("rate_intro", rule=f"`{catalog.rule.name}`", gate=gate))
    page.add(parts.caveats(lines, superseded, t))
    page.heading(t("failures"))
    page.add(*_failures(records, t))
    page.heading(t("results"))
    page.add(t("metrics"), *(image(*chart) for chart in (charts or {}).values()))
    for (op, suite), group in groupby(own, key=lambda line: (line.op, line.suite)):
        page.heading(f"{t(op) if op in parts.OPERATOR_NAMES else escape(op)} · {escape(suite)}", 3)
        page.add(*_suite(list(group), context))
    page.heading(t("environment"))
    page.add(*parts.environment(records, t), parts.sources(lines, t))
    page.heading(t("commands"))
    page.add(code(commands.check(own, catalog)))
    return page.text()


def rate_table(lines: Sequence[Coverage], context: Context) -> str:
    """Pass rates against the gate, a line for each suite and kernel."""
    t, gate = context.t, context.catalog.rule.gate.pass_rate
    names = ("cases", "passed", "failed", "skipped", "not_run", "rate", "gate", "strict_passed")
    heads = [t(name) for name in ("operator", "suite", "kernel", *names)]
    rows = []
    for line in lines:
        tally = line.tally
        if not tally.total:
            continue
        meets = t("yes") if tally.share >= gate else f"**{t('no')}**"
        counts = (tally.total, tally.passed, line.failed, tally.skipped, len(line.missing))
        rows.append(
            [line.op, escape(line.suite), escape(parts.kernel_name(line, t)), *map(str, counts),
             numbers.pass_rate(tally.passed, tally.total), meets, str(tally.strict)]
        )  # fmt: skip
    if not rows:
        return t("no_records")
    return table(heads, rows, [TEXT] * 3 + [NUMBER] * 6 + [TEXT, NUMBER])


# --- failures -----------------------------------------------------------------------------------


def _failures(records: Sequence[Record], t: Texts) -> list[str]:
    """A table of all that did not pass both verdicts, with the reasons."""
    found = [r for r in records if not (r.passed and r.strict == Status.PASSED)]
    if not found:
        return [t("no_failures")]
    rows = [[f"`{r.id}`", escape(r.kernel), *_verdicts(r), escape(r.reason)] for r in found]
    heads = [t(name) for name in ("case", "kernel", "status", "strict", "reason")]
    return [t("failures_intro"), table(heads, rows, [TEXT] * 5)]


def _verdicts(record: Record) -> list[str]:
    return [record.status.value, _strict(record)]


def _strict(record: Record) -> str:
    return record.strict.value if record.strict else numbers.ABSENT


# --- case by case -------------------------------------------------------------------------------


def _suite(lines: Sequence[Coverage], context: Context) -> list[str]:
    """The tables of one suite, one for each contract, as contracts differ in their parameters."""
    catalog = context.catalog
    records = [r for line in lines for r in (*line.records, *line.extra)]
    records.sort(key=lambda r: (catalog.place(r), r.case))  # stable: the baseline stays last
    contracts = dict.fromkeys(record.contract for record in records)
    blocks = []
    for contract in contracts:
        group = [r for r in records if r.contract == contract]
        if len(contracts) > 1:
            blocks.append(f"#### {escape(contract)}")
        blocks += _contract(group, context)
    return blocks


def _contract(records: Sequence[Record], context: Context) -> list[str]:
    t = context.t
    columns = parts.columns([parts.fields(r, context.catalog) for r in records])
    facts = parts.shared_texts(columns.shared, t)
    precise = [f"`{r.case}`" for r in records if r.precision != "fp32"]
    if precise:
        facts.append(t("golden_fp64", list=t.listed(precise)))
    metrics = ("max_abs", "rms", "worst_row", "cos", "matched")
    heads = [t("case"), *columns.varying, t("dtype"), t("seed"), t("kernel"), t("status")]
    heads += [t("strict"), *(t(name) for name in metrics)]
    rows = [
        [f"`{r.case}`", *cells, r.dtype, str(r.seed), escape(r.kernel), *_verdicts(r), *_errors(r)]
        for r, cells in zip(records, columns.cells, strict=True)
    ]
    align = [TEXT, *[NUMBER] * len(columns.varying), TEXT, NUMBER, TEXT, TEXT, TEXT, *[NUMBER] * 5]
    return [bullets(facts), table(heads, rows, align)]


def _errors(record: Record) -> list[str]:
    e = record.errors
    if e is None:
        return [numbers.ABSENT] * 5
    figures = (e.max_abs, e.rms_ratio, e.worst_row_rms_ratio, e.cos_diff)
    return [*(numbers.error_text(value) for value in figures), numbers.matched(e.matched)]
