"""`cases/schema.json`, generated from the types that read suite files.

`python -m mxbench.schema` writes it anew; a test fails when it is out of date. Editors that know
JSON Schema then complete and check suite files, which name it as their "$schema". What only
`__post_init__` can tell (top_k > n_experts and the like), the schema does not know.
"""

from __future__ import annotations

import inspect
import json
from typing import Any

import msgspec

from . import workspace
from .ops import OPERATORS
from .ops.base import Operator, Tolerance
from .suitefile import CaseDefaults, CaseEntry, SuiteFile, Timing

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_REF = "#/$defs/{name}"

Schema = dict[str, Any]


def build() -> Schema:
    """The schema of a suite file of any operator."""
    definitions: Schema = {}
    for op in OPERATORS.values():
        definitions |= _operator_definitions(op)
    shared = _components(SuiteFile, Tolerance, Timing)
    suite = shared.pop("SuiteFile")
    definitions |= shared
    suite["title"] = "A suite of mxbench cases"
    # What an operator narrows: the contracts, and the types of `params` and `inputs`.
    suite["properties"]["op"] = {"enum": list(OPERATORS)}
    suite["properties"]["cases"] = {"type": "array", "minItems": 1}
    suite["allOf"] = [
        _when(
            {"op": {"const": name}},
            {"defaults": _ref(f"{name}-defaults"), "cases": {"items": _ref(f"{name}-case")}},
        )
        for name in OPERATORS
    ]
    return {"$schema": DIALECT, **suite, "$defs": definitions}


def _components(*kinds: type) -> Schema:
    """The definitions of the structs, by name, with their docstrings unindented."""
    _, found = msgspec.json.schema_components(kinds, ref_template=_REF)
    for schema in found.values():
        schema["description"] = inspect.cleandoc(schema["description"])
    return found


def _ref(name: str) -> Schema:
    return {"$ref": _REF.format(name=name)}


def _when(properties: Schema, then: Schema) -> Schema:
    """Objects with these properties also have those."""
    condition = {"properties": properties, "required": list(properties)}
    return {"if": condition, "then": {"properties": then}}


def _operator_definitions(op: Operator) -> Schema:
    """`<op>-case`, `<op>-defaults`, and the types of the parts that the contract decides."""
    found: Schema = {}
    per_contract = []
    parts: dict[str, list[Schema]] = {"params": [], "inputs": []}
    for spec in op.contracts.values():
        names = {"params": spec.params.__name__, "inputs": spec.recipe.__name__}
        found |= _components(spec.params, spec.recipe)
        per_contract.append(
            _when({"contract": {"const": spec.name}}, {p: _ref(n) for p, n in names.items()})
        )
        for part, name in names.items():
            # A case may leave to `defaults` what its parameters require.
            found[name].pop("required", None)
            parts[part].append(found[name])
    for kind, title in ((CaseEntry, "case"), (CaseDefaults, "defaults")):
        body = _components(kind)[kind.__name__]
        body["title"] = f"{op.name}-{title}"
        body["properties"] |= {
            "contract": {"enum": list(op.contracts)},
            "tolerance": _ref("Tolerance"),
            "timing": _ref("Timing"),
            **{part: _any_of(kinds) for part, kinds in parts.items()},
        }
        if kind is CaseEntry:
            body["allOf"] = per_contract
        found[body["title"]] = body
    return found


def _any_of(kinds: list[Schema]) -> Schema:
    """An object with the properties of several: defaults may serve more than one contract."""
    merged: dict[str, list[Schema]] = {}
    for kind in kinds:
        for name, schema in kind["properties"].items():
            bare = {key: value for key, value in schema.items() if key != "default"}
            if bare not in merged.setdefault(name, []):
                merged[name].append(bare)
    properties = {k: v[0] if len(v) == 1 else {"anyOf": v} for k, v in merged.items()}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def text() -> str:
    """The schema as the file holds it."""
    return json.dumps(build(), indent=2) + "\n"


if __name__ == "__main__":
    (workspace.find().cases / "schema.json").write_text(text(), encoding="utf-8")
