"""Pieces that the functional and the performance page have in common."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import msgspec

from ..record import Environment, Record
from . import numbers
from .catalog import Catalog
from .coverage import AUTO, Coverage, incomplete
from .journals import Device
from .markdown import TEXT, bullets, escape, quote, table
from .texts import Texts

NAMES_SHOWN = 4
OPERATOR_NAMES = ("moe", "mla", "nsa")


@dataclass(frozen=True)
class Context:
    """What every page of a device is made with."""

    t: Texts
    catalog: Catalog
    device: Device
    title: str
    """Goes before each page's own title; may be empty."""

    def heading(self, kind: str) -> str:
        """Title of a page of this device."""
        page = self.t("page_of_device", title=self.t(kind), device=escape(self.device.name))
        return f"{escape(self.title)} {page}".strip()


def shown(names: Sequence[str], t: Texts) -> str:
    """The first few names, and how many more there are."""
    first = [f"`{name}`" for name in names[:NAMES_SHOWN]]
    more = len(names) - len(first)
    return t.listed(first) + (" " + t("and_more", n=more) if more else "")


def kernel_name(line: Coverage, t: Texts) -> str:
    if line.kernel == AUTO and line.parts:
        return t("auto", kernels=" + ".join(line.parts))
    return line.kernel


def incomplete_notice(lines: Sequence[Coverage], t: Texts) -> str:
    """The warning at the top of a page; empty if every suite is whole."""
    missing = [
        t(
            "incomplete_line", op=c.op, suite=c.suite, kernel=c.kernel,
            total=c.tally.total, missing=len(c.missing), names=shown(c.missing, t),
        )
        for c in incomplete(lines)
    ]  # fmt: skip
    return quote(f"{t('incomplete')}\n\n{bullets(missing)}") if missing else ""


def caveats(lines: Sequence[Coverage], superseded: int, t: Texts) -> str:
    """What a reader must know about the records behind a page."""
    found = [t("superseded", n=superseded)] if superseded else []
    for op, suite in dict.fromkeys((c.op, c.suite) for c in lines if c.expected is None):
        found.append(t("cannot_check", op=op, suite=suite))
    own = [c for c in lines if not c.parts]
    for op, suite in dict.fromkeys((c.op, c.suite) for c in own):
        extra = sum(len(c.extra) for c in own if (c.op, c.suite) == (op, suite))
        if extra:
            found.append(t("changed_cases", op=op, suite=suite, n=extra))
    for c in own:
        if len(c.shas) > 1:
            shas = t.listed([f"`{sha[:8]}`" for sha in c.shas])
            found.append(
                t("several_shas", kernel=c.kernel, op=c.op, suite=c.suite, n=len(c.shas), shas=shas)
            )
    return bullets(found)


# --- parameters ---------------------------------------------------------------------------------


INPUTS, OFFICIAL, STRICT = PREFIXES = ("inputs.", "official.", "strict.")


def fields(record: Record, catalog: Catalog) -> dict[str, Any]:
    """A record's parameters, and from its suite how inputs are drawn and what is tolerated."""
    case = catalog.case(record)
    if case is None:
        return dict(record.params)
    strict = case.spec.strict(case.params, case.dtype)
    return {
        **record.params,
        **{INPUTS + k: v for k, v in msgspec.to_builtins(case.recipe).items()},
        **{OFFICIAL + k: v for k, v in msgspec.to_builtins(case.tolerance).items()},
        **{STRICT + k: v for k, v in asdict(strict).items()},
    }


@dataclass(frozen=True)
class Columns:
    """The fields of some cases, split into what all share and what tells them apart."""

    shared: dict[str, Any]
    varying: tuple[str, ...]
    cells: tuple[list[str], ...]
    """The varying fields of each case."""


def columns(cases: Sequence[dict[str, Any]]) -> Columns:
    """Columns for a table of cases; a single case has its parameters in the table too."""
    names = list(dict.fromkeys(name for case in cases for name in case))
    values = {n: {numbers.parameter(case.get(n)) for case in cases} for n in names}
    several = len(cases) > 1
    shared = {
        n: cases[0].get(n)
        for n in names
        if len(values[n]) == 1 and (several or n.startswith(PREFIXES))
    }
    varying = tuple(n for n in names if n not in shared)
    cells = tuple([escape(numbers.parameter(case.get(n))) for n in varying] for case in cases)
    return Columns(shared, varying, cells)


def shared_texts(shared: dict[str, Any], t: Texts) -> list[str]:
    """Sentences that list the shared parameters, inputs and tolerances."""
    groups: dict[str, list[str]] = {}
    for name, value in shared.items():
        prefix = next((p for p in PREFIXES if name.startswith(p)), "params.")
        field, key = name.removeprefix(prefix), f"same_{prefix[:-1]}"
        if value is None:
            groups.setdefault("same_absent", []).append(f"`{field}`")
        else:
            groups.setdefault(key, []).append(f"`{field} = {numbers.parameter(value)}`")
    return [t(key, list=t.listed(items)) for key, items in groups.items()]


# --- environment --------------------------------------------------------------------------------


def environment(records: Iterable[Record], t: Texts) -> list[str]:
    """The environments the records come from: a table, and a sentence if there are several."""
    found: dict[bytes, list[Record]] = {}
    for record in records:
        found.setdefault(msgspec.json.encode(record.env), []).append(record)
    groups = list(found.values())
    if not groups:
        return []
    sides = [_described(group, t) for group in groups]
    rows = [[name, *(side[name] for side in sides)] for name in sides[0]]
    rows = [row for row in rows if any(cell != numbers.ABSENT for cell in row[1:])]
    heads = [t("item"), t("value")]
    if len(groups) > 1:
        heads = [t("item"), *(t("env_column", n=i) for i in range(1, len(groups) + 1))]
        rows.append([t("env_suites"), *(", ".join(_suites(group)) for group in groups)])
    blocks = [t("env_several", n=len(groups))] if len(groups) > 1 else []
    return [*blocks, table(heads, rows, [TEXT] * len(heads))]


def _suites(records: Iterable[Record]) -> list[str]:
    return list(dict.fromkeys(f"{r.op}/{r.suite}" for r in records))


def _described(group: Sequence[Record], t: Texts) -> dict[str, str]:
    record, runs = group[0], sorted({r.run for r in group})
    env = msgspec.structs.asdict(record.env)
    env["memory"] = f"{record.env.memory / 2**30:.1f} GiB"
    env["knobs"] = ", ".join(f"{k}={v}" for k, v in sorted(record.env.knobs.items())) or None
    cells = {t("env_device"): record.device, t("env_target"): record.target}
    cells |= {t(f"env_{name}"): env[name] for name in Environment.__struct_fields__}
    span = t("runs_value", first=runs[0], last=runs[-1], n=len(runs))
    cells[t("runs")] = span if len(runs) > 1 else runs[0]
    return {k: numbers.ABSENT if v is None else escape(str(v)) for k, v in cells.items()}


def sources(lines: Sequence[Coverage], t: Texts) -> str:
    """The kernels' source hashes."""
    shas = dict.fromkeys(
        f"{c.op}/{c.kernel} `{sha}`" for c in lines if not c.parts for sha in c.shas
    )
    return t("source_versions", list=t.listed(list(shas))) if shas else ""
