"""The commands that repeat what a report shows."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import Any

import msgspec

from ..case import Case, Suite
from ..record import Record
from .catalog import Catalog
from .coverage import Coverage

_RECIPE = ("inputs.", "recipe.")


def check(lines: Iterable[Coverage], catalog: Catalog) -> list[str]:
    """`mxbench check` for every suite and kernel, and for each changed case apart."""
    return _commands(lines, catalog, "check", [])


def perf(lines: Iterable[Coverage], catalog: Catalog) -> list[str]:
    """`mxbench perf` for every suite and kernel but the baseline, which runs beside them."""
    rule = ["--rule", catalog.rule.name]
    found = list(lines)
    others = [line for line in found if line.kernel != catalog.baseline]
    paired = {(line.op, line.suite) for line in found if line.kernel == catalog.baseline}
    alone = [line for line in found if line not in others and not _has_other(line, others)]
    commands = []
    for line in others:
        beside = (line.op, line.suite) in paired
        more = rule + (["--baseline", catalog.baseline] if beside else [])
        if {r.timing.mode for r in line.records if r.timing} == {"graph"}:
            more += ["--mode", "graph"]
        commands += _commands([line], catalog, "perf", more)
    return commands + _commands(alone, catalog, "perf", rule)


def _has_other(line: Coverage, others: list[Coverage]) -> bool:
    return any((line.op, line.suite) == (other.op, other.suite) for other in others)


def _commands(lines: Iterable[Coverage], catalog: Catalog, verb: str, more: list[str]) -> list[str]:
    commands: dict[str, None] = {}
    for line in lines:
        base = ["mxbench", verb, line.op, "--suite", line.suite]
        if line.records:
            kernel = _kernel(line.kernel, line.records[0])
            commands[shlex.join([*base, *kernel, *more])] = None
        for record in line.extra:
            changes = _changes(record, catalog.suite(line.op, line.suite))
            if changes is not None:
                words = [*base, *changes, *_kernel(line.kernel, record), *more]
                commands[shlex.join(words)] = None
    return list(commands)


def _kernel(name: str, record: Record) -> list[str]:
    return ["--kernel", name, "--target", record.target]


def _changes(record: Record, suite: Suite | None) -> list[str] | None:
    """`--case` and `--set` that make the record's case of the nearest one of the suite.

    None if the suite has no case of its contract, so that no command can be given.
    """
    cases = [case for case in suite.cases if case.contract == record.contract] if suite else []
    if not cases:
        return None
    nearest = min(cases, key=lambda case: len(_differences(record, case)))
    words = ["--case", nearest.name]
    for key, value in _differences(record, nearest).items():
        words += ["--set", f"{key}={_text(value)}"]
    for part in record.case.split("+")[1:]:  # inputs are no parameters, but the name shows them
        if part.startswith(_RECIPE):
            words += ["--set", part]
    return words


def _differences(record: Record, case: Case) -> dict[str, Any]:
    have = msgspec.json.decode(msgspec.json.encode(case.params))
    new = {k: v for k, v in record.params.items() if have.get(k) != v}
    return new if record.dtype == case.dtype else {**new, "dtype": record.dtype}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
