"""`mxbench list`, `mxbench show` and `mxbench env`: look at what is there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import MxbenchError, nearest
from . import options

if TYPE_CHECKING:  # what costs time is imported when a command runs, not for `--help`
    from ..case import Case
    from ..kernel import Kernel
    from ..roofline import Peaks
    from ..workspace import Workspace

THINGS = ("ops", "cases", "kernels", "runs")
Rows = list[dict[str, Any]]


def _complete_thing(incomplete: str) -> list[str]:
    return [name for name in THINGS if name.startswith(incomplete)]


def list_command(
    what: Annotated[
        str,
        typer.Argument(
            metavar="[ops|cases|kernels|runs]",
            help="What to list.",
            autocompletion=_complete_thing,
            show_default=False,
        ),
    ] = "ops",
    op: options.Op = "all",
    suite: Annotated[str | None, typer.Option("--suite", help="Only cases of this suite.")] = None,
    out: options.Out = None,
    json: options.Json = False,
) -> None:
    """List operators, cases, kernels, or your runs."""
    from .. import workspace

    if what not in THINGS:
        raise MxbenchError(f"cannot list {what!r}", nearest(what, THINGS))
    here = workspace.find()
    if what == "ops":
        _print(_operators(here, op), json)
    elif what == "cases":
        _print(_cases(here, op, suite), json, ("GFLOP", "MiB"))
    elif what == "kernels":
        _print(_kernels(here, op), json)
    else:
        _print(_runs(out or here.state), json, ("cases", "passed", "failed", "skipped"))


def _print(lines: Rows, json: bool, numbers: tuple[str, ...] = ()) -> None:
    import msgspec

    from .. import view

    if json:
        print(msgspec.json.encode(lines).decode())
    elif not lines:
        print("none")
    else:
        cells = [[_cell(value) for value in line.values()] for line in lines]
        view.console().print(view.rows(list(lines[0]), cells, numbers))


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return "" if value is None else str(value)


def _operators(here: Workspace, op: str) -> Rows:
    from ..case import suite_names
    from ..ops import OPERATORS
    from ..plan import operators

    return [
        {
            "operator": name,
            "what": OPERATORS[name].title,
            "contracts": list(OPERATORS[name].contracts),
            "suites": suite_names(here, name),
        }
        for name in operators(op)
    ]


def _cases(here: Workspace, op: str, suite: str | None) -> Rows:
    from ..plan import cases_of

    return [
        {
            "case": case.id,
            "contract": case.contract,
            "dtype": case.dtype,
            "GFLOP": case.work.flops / 1e9,
            "MiB": case.footprint / (1 << 20),
        }
        for case in cases_of(here, op, suite)
    ]


def _kernels(here: Workspace, op: str) -> Rows:
    from ..kernel import find_all
    from ..plan import operators

    return [
        {"operator": name, "kernel": kernel.name, **_described(kernel)}
        for name in operators(op)
        for kernel in find_all(here, name)
    ]


def _described(kernel: Kernel) -> dict[str, Any]:
    """Contracts and summary of a kernel; a file that does not parse is listed with its fault."""
    from ..ops import operator

    try:
        contracts = [n for n in operator(kernel.op).contracts if n in kernel.signatures]
        return {"contracts": contracts, "what": kernel.summary}
    except MxbenchError as error:
        return {"contracts": [], "what": error.message}


def _runs(state: Path) -> Rows:
    from ..runs import read_run

    lines = []
    for path in sorted((state / "runs").glob("*.jsonl")):
        header, footer = read_run(path)
        if header is None:
            continue
        lines.append(
            {
                "run": header.run,
                "what": header.title,
                "target": header.target,
                "device": header.device,
                "cases": header.steps,
                "passed": footer.passed if footer else None,
                "failed": footer.failed if footer else None,
                "skipped": footer.skipped if footer else None,
                "state": "finished" if footer else "interrupted",
            }
        )
    return lines


def show_command(
    case: Annotated[
        str, typer.Argument(metavar="CASE", help="An id such as mla/smoke/NAME, or a glob.")
    ],
    json: options.Json = False,
) -> None:
    """Show one case: parameters, inputs, tolerance, work, and the kernels that serve it."""
    import msgspec

    from .. import view, workspace

    here = workspace.find()
    fields = _details(here, _find_case(here, case))
    if json:
        print(msgspec.json.encode(fields).decode())
        return
    plain = {k: _compact(v) if isinstance(v, dict) else _cell(v) for k, v in fields.items()}
    view.console().print(view.pairs(plain))


def _find_case(here: Workspace, wanted: str) -> Case:
    from ..case import select
    from ..plan import ALL, OPERATORS, cases_of

    op = wanted.split("/", 1)[0]
    cases = cases_of(here, op if op in OPERATORS else ALL)
    found = select(cases, wanted)
    if len(found) > 1:
        ids = [case.id for case in found]
        more = f" and {len(ids) - 5} more" if len(ids) > 5 else ""
        raise MxbenchError(
            f"{wanted!r} matches {len(ids)} cases", f"name one: {', '.join(ids[:5])}{more}"
        )
    return found[0]


def _details(here: Workspace, case: Case) -> dict[str, Any]:
    import msgspec

    from ..kernel import find_all
    from ..plan import AUTO, reproduce

    kernels = [k for k in find_all(here, case.op) if _serves(k, case)]
    return {
        "case": case.id,
        "contract": case.spec.signature,
        "params": msgspec.to_builtins(case.params),
        "dtype": case.dtype,
        "seed": case.seed,
        "inputs": msgspec.to_builtins(case.recipe),
        "tolerance": msgspec.to_builtins(case.tolerance),
        "timing": msgspec.to_builtins(case.timing) if case.timing else {},
        "flops": case.work.flops,
        "bytes": case.work.bytes,
        "footprint": case.footprint,
        "kernels": [kernel.name for kernel in kernels],
        "run it": reproduce(case, AUTO, AUTO),
    }


def _serves(kernel: Kernel, case: Case) -> bool:
    try:
        kernel.require(case.spec)
    except MxbenchError:
        return False
    return True


def _compact(fields: dict[str, Any]) -> str:
    return ", ".join(f"{k}={_cell(v)}" for k, v in fields.items() if v is not None)


def env_command(
    target: options.Target = "auto",
    measure: Annotated[
        bool,
        typer.Option("--measure", help="Measure matrix rate and copy bandwidth, for the bounds."),
    ] = False,
    json: options.Json = False,
) -> None:
    """Show the device, versions, compiler and folders that a check would use.

    With --measure, what the GPU at hand reaches in a large matrix product and a large copy is
    kept, and from then on `perf` computes its bounds with that instead of a profile's figures.
    """
    import tempfile

    import msgspec

    from .. import __version__, device, roofline, view, workspace
    from ..runner.supervisor import Supervisor

    options.check_target(target)
    here = workspace.find()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "worker.log"
        with Supervisor(here.kernels, target, log) as supervisor:
            info = supervisor.start()
            method = supervisor.method
            if measure:
                roofline.save_measured(here.state, info.name, supervisor.measure())
    fields = {
        "mxbench": __version__,
        "target": info.kind,
        "device": info.name,
        "arch": info.arch,
        "schedules": info.schedules,
        "units": info.sms,
        "memory": view.size(info.memory),
        "free": view.size(info.free),
        **{k: v for k, v in msgspec.to_builtins(info.env).items() if k not in _SHOWN_ABOVE},
        "C++ compiler": device.host_compiler(),
        "workers": method,
        **_peaks(roofline.peaks_of(info.name, roofline.load_measured(here.state, info.name))),
        "kernels": str(here.kernels),
        "cases": str(here.cases),
        "runs": str(here.state),
    }
    if json:
        print(msgspec.json.encode(fields).decode())
    else:
        view.console().print(view.pairs(fields))


def _peaks(peaks: Peaks | None) -> dict[str, Any]:
    """The rates that bounds are computed with; none for a device without any, such as a CPU."""
    if peaks is None:
        return {}
    rates = {f"{name} matrix": f"{rate:g} TFLOP/s" for name, rate in peaks.rates.tflops.items()}
    return {**rates, "copy": f"{peaks.rates.gbps:g} GB/s", "peaks": peaks.source}


_SHOWN_ABOVE = {"mxbench", "arch", "sms", "memory"}
