"""Cases and suites: what they are, and how to load, pick and change them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import msgspec

from . import jsonfile, suitefile
from .errors import MxbenchError, nearest
from .jsonfile import Source
from .ops import contract as find_contract
from .ops import operator
from .ops.base import Contract, Dtype, Params, Recipe, Tolerance, Work
from .suitefile import CaseDefaults, Timing, name_part
from .workspace import Workspace

T = TypeVar("T")

SUITE_ORDER = ("smoke", "functional", "performance", "judge", "models", "edge")


@dataclass(frozen=True)
class Case:
    """One contract with all its parameters, a dtype, a seed and an input recipe."""

    op: str
    suite: str
    name: str
    contract: str
    params: Params
    dtype: Dtype
    seed: int
    recipe: Recipe
    tolerance: Tolerance
    timing: Timing | None = None
    origin: str = ""
    """The name in the suite file where `override` changed the case, else empty."""
    changes: tuple[str, ...] = ()
    """What `override` changed, as `key=value` (what `--set` takes)."""

    @property
    def id(self) -> str:
        return f"{self.op}/{self.suite}/{self.name}"

    @property
    def spec(self) -> Contract:
        return find_contract(self.op, self.contract)

    @property
    def work(self) -> Work:
        """Least FLOPs and bytes of one call."""
        return self.spec.work(self.params)

    @property
    def footprint(self) -> int:
        """Bytes of all tensors of one call."""
        return self.spec.footprint(self.params)

    def encode(self) -> bytes:
        """One line of JSON for the worker's pipe."""
        return msgspec.json.encode(self)

    @staticmethod
    def decode(data: bytes) -> Case:
        """The case that `encode` wrote."""
        fields = msgspec.json.decode(data)
        spec = find_contract(fields["op"], fields["contract"])
        fields["params"] = msgspec.convert(fields["params"], spec.params)
        fields["recipe"] = msgspec.convert(fields["recipe"], spec.recipe)
        fields["tolerance"] = msgspec.convert(fields["tolerance"], Tolerance)
        fields["timing"] = msgspec.convert(fields["timing"], Timing | None)
        fields["changes"] = tuple(fields["changes"])
        return Case(**fields)


@dataclass(frozen=True)
class Suite:
    """A named set of cases of one operator."""

    op: str
    name: str
    source: str
    cases: tuple[Case, ...]


def suite_names(workspace: Workspace, op: str) -> list[str]:
    """The suites of operator `op`: the well-known ones in their usual order, then the others."""
    found = {file.stem for file in (workspace.cases / operator(op).name).glob("*.json")}
    return [name for name in SUITE_ORDER if name in found] + sorted(found.difference(SUITE_ORDER))


def load_suite(workspace: Workspace, op: str, name: str) -> Suite:
    """Suite `name` of operator `op`, every case checked.

    MxbenchError (exit code 2) naming the nearest suite, or the file and the place in it.
    """
    names = suite_names(workspace, op)
    if name not in names:
        raise MxbenchError(f"operator {op} has no suite {name!r}", nearest(name, names))
    file = workspace.cases / op / f"{name}.json"
    shown = file.relative_to(workspace.root) if file.is_relative_to(workspace.root) else file
    source, bodies = suitefile.read(file, op, name, str(shown))
    cases = tuple(Case(op=op, suite=name, **vars(body)) for body in bodies)
    return Suite(op, name, source, cases)


def select(
    cases: Iterable[Case], glob: str | None = None, contract: str | None = None
) -> list[Case]:
    """The cases whose name or id matches `glob` and that are of `contract`.

    MxbenchError naming the nearest case or contract if none is left.
    """
    chosen = list(cases)
    if contract is not None:
        known = {case.contract for case in chosen}
        chosen = [case for case in chosen if case.contract == contract]
        if not chosen:
            raise MxbenchError(f"no case has contract {contract!r}", nearest(contract, known))
    if glob is not None:
        names = [case.name for case in chosen]
        chosen = [case for case in chosen if _matches(case, glob)]
        if not chosen:
            raise MxbenchError(f"no case matches {glob!r}", nearest(glob, names))
    return chosen


