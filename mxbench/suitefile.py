"""The format of `cases/<op>/<suite>.json`: read a file, merge its defaults, check every field.

A suite file is one JSON object (`cases/schema.json` describes it to editors):

    {"schema": 1, "op": "nsa", "suite": "smoke", "source": "where the cases come from",
     "defaults": {"contract": "selected", "tolerance": {"atol": 0.01, "rtol": 0.01}},
     "cases": [{"params": {"batch": 1, "seqlen": 64, "...": 0}, "inputs": {"pattern": "local"}}]}

A case has the same optional keys as `defaults`, plus `name`. Its keys replace those of `defaults`;
`params` and `inputs` are merged field by field.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from . import jsonfile
from .errors import nearest
from .jsonfile import Source
from .ops import operator
from .ops.base import Contract, Dtype, Params, Recipe, Tolerance

# No glob characters and no slash: a name is matched by --case and is the last part of an id.
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._+=-]*$"


class Timing(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How often a rule calls the kernel: untimed, then timed."""

    warmup: Annotated[int, msgspec.Meta(ge=0)]
    repeat: Annotated[int, msgspec.Meta(ge=1)]


class CaseDefaults(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a case says, or the `defaults` of its file for it; typed once the contract is known."""

    contract: str | None = None
    dtype: Dtype | None = None
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] | None = None
    params: dict[str, Any] = {}
    inputs: dict[str, Any] = {}
    tolerance: dict[str, Any] | None = None
    timing: dict[str, Any] | None = None


class CaseEntry(CaseDefaults, frozen=True, kw_only=True):
    """One object of the list `cases`."""

    name: Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)] | None = None


class SuiteFile(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    kw_only=True,
    rename={"link": "$schema"},
):
    """A whole suite file before its cases are merged and typed."""

    schema: Literal[1]
    op: str
    suite: str
    source: Annotated[str, msgspec.Meta(min_length=1)]
    """Where the cases come from, in words."""
    defaults: dict[str, Any] = {}
    cases: list[Any]
    link: str = ""
    """Path of schema.json, for editors."""


@dataclass(frozen=True)
class Body:
    """One case as its file says it, defaults merged in and everything checked."""

    name: str
    contract: str
    params: Params
    dtype: Dtype
    seed: int
    recipe: Recipe
    tolerance: Tolerance
    timing: Timing | None = None


def read(file: Path, op: str, suite: str, shown: str) -> tuple[str, list[Body]]:
    """The source and the cases of `file`, which must say that it is `suite` of operator `op`.

    MxbenchError names `shown`, the path in the document and what was expected there.
    """
    top = Source(shown)
    said = jsonfile.convert(jsonfile.read(file, shown), SuiteFile, top)
    for field, value, due in (("op", said.op, op), ("suite", said.suite, suite)):
        if value != due:
            raise (top / field).error(f"expected {due!r}, as in the file's path, got {value!r}")
    if not said.cases:
        raise (top / "cases").error("the list is empty", "a suite needs at least one case")
    defaults = jsonfile.convert(said.defaults, CaseDefaults, top / "defaults")
    reader = _Reader(op, top, defaults)
    reader.check_defaults()
    entries = [
        jsonfile.convert(raw, CaseEntry, top / "cases" / i) for i, raw in enumerate(said.cases)
    ]
    bodies = [reader.body(entry, top / "cases" / i) for i, entry in enumerate(entries)]
    return said.source, _named(bodies, entries, defaults, top)


@dataclass(frozen=True)
class _Reader:
    """Merges the entries of one file over its defaults."""

    op: str
    top: Source
    defaults: CaseDefaults

    def check_defaults(self) -> None:
        """Every default must mean something to some contract, or a typo would pass unseen."""
        contracts = operator(self.op).contracts.values()
        for part, kinds in (
            ("params", [spec.params for spec in contracts]),
            ("inputs", [spec.recipe for spec in contracts]),
        ):
            known = {field for kind in kinds for field in jsonfile.fields(kind)}
            for field in getattr(self.defaults, part):
                if field not in known:
                    at = self.top / "defaults" / part / field
                    raise at.error("unknown field", nearest(field, known))

    def body(self, entry: CaseEntry, at: Source) -> Body:
        """The entry over the defaults; its name is still empty if the file gives none."""
        spec = self._contract(entry, at)
        tolerance = self._whole("tolerance", entry, Tolerance, at)
        if tolerance is None:
            raise (at / "tolerance").error("missing", "give it here or in defaults")
        return Body(
            name=entry.name or "",
            contract=spec.name,
            params=self._merged("params", entry, spec.params, at),
            dtype=entry.dtype or self.defaults.dtype or "float16",
            seed=entry.seed if entry.seed is not None else self.defaults.seed or 0,
            recipe=self._merged("inputs", entry, spec.recipe, at),
            tolerance=tolerance,
            timing=self._whole("timing", entry, Timing, at),
        )

    def _contract(self, entry: CaseEntry, at: Source) -> Contract:
        contracts = operator(self.op).contracts
        name = entry.contract or self.defaults.contract
        if name is None:
            raise (at / "contract").error("missing", f"expected one of: {', '.join(contracts)}")
        if name not in contracts:
            place = at if entry.contract else self.top / "defaults"
            raise (place / "contract").error(
                f"operator {self.op} has no contract {name!r}", nearest(name, contracts)
            )
        return contracts[name]

    def _whole(self, part: str, entry: CaseEntry, kind: type[Any], at: Source) -> Any:
        """A part that a case replaces as a whole; None if neither it nor the defaults have it."""
        for place, owner in ((at, entry), (self.top / "defaults", self.defaults)):
            if (value := getattr(owner, part)) is not None:
                return jsonfile.convert(value, kind, place / part)
        return None

    def _merged(self, part: str, entry: CaseEntry, kind: type[Any], at: Source) -> Any:
        """A part merged field by field; a default this contract does not know is for another."""
        own, known = getattr(entry, part), jsonfile.fields(kind)
        default = {k: v for k, v in getattr(self.defaults, part).items() if k in known}
        written = self.top / "defaults" / part
        places = {field: written / field for field in default if field not in own}
        return jsonfile.convert(default | own, kind, at / part, places)


def _named(
    bodies: list[Body], entries: list[CaseEntry], defaults: CaseDefaults, top: Source
) -> list[Body]:
    """The cases with their names filled in; two of one name are an error."""
    mixed = len({body.contract for body in bodies}) > 1
    named = [
        body if body.name else replace(body, name=_default_name(body, entry, defaults, mixed))
        for body, entry in zip(bodies, entries, strict=True)
    ]
    for name, count in Counter(body.name for body in named).items():
        if count > 1:
            first, second, *_ = (i for i, body in enumerate(named) if body.name == name)
            raise (top / "cases" / second).error(
                f"is called {name!r}, as $.cases[{first}] is", 'give one of them another "name"'
            )
    return named


def _default_name(body: Body, entry: CaseEntry, defaults: CaseDefaults, mixed: bool) -> str:
    """`[contract-]label[-bf16][-recipe]`; the recipe where the case changes the file's own."""
    parts = [body.contract] if mixed else []
    parts.append(body.params.label())
    if body.dtype == "bfloat16":
        parts.append("bf16")
    for field, value in entry.inputs.items():
        if value != defaults.inputs.get(field):
            plain = isinstance(value, str) and value.replace("_", "").isalnum()
            parts.append(value if plain else name_part(field, value))
    return "-".join(parts)


def name_part(field: str, value: Any) -> str:
    """`field=value` in the characters a name may have."""
    return f"{field}={re.sub(r'[^A-Za-z0-9._+-]', '', str(value))}"
