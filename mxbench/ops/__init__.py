"""The three operators by name. Importing them never imports torch."""

from __future__ import annotations

from ..errors import MxbenchError, nearest
from .base import Contract, Operator
from .mla import MLA
from .moe import MOE
from .nsa import NSA

OPERATORS: dict[str, Operator] = {op.name: op for op in (MOE, MLA, NSA)}


def operator(name: str) -> Operator:
    """The operator called `name`; MxbenchError with the nearest name if there is none."""
    if name not in OPERATORS:
        raise MxbenchError(f"unknown operator {name!r}", nearest(name, OPERATORS))
    return OPERATORS[name]


def contract(op: str, name: str) -> Contract:
    """The contract `name` of operator `op`; MxbenchError with the nearest name if none."""
    contracts = operator(op).contracts
    if name not in contracts:
        raise MxbenchError(f"operator {op} has no contract {name!r}", nearest(name, contracts))
    return contracts[name]
