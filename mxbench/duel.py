"""`compare` from request to results: two kernels on the same cases, in turns. No torch."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from .case import Case
from .device import DeviceInfo
from .errors import MxbenchError
from .plan import AUTO, Request, make_steps
from .runner.ahead import compile_ahead
from .runner.limits import default_timeout, reason_to_skip
from .runner.protocol import Contender, Heat, KernelRef, Outcome
from .runner.referee import Referee
from .runs import Step
from .verdict import Status
from .versus import Ratio, ratio
from .view import Meter
from .workspace import Workspace

PACKAGES = ("mxbench_kernels", "mxbench_kernels_b")
"""Each side has modules of its own, also where both are the same file."""


@dataclass(frozen=True)
class Side:
    """One of the two."""

    label: str
    workspace: Workspace
    kernel: str
    """`auto`, a name, or a file."""


@dataclass(frozen=True)
class Settings:
    """How to compare, as the user said it."""

    target: str
    heat: Heat
    times: int = 1
    """Whole comparisons of each case, to see how often each verdict comes."""
    timeout: float | None = None


@dataclass(frozen=True)
class Compared:
    """One case."""

    case: Case
    kernels: tuple[str, str]
    """Modules that served it."""
    ratios: tuple[Ratio, ...] = ()
    """One for each time that it was compared."""
    blocks: tuple[tuple[float, ...], ...] = ()
    """Milliseconds of A and B, of the last comparison."""
    mode: str = ""
    calls: int = 0
    notes: tuple[str, ...] = ()
    problem: str = ""
    """Why there is no ratio."""
    skipped: bool = False
    outcomes: tuple[Outcome, ...] = field(default=(), repr=False)

    @property
    def means(self) -> tuple[float, float]:
        """Milliseconds a call of A and B."""
        count = len(self.blocks)
        a, b = (sum(block[i] for block in self.blocks) / count for i in (0, 1))
        return a, b


def run(
    sides: tuple[Side, Side],
    request: Request,
    settings: Settings,
    meter: Meter,
    on_case: Callable[[Compared], None] = lambda _: None,
) -> tuple[DeviceInfo, list[Compared]]:
    """Compare the two sides on every case asked for.

    Raises:
        MxbenchError: bad input, or an environment that lacks something.
    """
    kernels = sides[0].workspace.kernels
    if settings.target != AUTO or request.suites:  # a wrong name costs no start of a worker
        for side in sides:
            _steps(side, request, "cpu" if settings.target == AUTO else settings.target)
    with tempfile.TemporaryDirectory(prefix="mxbench-") as folder:
        log = Path(folder) / "log"
        with Referee(kernels, settings.target, log) as referee:
            meter.phase("starting", 1)
            device = referee.start()
            for note in referee.notes:
                meter.note(f"note: {note}")
            referee.timeout = settings.timeout or default_timeout(device)
            steps = [_steps(side, request, device.kind) for side in sides]
            _compile(sides, steps, device, referee, log, meter)
            meter.phase("comparing", len(steps[0]))
            done = []
            for number, pair in enumerate(zip(*steps, strict=True)):
                meter.at(number, pair[0].case.id)
                done.append(_compare(sides, pair, settings, device, referee))
                on_case(done[-1])
    return device, done


def _steps(side: Side, request: Request, kind: str) -> list[Step]:
    try:
        return make_steps(side.workspace, replace(request, kernel=side.kernel), kind)
    except MxbenchError as error:
        raise MxbenchError(f"{side.label}: {error.message}", error.hint, error.exit_code) from None


def _compile(
    sides: Sequence[Side],
    steps: Sequence[list[Step]],
    device: DeviceInfo,
    referee: Referee,
    log: Path,
    meter: Meter,
) -> None:
    meter.phase("compiling", len(sides))
    for number, (side, mine) in enumerate(zip(sides, steps, strict=True)):
        runnable = [s for s in mine if not reason_to_skip(s.case, device, referee.timeout)]
        compile_ahead(
            runnable, side.workspace.kernels, device, referee.method, log,
            lambda share, programs, n=number: meter.at(n + share, f"{programs} programs"),  # type: ignore[misc]
        )  # fmt: skip


def _compare(
    sides: Sequence[Side],
    pair: tuple[Step, ...],
    settings: Settings,
    device: DeviceInfo,
    referee: Referee,
) -> Compared:
    case = pair[0].case
    names = pair[0].kernel.name, pair[1].kernel.name
    if skip := reason_to_skip(case, device, referee.timeout):
        return Compared(case, names, problem=skip, skipped=True)
    contenders = [
        Contender(
            kernel=KernelRef.of(step.kernel), folder=str(side.workspace.kernels), package=package
        )
        for side, step, package in zip(sides, pair, PACKAGES, strict=True)
    ]
    # Each alone first: a crash then has a name.
    for side, contender in zip(sides, contenders, strict=True):
        (outcome,) = referee.race(case, [contender], None).outcomes
        if outcome.status is not Status.PASSED:
            return Compared(case, names, problem=_problem(side, outcome))
    ratios = []
    for _ in range(settings.times):
        raced = referee.race(case, contenders, settings.heat)
        if not raced.blocks:
            bad = [
                (s, o)
                for s, o in zip(sides, raced.outcomes, strict=True)
                if o.status is not Status.PASSED
            ]
            return Compared(case, names, problem=_problem(*bad[0]))
        ratios.append(ratio(raced.blocks))
    return Compared(
        case,
        names,
        ratios=tuple(ratios),
        blocks=tuple(map(tuple, raced.blocks)),
        mode=raced.mode,
        calls=raced.calls,
        notes=(raced.note,) if raced.note else (),
        outcomes=tuple(raced.outcomes),
    )


def _problem(side: Side, outcome: Outcome) -> str:
    return f"{side.label}: {outcome.status.value}: {outcome.reason}"
