"""Introductory slides of a device's results, as .pptx. Wraps python-pptx.

About ten: title, problem, bound, one of the schedule for each operator, steps, results, latency,
errors, limits. What is said in a speaker's words stands in the notes, taken from the design texts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import EXIT_ENVIRONMENT, MxbenchError
from ..package.archive import repack
from ..rules import ContestRule
from . import design_text, numbers
from .ablation import Ablation
from .coverage import Coverage, handed
from .functional import results
from .measured import Measured, mean_speedup
from .parts import OPERATOR_NAMES, kernel_name
from .slide_setting import Slide, present
from .summary import Section
from .texts import Texts

FILE = "slides.pptx"
NOTES = 900
"""Characters of design text in a slide's notes."""
MOST_ROWS = 13
CODE_LINES = 24
LONGEST = 110  # characters of a bullet
FLOOR = re.compile(r"下限|floor", re.IGNORECASE)
"""What has a slide of its own, among the bold words of a design text."""


def require() -> Any:
    """python-pptx; MxbenchError, exit code 3, without it."""
    try:
        import pptx
    except ModuleNotFoundError as error:
        raise MxbenchError(
            "--slides needs the package python-pptx, which is not installed",
            "pip install 'mxbench[slides]'",
            EXIT_ENVIRONMENT,
        ) from error
    return pptx


def write_all(out: Path, sections: Sequence[Section], title: str, t: Texts) -> list[Path]:
    """Slides for each GPU, in its folder.

    Raises:
        MxbenchError: exit code 2; no journal holds a GPU's timings.
    """
    written = []
    for section in sections:
        if section.context.device.is_cpu or not section.timings.all:
            continue
        folder = out / section.context.device.slug
        made = present(_slides(section, folder, title, t))
        path = folder / FILE
        made.save(str(path))
        repack(path)
        written.append(path)
    if not written:
        raise MxbenchError(
            "--slides: the journals hold no timing of a GPU, and a CPU's are no results",
            "run `mxbench perf` on a GPU, or leave --slides out",
        )
    return written


# --- what is said -------------------------------------------------------------------------------


def _slides(section: Section, folder: Path, title: str, t: Texts) -> list[Slide]:
    ops = list(dict.fromkeys(m.record.op for m in section.timings.all))
    texts = {op: _design(section, op, t) for op in ops}
    device = section.context.device.name
    found = [
        Slide(title or t("slides_title"), subtitle=device, notes=t("slides_intro", device=device)),
        _problem(ops, texts, section.context.catalog.rule, t),
        _bound(section, ops, folder, t),
        *(_schedule(op, texts[op], t) for op in ops),
        *_steps(section, folder, t),
        _results(section, t),
        *_latency(section, ops, folder, t),
        _function(section, folder, t),
        _limits(section, texts, t),
    ]
    return found


def _design(section: Section, op: str, t: Texts) -> str:
    path = design_text.path_of(section.context.catalog.workspace, op, t.language)
    return design_text.read(path) if path else ""


def _notes(text: str, *words: str) -> str:
    """Design paragraphs that have one of the words, else the first ones, within `NOTES`."""
    said = design_text.paragraphs(text)
    fitting = [p for p in said if any(word in p.lower() for word in words)] or said
    notes = ""
    for paragraph in fitting:
        plain = paragraph.replace("`", "").replace("**", "").replace("*", "")
        if len(notes) + len(plain) > NOTES:
            break
        notes += plain + "\n\n"
    return notes.strip() or fitting[0][:NOTES] if fitting else ""


def _name(op: str, t: Texts) -> str:
    return t(op) if op in OPERATOR_NAMES else op