def _matches(case: Case, glob: str) -> bool:
    return fnmatchcase(case.name, glob) or fnmatchcase(case.id, glob)


def shape_changes(
    op: str, seqlen: int | None = None, batch: int | None = None, tokens: int | None = None
) -> dict[str, Any]:
    """What the options --seqlen, --batch and --tokens change in the cases of operator `op`."""
    changes: dict[str, Any] = {}
    if tokens is not None:
        if op != "moe":
            raise MxbenchError(f"{op} has no --tokens", "it is moe's; use --seqlen or --batch")
        if seqlen is not None or batch is not None:
            raise MxbenchError("--tokens contradicts --seqlen and --batch", "give one or the other")
        changes |= {"batch": 1, "seqlen": tokens}
    if seqlen is not None:
        changes["kv_ctx" if op == "mla" else "seqlen"] = seqlen
    if batch is not None:
        changes["batch"] = batch
    return changes


def override(case: Case, changes: Mapping[str, Any]) -> Case:
    """The case with some values changed, checked as if the suite file had said so.

    Keys are parameters, `dtype`, `seed`, or `inputs.<field>` (also `recipe.<field>`) for the
    input recipe. Strings, as `--set` gives them, are read as JSON where they are JSON, so
    `"64"` is a number and `"null"` takes an optional parameter away. The name shows the change.
    MxbenchError for an unknown key (with the nearest one) or a value that is not valid.
    """
    params: dict[str, Any] = msgspec.to_builtins(case.params)
    recipe: dict[str, Any] = msgspec.to_builtins(case.recipe)
    common: dict[str, Any] = {"dtype": case.dtype, "seed": case.seed}
    for key, raw in changes.items():
        prefix, _, field = key.rpartition(".")
        group = recipe if prefix in ("inputs", "recipe") else common if key in common else params
        field = field if group is recipe else key
        if field not in group:
            known = [*params, *common, *(f"inputs.{name}" for name in recipe)]
            raise MxbenchError(f"{case.id} has no parameter {key!r}", nearest(key, known))
        group[field] = _parsed(raw)
    checked = _checked(common, CaseDefaults, Source(case.id))
    changed = replace(
        case,
        params=_checked(params, case.spec.params, Source(case.id, "params")),
        recipe=_checked(recipe, case.spec.recipe, Source(case.id, "inputs")),
        dtype=checked.dtype or case.dtype,
        seed=case.seed if checked.seed is None else checked.seed,
        origin=case.origin or case.name,
        changes=case.changes + tuple(f"{key}={_text(value)}" for key, value in changes.items()),
    )
    return replace(changed, name=_changed_name(case, changed, changes))


def _checked(values: dict[str, Any], kind: type[T], at: Source) -> T:
    """The typed values; a fault may come from the change or from the case it does not fit."""
    try:
        return jsonfile.convert(values, kind, at)
    except MxbenchError as error:
        error.hint = error.hint or "--case and --contract choose the cases that a change fits"
        raise


def _parsed(value: Any) -> Any:
    """A string as the JSON value it spells, if it spells one."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _text(value: Any) -> str:
    """The string that `_parsed` reads back as `value`."""
    return value if isinstance(value, str) else json.dumps(value)


def _changed_name(old: Case, new: Case, changes: Mapping[str, Any]) -> str:
    """The old name with the new label for the old one, and what no label shows behind a `+`."""
    before, after = old.params.label(), new.params.label()
    relabelled = before != after and before in old.name
    parts = [old.name.replace(before, after) if relabelled else old.name]
    for key, value in changes.items():
        if not (relabelled and key in msgspec.to_builtins(old.params)):
            parts.append(name_part(key, value))
    return "+".join(parts)
