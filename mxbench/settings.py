"""How to check and to time, as the user said it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from .case import Case
from .device import DeviceInfo
from .measurement import Plan
from .plan import AUTO
from .rules import ContestRule
from .workspace import Workspace


@dataclass(frozen=True)
class TimingSettings:
    """How to time, as the user said it."""

    rule: ContestRule
    mode: Literal["eager", "graph"] = "eager"
    extras: bool = True
    baseline: str | None = None
    """A kernel to time beside, case by case."""
    against: Workspace | None = None
    """Whose baseline, in workers of its own; None for the workspace's."""
    environ: Mapping[str, str] = field(default_factory=dict)
    """Environment variables of the workers and compilers of `against`, beside this process's."""
    budget: float = 60.0
    """Seconds for timing one case on a CPU; the whole run may take RUN_BUDGETS times that."""

    def plan(self, case: Case, device: DeviceInfo) -> Plan:
        """What to time of a case."""
        counts = self.rule.counts_for(case)
        return Plan(
            warmup=counts.warmup,
            repeat=counts.repeat,
            mode=self.mode,
            extras=self.extras,
            budget=self.budget if device.kind == "cpu" else None,
        )


@dataclass(frozen=True)
class Settings:
    """How to check, as the user said it."""

    target: str = AUTO
    timeout: float | None = None
    """Seconds a kernel may take; None for the device's default."""
    precision: str = "fp32"
    repeats: int = 0
    """Further calls of each passed case that must put out the same bits."""
    sanitize: bool = False
    """Run each passed case again under compute-sanitizer."""
    fail_fast: bool = False
    smallest_first: bool = False
    """Not in the suite's order: a mistake then shows in the first seconds."""
    fresh: bool = False
    """Do not continue an interrupted run."""
    devices: str | None = None
    """`all` or `0,1`: a worker for each; None for one on the first device."""
    timing: TimingSettings | None = None
    """How to time what passes; None to judge only."""
