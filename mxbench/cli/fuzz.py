"""`mxbench fuzz`."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import EXIT_ENVIRONMENT, EXIT_FAILED, EXIT_INTERRUPTED, MxbenchError
from . import options

if TYPE_CHECKING:
    from ..case import Case
    from ..device import DeviceInfo
    from ..fuzzing.campaign import Finding, Tally
    from ..fuzzing.space import Shape
    from ..kernel import Kernel
    from ..runner.crew import Crew
    from ..runner.protocol import Outcome
    from ..runner.supervisor import Supervisor
    from ..view import Meter
    from ..workspace import Workspace

AHEAD = 200  # draws to compile for in parallel; they show nearly all the programs there are
TIMEOUT = 20.0  # seconds a kernel may take with a drawn case, which is small


@dataclass(frozen=True)
class _Wanted:
    """What was asked for."""

    runs: int
    contract: str | None
    kernel: str
    shapes: int | None
    seed: int
    budget: float


@dataclass(frozen=True)
class _Result:
    """What came of one operator."""

    op: str
    kernels: dict[str, Kernel]
    """By contract."""
    shapes: list[Shape]
    tally: Tally
    found: list[tuple[Finding, str]]
    """With the command that replays it."""


def fuzz_command(
    op: options.Op,
    runs: Annotated[int, typer.Option(metavar="N", help="Cases to draw, of each operator.")] = 300,
    contract: options.ContractName = None,
    kernel: options.KernelName = "auto",
    target: options.Target = "auto",
    devices: options.Devices = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws: the same cases again.")] = 0,
    shapes: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Static shapes of each contract, every one of which is compiled for: the suites' "
            "first, then drawn ones. Default: the suites'.",
        ),
    ] = None,
    budget: Annotated[
        float, typer.Option(help="Seconds after which no further case of an operator is drawn.")
    ] = 3600.0,
    timeout: options.Timeout = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Judge drawn cases: sizes near every edge, odd groups, pages and indices, extreme values.

    What counts is the strict verdict, confirmed against a golden in fp64. A failing case is shrunk
    to the smallest that fails the same way, kept in cases/OP/found.json, and shown with the command
    that replays it. Exit code 1 if there is one.
    """
    if runs < 1:
        raise MxbenchError(f"--runs must be at least 1, not {runs}")
    if shapes is not None and shapes < 1:
        raise MxbenchError(f"--shapes must be at least 1, not {shapes}")
    if not 0 < budget < math.inf:
        raise MxbenchError(f"--budget must be a positive number, not {budget:g}")
    _require_hypothesis()
    wanted = _Wanted(runs, contract, kernel, shapes, seed, budget)
    limit = options.check_timeout(timeout) or TIMEOUT
    device, results = _run(op, wanted, options.check_target(target), devices, limit, quiet)
    if json:
        _print_json(device, results)
    else:
        _print(results)
    if any(result.tally.interrupted for result in results):
        raise typer.Exit(EXIT_INTERRUPTED)
    if any(result.found for result in results):
        raise typer.Exit(EXIT_FAILED)


def _require_hypothesis() -> None:
    try:
        import hypothesis  # noqa: F401  # to say what is missing before anything starts
    except ImportError as error:
        raise MxbenchError(
            "fuzz needs the package hypothesis, which is not installed",
            "pip install hypothesis",
            EXIT_ENVIRONMENT,
        ) from error


def _run(
    op: str, wanted: _Wanted, target: str, chosen: str | None, timeout: float, quiet: bool
) -> tuple[DeviceInfo, list[_Result]]:
    """chosen: `--devices`."""
    from .. import view, workspace
    from ..plan import operators
    from .running import workers

    here, ops = workspace.find(), operators(op)
    _check_contract(ops, wanted.contract)
    with (
        tempfile.TemporaryDirectory() as folder,
        workers(here.kernels, target, Path(folder) / "log", chosen, timeout) as crew,
        view.meter(quiet=quiet) as meter,
    ):
        if target != "auto":
            for one in ops:
                _kernels(here, one, wanted, target)  # what is wrong is said before torch starts
        meter.phase("starting", 1)
        device = crew.start()
        log = Path(folder) / "log"
        results = []
        for one in ops:
            results.append(_fuzz(here, one, wanted, device, crew, meter, log))
            if results[-1].tally.interrupted:
                break
        return device, results


def _check_contract(ops: list[str], contract: str | None) -> None:
    from ..errors import nearest
    from ..ops import operator

    known = [name for one in ops for name in operator(one).contracts]
    if contract is not None and contract not in known:
        raise MxbenchError(f"unknown contract {contract!r}", nearest(contract, known))


