"""From what the command line asks for to the cases to run and the kernel that serves each."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from . import kernel as kernels
from .case import Case, load_suite, override, select, shape_changes, suite_names
from .errors import MxbenchError, nearest
from .kernel import Kernel
from .ops import OPERATORS
from .runs import Step
from .workspace import Workspace

ALL = "all"
AUTO = "auto"


@dataclass(frozen=True)
class Request:
    """What to check, as the user said it."""

    op: str
    suites: tuple[str, ...] = ()
    """Empty for the device's default."""
    glob: str | None = None
    contract: str | None = None
    kernel: str = AUTO
    """`auto`, a name in the workspace, or a `.py` file."""
    seed: int | None = None
    seqlen: int | None = None
    batch: int | None = None
    tokens: int | None = None
    changes: dict[str, str] = field(default_factory=dict)
    """`--set`: parameter -> text."""
    timed: bool = False
    """Whether this is for `perf`, which has suites of its own and picks cases by their length."""

    @property
    def changed(self) -> bool:
        """Whether the cases are other than their suite file says, or only some of them."""
        chosen = (self.glob, self.contract, self.seed, self.seqlen, self.batch, self.tokens)
        return any(value is not None for value in chosen) or bool(self.changes)


def operators(op: str) -> list[str]:
    """The operators that the word `op` stands for; MxbenchError with the nearest if none."""
    if op == ALL:
        return list(OPERATORS)
    if op not in OPERATORS:
        raise MxbenchError(f"unknown operator {op!r}", nearest(op, [*OPERATORS, ALL]))
    return [op]


def parse_changes(settings: list[str]) -> dict[str, str]:
    """`["a=1", "b=x"]` as a dict; MxbenchError for one without `=`."""
    changes = {}
    for text in settings:
        key, found, value = text.partition("=")
        if not found or not key.strip():
            raise MxbenchError(f"--set {text!r} is not key=value", "for example --set kv_ctx=4096")
        changes[key.strip()] = value.strip()
    return changes


def default_suite(request: Request, kind: str) -> str:
    """The suite that runs when none is named."""
    if request.timed and (kind != "cpu" or request.seqlen is not None):
        return "performance"
    return "smoke" if kind == "cpu" else "functional"


def make_steps(workspace: Workspace, request: Request, kind: str) -> list[Step]:
    """The cases asked for, each with its kernel, on a device of `kind`.

    Raises:
        MxbenchError: a name, a file, a parameter or a signature is wrong; or nothing is left.
    """
    suites = request.suites or (default_suite(request, kind),)
    cases = [
        case
        for op in operators(request.op)
        for suite in suites
        for case in load_suite(workspace, op, suite).cases
    ]
    picked = select(cases, request.glob, request.contract)
    if request.timed and request.seqlen is not None:
        of_length = [case for case in picked if _length(case) == request.seqlen]
        if of_length:
            picked, request = of_length, replace(request, seqlen=None)
    chosen = _distinct(_changed(c, request) for c in _resizable(picked, request))
    finder = _Finder(workspace, request.kernel, kind)
    return [Step(case, finder.kernel(case)) for case in chosen]


def _resizable(picked: list[Case], request: Request) -> list[Case]:
    """The cases that --seqlen, --batch and --tokens can change: all, but for moe's explicit rows.

    Raises:
        MxbenchError: there is none.
    """
    if request.seqlen is None and request.batch is None and request.tokens is None:
        return picked
    found = [case for case in picked if case.op != "moe" or _length(case) is not None]
    if not found:
        raise MxbenchError(
            "the cases chosen give their rows explicitly, without tokens to change",
            "change group_sum or group_sizes with --set",
        )
    return found


def _length(case: Case) -> int | None:
    """The parameter of a case that --seqlen stands for."""
    (name,) = shape_changes(case.op, seqlen=1)
    value: int | None = getattr(case.params, name)
    return value


def with_baseline(workspace: Workspace, steps: list[Step], name: str) -> list[Step]:
    """Every step followed by the same case with the kernel `name`.

    Raises:
        MxbenchError: there is no such kernel, or it lacks a contract.
    """
    both = []
    for step in steps:
        other = kernels.find(workspace, step.case.op, name)
        other.require(step.case.spec)
        both += [step] if other == step.kernel else [step, Step(step.case, other)]
    return both


def _changed(case: Case, request: Request) -> Case:
    changes: dict[str, Any] = {
        **shape_changes(case.op, request.seqlen, request.batch, request.tokens),
        **request.changes,
    }
    if changes:
        case = override(case, changes)
    # Not through `override`: another seed is the same case with other numbers.
    return case if request.seed is None else replace(case, seed=request.seed)


def _distinct(cases: Iterator[Case]) -> list[Case]:
    """Overriding a parameter may make cases of a suite equal; one of them is enough."""
    found: dict[Case, Case] = {}
    for case in cases:
        found.setdefault(replace(case, name="", origin="", changes=()), case)
    return list(found.values())


class _Finder:
    """Finds the kernel of each case and holds it to the contract, once for each contract."""

    def __init__(self, workspace: Workspace, wanted: str, kind: str) -> None:
        self._workspace, self._wanted, self._kind = workspace, wanted, kind
        self._by_name: dict[tuple[str, str], Kernel] = {}
        self._by_contract: dict[tuple[str, str], Kernel] = {}

    def kernel(self, case: Case) -> Kernel:
        key = case.op, case.contract
        if key not in self._by_contract:
            name = self._wanted
            if name == AUTO:
                name = kernels.dispatch(self._workspace, *key, self._kind)
            if (case.op, name) not in self._by_name:
                self._by_name[case.op, name] = kernels.find(self._workspace, case.op, name)
            found = self._by_name[case.op, name]
            found.require(case.spec)
            self._by_contract[key] = found
        return self._by_contract[key]


def cases_of(workspace: Workspace, op: str, suite: str | None = None) -> Iterator[Case]:
    """All cases of operator `op` (or `all`), of one suite or of every one."""
    for name in operators(op):
        for one in [suite] if suite else suite_names(workspace, name):
            yield from load_suite(workspace, name, one).cases


def reproduce(case: Case, kernel: str, target: str, precision: str = "fp32") -> str:
    """The one-line command that runs a single case again, with kernel `kernel` as `--kernel`."""
    words = ["mxbench", "check", case.op, "--suite", case.suite, "--case", case.origin or case.name]
    for change in case.changes:
        words += ["--set", change]
    words += ["--kernel", kernel, "--target", target, "--seed", str(case.seed)]
    if precision != "fp32":
        words += ["--precision", precision]
    return shlex.join(words)