def _problem(ops: Sequence[str], texts: dict[str, str], rule: ContestRule, t: Texts) -> Slide:
    bullets = [t(f"slides_problem_{op}") for op in ops if op in OPERATOR_NAMES]
    notes = "\n\n".join(_notes(texts[op])[: NOTES // len(ops)] for op in ops)
    return Slide(
        t("slides_problem"),
        [*bullets, t("slides_problem_rule")],
        _scores(ops, rule, t),
        notes=notes,
    )


def _scores(ops: Sequence[str], rule: ContestRule, t: Texts) -> list[list[str]]:
    """What the rule asks of each operator, and gives for it."""
    heads = [t("operator"), t("counts"), t("slides_points_function"), t("slides_points_rank")]
    rows = [heads]
    for op in ops:
        score = next((s for name, s in rule.scores.items() if name == op), None)
        if score is None:
            continue
        counts = [f"{rule.counts.default.warmup} / {rule.counts.default.repeat}"]
        counts += [f"{e.warmup} / {e.repeat} ({e.param} ≥ {e.min})"
                   for e in rule.counts.exceptions if e.op == op]  # fmt: skip
        ranks = f"{max(score.ranks):g}" if score.ranks else numbers.ABSENT
        rows.append([op, t.listed(counts), f"{score.function:g}", ranks])
    return rows if len(rows) > 1 else []


def _bound(section: Section, ops: Sequence[str], folder: Path, t: Texts) -> Slide:
    """Floors of the largest case of each operator, beside a roofline."""
    rows = [[t("operator"), t("case"), "FLOP/B", t("limit"), t("slides_floor"), t("share")]]
    for op in ops:
        bounded = [m for m in section.timings.all if m.record.op == op and m.floor]
        if bounded:
            m = max(bounded, key=lambda m: (m.floor or 0.0, m.share or 0.0))
            work = m.record.work
            rows.append([
                op, m.record.case, numbers.significant(work.flops / max(work.bytes, 1), 3),
                t(f"is_{m.limit}"), numbers.time_text(m.floor or 0.0),
                numbers.percent(m.share or 0.0),
            ])  # fmt: skip
    pictures = _charts(section, folder, "roofline", ops)
    return Slide(t("slides_bound"), rows=rows, pictures=pictures, notes=t("slides_bound_notes"))


def _schedule(op: str, text: str, t: Texts) -> Slide:
    code = next(iter(design_text.pseudocode(text)), "")
    code = re.sub(r" {3,}#", "  #", code)  # comments in a column of their own make long lines
    lines = code.split("\n")
    if len(lines) > CODE_LINES:
        code = "\n".join([*lines[: CODE_LINES - 1], "..."])
    leads = [pair for pair in design_text.leads(text) if not FLOOR.search(pair[0])]
    bullets = [_lead(*pair) for pair in leads[: 6 if code else 7]]
    bullets = bullets or [_shortened(p) for p in design_text.paragraphs(text)[:5]]
    notes = _notes(text, "tile", "warp", "分块", "流水")
    return Slide(t("slides_schedule", op=_name(op, t)), bullets, code=code, notes=notes)


def _lead(bold: str, rest: str) -> str:
    """What a paragraph begins with, and its first sentence."""
    first = re.split(r"(?<=[。；])|(?<=[.;]) ", rest, maxsplit=1)[0].lstrip(" .:：。")
    return _shortened(f"{bold}: {first}" if first else bold)


def _shortened(text: str) -> str:
    plain = text.replace("`", "").replace("*", "").rstrip("；;")
    return plain if len(plain) <= LONGEST else plain[: LONGEST - 1] + "…"


def _steps(section: Section, folder: Path, t: Texts) -> list[Slide]:
    steps = list(section.drawn.steps.items())
    pictures = [_png(section, folder, op, "ablation") for op, _ in steps]
    found = [p for p in pictures if p]
    if not found:
        return []
    gains = [t("slides_gain", op=op, **_gain(made)) for op, made in steps]
    return [Slide(t("slides_steps"), gains, pictures=found, notes="\n".join(gains))]


def _gain(made: Ablation) -> dict[str, str]:
    last = made.steps[-1]
    gains = [g for case in made.cases if (g := made.gain(case, last))]
    return {
        "first": made.label(made.steps[0]),
        "last": made.label(last),
        "low": numbers.ratio(min(gains, default=1.0)),
        "high": numbers.ratio(max(gains, default=1.0)),
    }


def _results(section: Section, t: Texts) -> Slide:
    """A row for each suite, of the kernel that is handed in."""
    heads = ("operator", "suite", "kernel", "timed", "speedup_mean", "share_median")
    rows = [[t(name) for name in heads]]
    rows += [_result(line, section.timings.of(line), t) for line in _timed(section)[:MOST_ROWS]]
    return Slide(t("slides_results"), rows=rows, notes=t("slides_results_notes"))


def _timed(section: Section) -> list[Coverage]:
    """The lines of what is handed in that hold timings."""
    timings = section.timings
    return [line for line in handed(timings.found, section.context.catalog) if timings.of(line)]


def _result(line: Coverage, group: Sequence[Measured], t: Texts) -> list[str]:
    mean, shares = mean_speedup(group), sorted(m.share for m in group if m.share is not None)
    return [
        line.op,
        line.suite,
        kernel_name(line, t),
        f"{len(group)} / {line.tally.total + len(line.extra)}",
        numbers.ratio(mean) if mean else numbers.ABSENT,
        numbers.percent(shares[len(shares) // 2]) if shares else numbers.ABSENT,
    ]


def _latency(section: Section, ops: Sequence[str], folder: Path, t: Texts) -> list[Slide]:
    pictures = _charts(section, folder, "latency", ops)
    return [
        Slide(t("slides_latency"), pictures=pictures, notes=t("times_note")),
    ] if pictures else []  # fmt: skip


def _function(section: Section, folder: Path, t: Texts) -> Slide:
    """Verdicts, and the distribution of errors."""
    found = handed(results(section.context)[0], section.context.catalog)
    lines = [line for line in found if line.tally.total]
    passed = sum(c.tally.passed for c in lines)
    total = sum(c.tally.total for c in lines)
    strict = sum(c.tally.strict for c in lines)
    bullets = [
        t("slides_passed", passed=passed, total=total, rate=numbers.pass_rate(passed, total)),
        t("slides_strict", strict=strict, total=total),
    ]
    pictures = [
        Path(folder / path).with_suffix(".png") for _, path in section.drawn.errors.values()
    ]
    return Slide(t("slides_function"), bullets, pictures=pictures, notes=t("metrics"))


def _limits(section: Section, texts: dict[str, str], t: Texts) -> Slide:
    bullets = [t("slides_limit_device", device=section.context.device.name)]
    lines = _timed(section)
    for op in texts:
        bounded = [m for line in lines if line.op == op
                   for m in section.timings.of(line) if m.share]  # fmt: skip
        if bounded:
            worst = min(bounded, key=lambda m: m.share or 1.0)
            share = numbers.percent(worst.share or 0.0)
            time = numbers.time_text(worst.mean)
            bullets.append(t("slides_limit", op=op, case=worst.record.case, share=share, mean=time))
    bullets += [t.ambiguity(text) for text in section.context.catalog.rule.ambiguities[:2]]
    notes = "\n\n".join(_notes(text, "limit", "wait", "where the rest", "不足", "剩余")[:400]
                        for text in texts.values())  # fmt: skip
    return Slide(t("slides_limits"), bullets, notes=notes)


def _charts(section: Section, folder: Path, kind: str, ops: Sequence[str]) -> list[Path]:
    """The first chart of a kind of each operator; those of its performance suite before others."""
    found = []
    for op in ops:
        mine = [path for (o, s), charts in sorted(section.drawn.suites.items(), key=_performance)
                for _, path in charts if o == op and f"-{kind}" in path]  # fmt: skip
        found += mine[:1]
    return [(folder / path).with_suffix(".png") for path in found]


def _performance(item: tuple[tuple[str, str], Any]) -> tuple[bool, str]:
    (_, suite), _ = item
    return suite != "performance", suite


def _png(section: Section, folder: Path, op: str, kind: str) -> Path | None:
    chart = section.drawn.operators.get((op, kind))
    return (folder / chart[1]).with_suffix(".png") if chart else None
