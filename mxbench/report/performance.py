"""The performance test report of one device."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

import msgspec

from ..record import Record
from . import analysis, commands, numbers, parts
from .coverage import Coverage
from .markdown import NUMBER, TEXT, Page, bullets, code, escape, image, table
from .measured import Measured, Timings, differing_environments, mean_speedup, speedups
from .parts import Context
from .tables import parameter_table, rate_table, time_table
from .texts import Texts

SuiteKey = tuple[str, str]


def render(
    context: Context, found: Timings, charts: Mapping[SuiteKey, Sequence[tuple[str, str]]]
) -> str:
    """The page as Markdown; `charts` are (caption, path) pairs of each (operator, suite)."""
    t = context.t
    page = Page(context.heading("performance_title"))
    if not found.all:
        page.add(*_nothing(context, found))
        return page.text()
    lines = found.found
    page.add(parts.incomplete_notice(lines, t), t("records_used", used=len(found.all)))
    page.add(bullets([t("verified"), *_left_out(found, t)]))
    page.heading(t("protocol"))
    page.add(*_protocol(context, found))
    page.heading(t("summary"))
    page.add(overview(context, found))
    page.add(t("overview_note", baseline=context.catalog.baseline) if context.catalog.baseline
             else t("overview_note_alone"))  # fmt: skip
    page.add(parts.caveats(lines, found.superseded, t), bullets(_pairs_differ(found, t)))
    page.add(*_untimed(lines, t))
    for (op, suite), group in groupby(lines, key=lambda line: (line.op, line.suite)):
        name = t(op) if op in parts.OPERATOR_NAMES else escape(op)
        page.heading(f"{name} · {escape(suite)}")
        _suite(page, list(group), context, found, charts.get((op, suite), ()))
    page.heading(t("environment"))
    page.add(*parts.environment((m.record for m in found.all), t), parts.sources(lines, t))
    page.heading(t("schedules"))
    page.add(*_schedules(found.all, t))
    page.heading(t("commands"))
    page.add(code(commands.perf([line for line in lines if not line.parts], context.catalog)))
    return page.text()


def _nothing(context: Context, found: Timings) -> list[str]:
    left_out = bullets(_left_out(found, context.t))
    return [left_out] if context.device.is_cpu and found.cpu else [nothing(context), left_out]


def nothing(context: Context) -> str:
    """Why there are no figures, where there are none."""
    if context.device.is_cpu:
        return context.t("cpu_only")
    return context.t("no_timings", rule=context.catalog.rule.name)


def _left_out(found: Timings, t: Texts) -> list[str]:
    """What is not on the page: timings of a CPU, and of other rules."""
    cpu = [t("cpu_excluded", n=found.cpu)] if found.cpu else []
    if found.replays:
        cpu.append(t("replays", n=found.replays))
    return cpu + [t("other_rule", n=n, rule=rule) for rule, n in sorted(found.other_rules.items())]


# --- protocol -----------------------------------------------------------------------------------


def _protocol(context: Context, found: Timings) -> list[str]:
    t, rule = context.t, context.catalog.rule
    timed = found.all
    counts = Counter((m.timing.warmup, m.timing.repeat) for m in timed)
    modes = Counter(m.timing.mode for m in timed)
    peaks = Counter(m.record.bound.peaks if m.record.bound else "" for m in timed)
    rows = [
        [t("rule"), f"`{rule.name}`: {escape(rule.title)}"],
        [t("counts"), t.listed([
            t("counts_value", warmup=w, repeat=r, n=n) for (w, r), n in sorted(counts.items())])],
        [t("clock"), t.listed([_clock(mode, n, t) for mode, n in sorted(modes.items())])],
        [t("aggregate"), t(f"aggregate_{rule.aggregate}")],
        [t("peaks"), t.listed([_peaks(name, n, t) for name, n in sorted(peaks.items())])],
        [t("device"), escape(context.device.name)],
    ]  # fmt: skip
    blocks = [table([t("item"), t("value")], rows, [TEXT, TEXT])]
    if deviating := _deviating(timed, context):
        names = parts.shown([m.record.id for m in deviating], t)
        blocks.append(t("deviating", n=len(deviating), names=names))
    if rule.ambiguities:
        points = bullets([escape(t.ambiguity(text)) for text in rule.ambiguities])
        blocks += [f"**{t('ambiguities')}**", points]
    return blocks


def _peaks(source: str, n: int, t: Texts) -> str:
    if not source:
        return t("peaks_none", n=n)
    return t("peaks_value", source=escape(t.peaks(source)), n=n)


def _clock(mode: str, n: int, t: Texts) -> str:
    known = mode in ("eager", "graph")
    return t(f"clock_{mode}", n=n) if known else t("clock_other", mode=escape(mode), n=n)


def _deviating(timed: Iterable[Measured], context: Context) -> list[Measured]:
    """Timings whose counts are not the rule's, so far as the rule can be read for them."""
    asked = ((m, context.catalog.counts(m.record)) for m in timed)
    return [m for m, counts in asked if counts and counts != (m.timing.warmup, m.timing.repeat)]


# --- summary ------------------------------------------------------------------------------------


def overview(context: Context, found: Timings) -> str:
    """A line for each suite and kernel: how much was timed, how fast it is."""
    t = context.t
    names = ("timed", "speedup_mean", "speedup_range", "faster", "share_median")
    heads = [t(name) for name in ("operator", "suite", "kernel", *names)]
    rows = [_overview_row(line, found.of(line), t) for line in found.found]
    return table(heads, rows, [TEXT] * 3 + [NUMBER] * 5)


