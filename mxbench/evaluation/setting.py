"""From what the organiser asks for to the parts of an evaluation."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from ..case import load_suite
from ..contest import RANKED
from ..errors import EXIT_ENVIRONMENT, MxbenchError
from ..points import SUITE
from ..rules import ContestRule
from ..workspace import Workspace
from . import isolation, outcome, parcel
from .board import Board, Policy
from .executor import Executor
from .loop import Loop
from .messages import Work
from .options import Options

kit = parcel.kit
DEFAULT_POLICY = Policy()
ON_CPU = "smoke"
"""Suite of the gate and of the ranking on a CPU, which would take days for the contest's."""


@dataclass(frozen=True)
class Wish:
    """What the organiser asked for."""

    law: ContestRule
    ops: tuple[str, ...]
    target: str
    suite: str | None = None
    kernel: str | None = None
    extras: bool = True
    timeout: float | None = None
    budget: float = 60.0
    limit: float = 3600.0
    drift: float = 0.05
    patience: float = 600.0
    model: str = ""
    repeat_on: int = 1
    policy: Policy = DEFAULT_POLICY
    inner: str = isolation.INNER
    fenced: bool = True

    @property
    def decisive(self) -> dict[str, str]:
        """What must not change while an evaluation is continued."""
        return {
            "rule": self.law.name,
            "target": self.target,
            "kernel": self.kernel or "",
            "suite": self.suite or "",
            "quick": str(not self.extras),
        }

    def options(self, here: Workspace, executor: Executor, hidden: tuple[str, ...]) -> Options:
        """How to measure, now that it is known on what.

        Raises:
            MxbenchError: exit code 2, there is no such suite; 3, no device within `patience`.
        """
        on_cpu = _first_kind(executor, self.patience) == "cpu"
        gates = {op: (self.suite or ON_CPU) if on_cpu else SUITE for op in self.ops}
        suites = {
            op: self.suite or (ON_CPU if on_cpu else RANKED.get(op, SUITE)) for op in self.ops
        }
        for op in self.ops:
            load_suite(here, op, gates[op])
            load_suite(here, op, suites[op])
        return Options(
            target=self.target,
            rule=self.law.name,
            baseline=self.law.gate.faster_than or "baseline",
            suites=suites,
            gates=gates,
            kernel=self.kernel,
            extras=self.extras,
            timeout=self.timeout,
            budget=self.budget,
            limit=self.limit,
            drift=self.drift,
            patience=self.patience,
            model=self.model,
            inner=self.inner,
            fenced=self.fenced,
            hidden=hidden,
            on_cpu=on_cpu,
        )

    def board(self, hand_ins: Iterable[str], *, compile_apart: bool = True) -> Board:
        """A task for each hand-in, operator and machine."""
        works = [
            Work(name, op, replica)
            for replica in range(self.repeat_on)
            for name in sorted(hand_ins)
            for op in self.ops
        ]
        return Board(works, self.policy, compile_apart=compile_apart)


def _first_kind(executor: Executor, patience: float) -> str:
    """The kind of the first device that there is; waits for one."""
    deadline = time.monotonic() + patience
    while True:
        for place in executor.places():
            if place.device is not None:
                return place.device.kind
        if time.monotonic() > deadline:
            raise MxbenchError(
                f"no device within {patience:g} s",
                "start workers: one for each GPU, with --resources GPU=1",
                EXIT_ENVIRONMENT,
            )
        time.sleep(0.2)


def executor(
    cluster: str | None,
    target: str,
    devices: str | None,
    inner: str = isolation.INNER,
    *,
    fenced: bool = True,
) -> Executor:
    """This machine's devices, or those of the Dask cluster at an address or scheduler file.

    Raises:
        MxbenchError: exit code 2, a wrong name; 3, no device, no cluster, or Dask is missing.
    """
    if cluster is None:
        from .local import Local

        return Local(target, devices, inner, fenced=fenced)
    try:
        from .cluster import Cluster
    except ImportError as error:
        raise MxbenchError(
            f"--cluster needs Dask: {error}", "pip install 'mxbench[cluster]'", EXIT_ENVIRONMENT
        ) from None
    return Cluster(cluster, target, inner, fenced=fenced)


def rank(
    here: Workspace, wish: Wish, loop: Loop, *, refuse_banned: bool = False
) -> list[outcome.Shown]:
    """The organiser's table of each operator."""
    suites = {op: (loop.options.gates[op], loop.options.suites[op]) for op in wish.ops}
    return outcome.rank(
        here,
        wish.law,
        loop.ledger,
        loop.results,
        suites,
        cpu=loop.options.on_cpu,
        refuse_banned=refuse_banned,
    )