def _kernels(here: Workspace, op: str, wanted: _Wanted, kind: str) -> dict[str, Kernel]:
    """The kernel that serves each contract that is asked for."""
    from .. import kernel as kernels
    from ..ops import operator
    from ..plan import AUTO

    chosen = {}
    for name, spec in operator(op).contracts.items():
        if wanted.contract in (None, name):
            by = wanted.kernel
            module = kernels.dispatch(here, op, name, kind) if by == AUTO else by
            found = kernels.find(here, op, module)
            if wanted.kernel == AUTO or name in found.signatures or wanted.contract:
                found.require(spec)
                chosen[name] = found
    if not chosen:
        spec = next(iter(operator(op).contracts.values()))
        kernels.find(here, op, wanted.kernel).require(spec)  # says what it lacks
    return chosen


def _fuzz(
    here: Workspace,
    op: str,
    wanted: _Wanted,
    device: DeviceInfo,
    crew: Crew[Supervisor],
    meter: Meter,
    log: Path,
) -> _Result:
    from ..fuzzing import campaign, found, space
    from ..fuzzing.spread import Spread
    from ..plan import reproduce
    from ..runner.ahead import compile_ahead
    from ..runs import Step

    serving = _kernels(here, op, wanted, device.kind)
    for kernel in dict.fromkeys(serving.values()):
        crew.seats[0].load(kernel)  # the others will do alike
    among = [
        shape
        for contract in serving
        for shape in space.shapes(here, op, contract, device.kind, wanted.shapes, wanted.seed)
    ]
    strategy = space.cases(op, among, device.kind)
    meter.phase(f"compiling for {op}", 1)
    cases = campaign.drawn(strategy, min(wanted.runs, AHEAD), wanted.seed)
    steps = [Step(case, serving[case.contract]) for case in cases]
    compile_ahead(steps, here.kernels, device, crew.method, log, lambda share, _: meter.at(share))
    meter.phase(f"fuzzing {op}", wanted.runs)
    judge = Spread(crew, _judge(serving, device))
    tally, findings = campaign.run(
        strategy,
        judge,
        wanted.runs,
        wanted.seed,
        meter.at,
        wanted.budget,
        judge.expect if len(crew.seats) > 1 else None,
    )
    kept = []
    for one in findings:
        named = found.keep(here, one.case)
        by = wanted.kernel if wanted.kernel.endswith(".py") else serving[named.contract].name
        command = reproduce(named, by, device.kind)
        kept.append((campaign.Finding(named, *_rest(one)), command))
    return _Result(op, serving, among, tally, kept)


def _rest(one: Finding) -> tuple[Any, ...]:
    return one.outcome, one.first, one.shrinks, one.steady


def _judge(
    serving: dict[str, Kernel], device: DeviceInfo
) -> Callable[[Supervisor, Case, str], Outcome]:
    from ..runner.limits import reason_to_skip
    from ..runner.protocol import Outcome
    from ..verdict import Status

    def judge(supervisor: Supervisor, case: Case, precision: str) -> Outcome:
        skip = reason_to_skip(case, device, supervisor.timeout)
        if skip:
            return Outcome(status=Status.SKIPPED, reason=skip)
        return supervisor.judge(case, serving[case.contract], precision, probe=False)

    return judge


def _print(results: list[_Result]) -> None:
    from .. import view, view_fuzz

    out = view.console()
    for result in results:
        for one, command in result.found:
            out.print(view_fuzz.finding(one, command))
        names = ", ".join(dict.fromkeys(kernel.name for kernel in result.kernels.values()))
        faults = [one for one, _ in result.found]
        out.print(view_fuzz.summary(result.op, names, len(result.shapes), result.tally, faults))


def _print_json(device: DeviceInfo, results: list[_Result]) -> None:
    import msgspec

    document = {
        "schema": 1,
        "device": device.name,
        "operators": [
            {
                "op": result.op,
                "kernels": {name: kernel.name for name, kernel in result.kernels.items()},
                "shapes": len(result.shapes),
                **asdict(result.tally),
                "found": [
                    {
                        "case": one.case.id,
                        "params": msgspec.to_builtins(one.case.params),
                        "status": one.outcome.status,
                        "strict": one.outcome.strict,
                        "reason": one.outcome.reason,
                        "shrinks": one.shrinks,
                        "steady": one.steady,
                        "replay": command,
                    }
                    for one, command in result.found
                ],
            }
            for result in results
        ],
    }
    print(msgspec.json.encode(document).decode())