def _overview_row(line: Coverage, group: Sequence[Measured], t: Texts) -> list[str]:
    mean, pairs = mean_speedup(group), speedups(group)
    shares = [m.share for m in group if m.share is not None]
    return [
        line.op,
        escape(line.suite),
        escape(parts.kernel_name(line, t)),
        f"{len(group)} / {line.tally.total + len(line.extra)}",
        numbers.ABSENT if mean is None else numbers.ratio(mean),
        numbers.span(numbers.ratio(min(pairs)), numbers.ratio(max(pairs)))
        if pairs
        else numbers.ABSENT,
        f"{sum(s > 1 for s in pairs)} / {len(pairs)}" if pairs else numbers.ABSENT,
        numbers.percent(statistics.median(shares)) if shares else numbers.ABSENT,
    ]


def _pairs_differ(found: Timings, t: Texts) -> list[str]:
    return [
        t("pairs_differ", op=op, suite=suite, kernel=kernel, n=n)
        for (op, suite, kernel), group in found.by_key.items()
        if (n := differing_environments(group))
    ]


def _untimed(lines: Sequence[Coverage], t: Texts) -> list[str]:
    """Cases that failed or were skipped under the rule."""
    records: list[Record] = [
        r for line in lines if not line.parts for r in (*line.records, *line.extra) if not r.passed
    ]
    if not records:
        return []
    heads = [t(name) for name in ("case", "kernel", "status", "reason")]
    rows = [[f"`{r.id}`", escape(r.kernel), r.status.value, escape(r.reason)] for r in records]
    return [f"**{t('untimed')}**", table(heads, rows, [TEXT] * 4)]


# --- one suite ----------------------------------------------------------------------------------


def _suite(
    page: Page,
    lines: Sequence[Coverage],
    context: Context,
    found: Timings,
    charts: Sequence[tuple[str, str]],
) -> None:
    t = context.t
    own = [line for line in lines if not line.parts]
    timed = [m for line in own for m in found.of(line)]
    if not timed:
        return
    timed.sort(key=lambda m: (context.catalog.place(m.record), m.record.case))
    page.heading(t("analysis"), 3)
    for line in lines:
        group = found.of(line)
        alone = len(own) == 1
        if group and (alone or line.kernel != context.catalog.baseline):
            against = bool(context.catalog.baseline) and line.kernel != context.catalog.baseline
            text = analysis.paragraph(group, t, against)
            page.add(f"**{escape(parts.kernel_name(line, t))}**: {text}")
    if charts:
        page.heading(t("charts"), 3)
        page.add(*(image(caption, path) for caption, path in charts))
    unit = numbers.unit_of([m.mean for m in timed])
    page.heading(t("times", unit=unit.name), 3)
    page.add(t("times_note"), time_table(timed, unit, t), bullets(_remarks(timed, t)))
    page.heading(t("rates"), 3)
    page.add(t("rates_note"), rate_table(timed, unit, t))
    page.heading(t("parameters"), 3)
    page.add(*parameter_table([m.record for m in timed], context))


def _remarks(timed: Sequence[Measured], t: Texts) -> list[str]:
    """The timer's own notes, each with the cases it is about."""
    notes: dict[str, list[tuple[str, str]]] = {}  # alike but for their figures -> (note, case)
    for m in timed:
        for note in (m.timing.graph_note, m.timing.kernel_only_note, *m.timing.notes):
            if note:
                case = f"{m.record.case} {m.record.kernel}"
                notes.setdefault(re.sub(r"\d[\d.e+-]*", "…", note), []).append((note, case))
    found = _grades(timed, t)
    for alike, group in notes.items():
        note = group[0][0] if len(group) == 1 else alike
        names = parts.shown([case for _, case in group], t)
        found.append(t("timing_note", note=escape(note), n=len(group), names=names))
    return found


def _grades(timed: Sequence[Measured], t: Texts) -> list[str]:
    """The unstable timings with their reasons, and how many are steady with a reservation."""
    graded = [(m, m.timing.grade) for m in timed if m.timing.grade is not None]
    if not graded:
        return []
    found = [
        t(
            "unstable",
            name=f"`{m.record.case} {m.record.kernel}`",
            tries=grade.tries,
            reasons=escape(t.listed(grade.reasons)),
        )
        for m, grade in graded
        if grade.unstable
    ]
    counts = Counter(grade.letter for _, grade in graded)
    return [t("grades", a=counts["A"], b=counts["B"], c=counts["C"]), *found]


def _schedules(timed: Sequence[Measured], t: Texts) -> list[str]:
    """The schedules that ran: program by program, with the number of cases."""
    count: Counter[tuple[str, str, str]] = Counter()
    for m in timed:
        for program, schedule in m.record.schedule.items():
            text = msgspec.json.encode(schedule).decode()
            count[f"{m.record.op}/{m.record.kernel}", program, text] += 1
    if not count:
        return [numbers.ABSENT]
    heads = [t("kernel"), t("program"), t("schedule"), t("cases")]
    rows = [[escape(k), escape(p), f"`{s}`", str(n)] for (k, p, s), n in sorted(count.items())]
    return [table(heads, rows, [TEXT, TEXT, TEXT, NUMBER])]
