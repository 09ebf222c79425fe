"""`mxbench doctor`: would the verdicts notice a wrong kernel?"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import EXIT_FAILED, MxbenchError
from . import options

if TYPE_CHECKING:
    from ..case import Case
    from ..device import DeviceInfo
    from ..diagnosis import Diagnosis
    from ..runner.supervisor import Supervisor

CASE_LIMIT = 600.0  # seconds; a case's golden is computed some twenty times


def doctor_command(
    op: options.Op,
    suite: options.Suites = None,
    case: options.Glob = None,
    contract: options.ContractName = None,
    honest: Annotated[
        int, typer.Option(metavar="N", help="Right results, rounded in N ways, that must pass.")
    ] = 20,
    target: options.Target = "auto",
    devices: options.Devices = None,
    seqlen: options.Seqlen = None,
    batch: options.Batch = None,
    tokens: options.Tokens = None,
    set_: options.Changes = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Test the tolerances of cases: how many wrong kernels does each verdict catch?

    Around each golden it makes the results of kernels with one certain mistake (zeros, 2 % off, a
    tile of keys dropped, experts swapped, ...) and of right kernels that round in their own way.
    Exit code 1 if the strict verdict misses a mistake well above such rounding (three times it), or
    fails a right result.
    """
    if honest < 1:
        raise MxbenchError(f"--honest must be at least 1, not {honest}")
    done, device = _diagnosed(op, suite, case, contract, honest, target, devices, seqlen, batch,
                              tokens, set_, quiet)  # fmt: skip
    if json:
        _print_json(done, device)
    else:
        _print(done, device)
    if any(_bad(found) for _, found in done):
        raise typer.Exit(EXIT_FAILED)


def _bad(found: Diagnosis) -> bool:
    """A mistake beyond rounding escapes, or a right result fails."""
    right = found.honest is None or found.honest.strict == found.honest.tried
    return not right or any(found.distinguishable(one) for one in found.escaped())


def _diagnosed(
    op: str,
    suite: list[str] | None,
    glob: str | None,
    contract: str | None,
    honest: int,
    target: str,
    chosen: str | None,
    seqlen: int | None,
    batch: int | None,
    tokens: int | None,
    changes: list[str] | None,
    quiet: bool,
) -> tuple[list[tuple[Case, Diagnosis]], DeviceInfo]:
    """Every case with what was found, in the suite's order. chosen: `--devices`."""
    from .. import view, workspace
    from ..diagnosis import Diagnosis
    from ..plan import make_steps
    from ..runner.limits import default_timeout, reason_to_skip
    from .running import build_request, workers

    here = workspace.find()
    request = build_request(op, suite, glob, contract, "auto", None, seqlen, batch, tokens, changes)
    target = options.check_target(target)
    with (
        tempfile.TemporaryDirectory() as folder,
        workers(here.kernels, target, Path(folder) / "log", chosen, CASE_LIMIT) as crew,
        view.meter(quiet=quiet) as meter,
    ):
        meter.phase("starting", 1)
        device = crew.start()
        cases = [step.case for step in make_steps(here, request, device.kind)]
        meter.phase("testing", len(cases))

        found: dict[int, Diagnosis] = {}

        def diagnose(supervisor: Supervisor, number: int) -> Diagnosis:
            meter.at(len(found), cases[number].id)
            skip = reason_to_skip(cases[number], device, default_timeout(device))
            if skip:
                return Diagnosis(problem=skip)
            return supervisor.diagnose(cases[number], honest, CASE_LIMIT)

        for number, diagnosis in crew.share([[number] for number in range(len(cases))], diagnose):
            found[number] = diagnosis
    return [(case, found[number]) for number, case in enumerate(cases)], device


def _print(done: list[tuple[Case, Diagnosis]], device: DeviceInfo) -> None:
    from .. import view, view_doctor

    out = view.console()
    for op in dict.fromkeys(case.op for case, _ in done):
        mine = [(case, found) for case, found in done if case.op == op]
        title = f"{op}: wrong kernels caught, on {device.name} ({device.kind})"
        out.print(view_doctor.table(mine, title))
        for line in view_doctor.notes(mine):
            out.print(line)
        out.print(view_doctor.summary(mine))


def _print_json(done: list[tuple[Case, Diagnosis]], device: DeviceInfo) -> None:
    import msgspec

    document = {
        "schema": 1,
        "device": device.name,
        "cases": [
            {**msgspec.to_builtins(found), "type": "case", "case": case.id} for case, found in done
        ],
    }
    print(msgspec.json.encode(document).decode())
