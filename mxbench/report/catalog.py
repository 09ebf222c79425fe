"""The suites a report is about: their cases, and which one a record is a result of."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import msgspec

from .. import kernel as kernels
from ..case import SUITE_ORDER, Case, Suite, load_suite
from ..errors import MxbenchError
from ..kernel import Kernel
from ..lint.tree import lint_kernels
from ..ops import OPERATORS
from ..ops import contract as find_contract
from ..ops.base import Params, Tolerance
from ..record import Record
from ..rules import ContestRule
from ..workspace import Workspace


class Catalog:
    """Suites, rule and profiles of a workspace, each file read once."""

    def __init__(self, workspace: Workspace, rule: ContestRule) -> None:
        self.rule = rule
        self.workspace = workspace
        self._suites: dict[tuple[str, str], Suite | None] = {}
        self._kernels: dict[tuple[str, str], Kernel | None] = {}

    @cached_property
    def baseline(self) -> str:
        """The kernel that speed-ups are taken over; empty if the rule names none."""
        return self.rule.gate.faster_than or ""

    def suite(self, op: str, name: str) -> Suite | None:
        """The suite, or None if the workspace has none of that name, or a faulty one."""
        if (op, name) not in self._suites:
            try:
                self._suites[op, name] = load_suite(self.workspace, op, name)
            except MxbenchError:
                self._suites[op, name] = None
        return self._suites[op, name]

    def case(self, record: Record) -> Case | None:
        """The suite's case that `record` is a result of; another seed is the same case.

        None if the suite is unknown, or has no case of that name, contract, dtype and parameters.
        """
        suite = self.suite(record.op, record.suite)
        for case in suite.cases if suite else ():
            if case.name == record.case:
                same = (case.contract, case.dtype) == (record.contract, record.dtype)
                return case if same and case.params == params_of(record) else None
        return None

    def served_by(self, case: Case, target: str) -> str | None:
        """The kernel that `--kernel auto` takes for a case on a target."""
        try:
            return kernels.dispatch(self.workspace, case.op, case.contract, target)
        except MxbenchError:
            return None

    def serves(self, op: str, kernel: str, contract: str) -> bool:
        """Whether the kernel has the contract: assumed of one that is not in the workspace."""
        known = self._kernel(op, kernel)
        return known is None or contract in known.signatures

    def is_peer(self, op: str, kernel: str) -> bool:
        """Whether a contest would refuse the kernel: it is there to be compared with."""
        known = self._kernel(op, kernel)
        if known is None:
            return False
        try:
            return any(read.offences for _, read in lint_kernels(self.workspace, [known]))
        except MxbenchError:  # it cannot be read, which is no report's matter
            return False

    def _kernel(self, op: str, name: str) -> Kernel | None:
        """The workspace's kernel of that name, if it can be read."""
        if (op, name) not in self._kernels:
            try:
                found = kernels.find(self.workspace, op, name)
                self._kernels[op, name] = found if found.signatures else None
            except MxbenchError:
                self._kernels[op, name] = None
        return self._kernels[op, name]

    def counts(self, record: Record) -> tuple[int, int] | None:
        """(warm-up, repeat) that the rule asks for; None for parameters it cannot read."""
        case, params = self.case(record), params_of(record)
        if case is None and params is not None:
            spec = find_contract(record.op, record.contract)
            case = Case(
                op=record.op, suite=record.suite, name=record.case, contract=record.contract,
                params=params, dtype="float16", seed=record.seed, recipe=spec.recipe(),
                tolerance=Tolerance(atol=0, rtol=0),
            )  # fmt: skip
        if case is None:
            return None
        timing = self.rule.counts_for(case)
        return timing.warmup, timing.repeat

    def place(self, record: Record) -> tuple[int, int, str, int, str]:
        """Where a record stands: operator, suite, then the case's place in its file."""
        suite = self.suite(record.op, record.suite)
        names = [case.name for case in suite.cases] if suite else []
        at = names.index(record.case) if record.case in names else len(names)
        return (
            _index(list(OPERATORS), record.op),
            _index(SUITE_ORDER, record.suite),
            record.suite,
            at,
            record.contract,
        )


def _index(known: Any, name: str) -> int:
    return known.index(name) if name in known else len(known)


def params_of(record: Record) -> Params | None:
    """The record's parameters, typed; None for those of another mxbench."""
    try:
        spec = find_contract(record.op, record.contract)
        return msgspec.convert(record.params, spec.params)
    except (MxbenchError, msgspec.ValidationError):
        return None
