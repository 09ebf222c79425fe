"""The tables of the performance report."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..record import Record
from . import numbers, parts
from .markdown import NUMBER, TEXT, bullets, escape, table
from .measured import Measured
from .numbers import ABSENT, Unit
from .parts import Context
from .texts import Texts

UNSTABLE = "⚠"
TIMES = (
    "mean", "grade", "per_call", "ci95", "median", "p10", "p90", "min", "std", "outliers", "host",
    "graph", "kernel_only", "cold_l2", "launch", "first_call",
)  # fmt: skip


def time_table(timed: Sequence[Measured], unit: Unit, t: Texts) -> str:
    """Every way each case was timed; columns that no case has are left out."""
    cells = [_times(m, unit) for m in timed]
    kept = [name for name in TIMES if any(row[name] != ABSENT for row in cells)]
    heads = [t("case"), t("kernel"), t("repeat"), *(t(name) for name in kept)]
    rows = [
        [f"`{m.record.case}`", _kernel(m), str(m.timing.repeat)] + [row[name] for name in kept]
        for m, row in zip(timed, cells, strict=True)
    ]
    return table(heads, rows, [TEXT, TEXT, NUMBER, *[NUMBER] * len(kept)])


def _kernel(m: Measured) -> str:
    """The kernel, with the way it was timed if that is not by calls."""
    mode = m.timing.mode
    return escape(m.record.kernel if mode == "eager" else f"{m.record.kernel} ({mode})")


def flag(m: Measured) -> str:
    """What marks an unstable time wherever it stands; empty for another."""
    return f" {UNSTABLE}" if m.timing.grade is not None and m.timing.grade.unstable else ""


def _times(m: Measured, unit: Unit) -> dict[str, str]:
    timing, text = m.timing, unit.text
    interval = timing.ci95
    return {
        "mean": f"**{text(timing.mean)}**",
        "grade": ABSENT if timing.grade is None else timing.grade.letter + flag(m),
        "per_call": text(timing.per_call_mean),
        "ci95": ABSENT if interval is None else f"[{text(interval[0])}, {text(interval[1])}]",
        "outliers": ABSENT if timing.outliers is None else str(timing.outliers),
        "std": text(timing.std, 3),
        "launch": text(timing.launch, 3),
        **{
            name: text(getattr(timing, name))
            for name in TIMES
            if name not in ("mean", "grade", "per_call", "ci95", "outliers", "std", "launch")
        },
    }


def rate_table(timed: Sequence[Measured], unit: Unit, t: Texts) -> str:
    """Rates, floors and speed-ups."""
    heads = [t("case"), t("kernel"), t("mean"), t("tflops"), t("gbps"), t("floor", unit=unit.name)]
    heads += [t("share"), t("limit"), t("speedup")]
    rows = [
        [
            f"`{m.record.case}`",
            _kernel(m),
            unit.text(m.mean) + flag(m),
            numbers.significant(m.tflops, 3),
            numbers.significant(m.gbps, 3),
            unit.text(m.floor),
            _or_absent(m.share, numbers.percent),
            t(f"is_{m.limit}") if m.limit else ABSENT,
            _or_absent(m.speedup, numbers.ratio),
        ]
        for m in timed
    ]
    return table(heads, rows, [TEXT, TEXT, *[NUMBER] * 5, TEXT, NUMBER])


def _or_absent(value: float | None, text: Callable[[float], str]) -> str:
    return ABSENT if value is None else text(value)


def parameter_table(records: Sequence[Record], context: Context) -> list[str]:
    """All parameters of every case, once for each contract."""
    t = context.t
    cases = {(r.case, r.dtype, str(r.params)): r for r in records}
    contracts = dict.fromkeys(r.contract for r in cases.values())
    blocks = []
    for contract in contracts:
        group = [r for r in cases.values() if r.contract == contract]
        columns = parts.columns([parts.fields(r, context.catalog) for r in group])
        heads = [t("case"), *columns.varying, t("dtype"), t("seed"), "FLOP", "B"]
        rows = [
            [f"`{r.case}`", *cells, r.dtype, str(r.seed), *_work(r)]
            for r, cells in zip(group, columns.cells, strict=True)
        ]
        align = [TEXT, *[NUMBER] * len(columns.varying), TEXT, NUMBER, NUMBER, NUMBER]
        facts = bullets([f"{t('contract')}: `{contract}`", *parts.shared_texts(columns.shared, t)])
        blocks += [facts, table(heads, rows, align)]
    return blocks


def _work(record: Record) -> list[str]:
    work = record.work
    return [numbers.amount(work.flops, "").strip(), numbers.amount(work.bytes, "").strip()]
