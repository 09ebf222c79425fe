"""`mxbench tune`."""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import MxbenchError, nearest
from . import options
from .running import build_request

if TYPE_CHECKING:
    from ..device import DeviceInfo
    from ..plan import Request
    from ..tuning.search import Search, Settings
    from ..workspace import Workspace


def tune_command(
    op: options.Op,
    suite: options.Suites = None,
    case: options.Glob = None,
    contract: options.ContractName = None,
    kernel: options.KernelName = "auto",
    program: Annotated[
        str | None, typer.Option("--program", metavar="GLOB", help="Only programs that match.")
    ] = None,
    try_: Annotated[
        list[str] | None,
        typer.Option("--try", metavar="PARAM=V,V", help="Values of a parameter; repeatable."),
    ] = None,
    most: Annotated[
        int, typer.Option("--most", metavar="N", help="Candidates of a shape class.")
    ] = 48,
    budget: Annotated[float, typer.Option(help="Seconds of racing, compiling apart.")] = 180.0,
    timeout: Annotated[float, typer.Option(help="Seconds a candidate's call may take.")] = 20.0,
    target: options.Target = "auto",
    devices: options.Devices = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the space and what cannot fit; compile nothing."),
    ] = False,
    profile: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="With --dry-run: another device's profile, such as c500."
        ),
    ] = None,
    seqlen: options.Seqlen = None,
    batch: options.Batch = None,
    tokens: options.Tokens = None,
    set_: options.Changes = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", help="For the schedule file, instead of the kernels'."
        ),
    ] = None,
    fresh: options.Fresh = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Search a kernel's schedules on this device, and keep the faster ones.

    Candidates come from the schedule files; those that cannot fit are dropped before compiling, the
    others compiled in parallel, judged, and raced against the schedule in use: each on one GPU,
    also with --devices. Winners are written with their evidence to kernels/common/schedules/, or to
    --out (used with MXBENCH_SCHEDULES=DIR).
    """
    from .. import workspace
    from ..tuning import space
    from ..tuning.search import Settings

    if profile is not None and not dry_run:
        raise MxbenchError("--profile is for --dry-run: times come from the device at hand")
    if most < 1:
        raise MxbenchError(f"--most must be at least 1, not {most}")
    if not (0 < budget < math.inf and 0 < timeout < math.inf):
        raise MxbenchError("--budget and --timeout must be positive numbers")
    settings = Settings(
        target=options.check_target(target),
        programs=program,
        wanted=space.parse_wanted(try_ or []),
        most=most,
        budget=budget,
        timeout=timeout,
        devices=devices,
        fresh=fresh,
    )
    request = build_request(
        op, suite, case, contract, kernel, None, seqlen, batch, tokens, set_, timed=True
    )
    here = workspace.find()
    if dry_run:
        _dry(here, request, settings, profile, json, quiet)
    else:
        _tune(here, request, settings, out, json, quiet)


def _dry(
    here: Workspace,
    request: Request,
    settings: Settings,
    profile: str | None,
    json: bool,
    quiet: bool,
) -> None:
    from .. import view, view_tune

    with _search(here, request, settings, quiet) as (search, log):
        device = _made_up(profile) if profile else _at_hand(here, settings, log)
        _look(search, device, log)
    if json:
        _print_json(search, device, None)
        return
    for block in view_tune.dry(search, device):
        view.console().print(block)


def _look(search: Search, device: DeviceInfo, log: Path) -> None:
    from ..runner.process import start_method
    from ..runner.workshop import Workshop
    from ..tuning.search import limits_of, processes

    kernels = search.workspace.kernels
    with Workshop(kernels, device, start_method(), log, processes()) as workshop:
        search.look(workshop, device, limits_of(device))


def _at_hand(here: Workspace, settings: Settings, log: Path) -> DeviceInfo:
    from ..runner.supervisor import Supervisor

    with Supervisor(here.kernels, settings.target, log) as supervisor:
        return supervisor.start()


def _made_up(name: str) -> DeviceInfo:
    """A device as a profile describes it, with room for every case.

    Raises:
        MxbenchError: there is no such profile.
    """
    from ..device import DeviceInfo
    from ..record import Environment
    from ..roofline import profiles

    known = profiles()
    if name not in known:
        raise MxbenchError(f"unknown device profile {name!r}", nearest(name, known))
    limits = known[name].limits
    if limits is None:
        raise MxbenchError(
            f"profile {name} has no limits of a block", f"add `limits` to profiles/{name}.json"
        )
    room = 1 << 50
    env = Environment(python="", torch="", sms=limits.sms, memory=room, platform="")
    return DeviceInfo(
        kind=limits.kind, name=known[name].title, torch_device="cuda", arch=limits.arch,
        schedules=limits.schedules, sms=limits.sms, memory=room, free=room, env=env,
    )  # fmt: skip


@contextlib.contextmanager
def _search(
    here: Workspace, request: Request, settings: Settings, quiet: bool
) -> Iterator[tuple[Search, Path]]:
    """A search whose table is shown on stderr while it runs, if that is a terminal."""
    from rich.live import Live

    from .. import view, view_tune
    from ..tuning.search import Search

    with tempfile.TemporaryDirectory(prefix="mxbench-") as folder:
        log = Path(folder) / "log"
        search = Search(here, request, settings, log)
        console = view.console(stderr=True)
        if quiet or not console.is_terminal:
            yield search, log
            return
        with Live(console=console, transient=True, refresh_per_second=4) as live:
            search.on_change = lambda phase: live.update(view_tune.progress(search.classes, phase))
            yield search, log


def _tune(
    here: Workspace,
    request: Request,
    settings: Settings,
    out: Path | None,
    json: bool,
    quiet: bool,
) -> None:
    from .. import devices, view, view_tune
    from ..runner.crew import Crew
    from ..runner.referee import Referee
    from ..runner.workshop import Workshop
    from ..tuning.search import limits_of, processes

    target, timeout = settings.target, settings.timeout
    seen = devices.visible(settings.devices, target)
    with (
        _search(here, request, settings, quiet) as (search, log),
        Crew([Referee(here.kernels, target, log, timeout, one) for one in seen]) as crew,
    ):
        device = crew.start()
        devices.require_apart(device.kind, len(seen), "tune")
        file = _file(here, device, out)
        with Workshop(here.kernels, device, crew.method, log, processes()) as workshop:
            search.look(workshop, device, limits_of(device))
            search.run(crew, workshop, device, here.state)
    wrote = _write(here, search, device, file)
    if json:
        _print_json(search, device, wrote)
        return
    for block in view_tune.result(search, device, wrote):
        view.console().print(block)


def _file(here: Workspace, device: DeviceInfo, out: Path | None) -> Path:
    """Where winners go; found out to be writable before any time is spent.

    Raises:
        MxbenchError: it is not.
    """
    import os

    folder = out or here.kernels / "common" / "schedules"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MxbenchError(f"cannot write to {folder}: {error.strerror}", "name another") from None
    if not os.access(folder, os.W_OK):
        raise MxbenchError(f"cannot write to {folder}", "name a folder of yours with --out")
    return folder / f"{device.schedules}.json"


def _write(here: Workspace, search: Search, device: DeviceInfo, file: Path) -> str:
    """Write the winners, whole or not at all; returns what was done."""
    from .. import jsonfile
    from ..tuning import store

    winners = [(o, _evidence(o, search, device)) for o in search.classes if o.winner is not None]
    if not winners:
        return "nothing is faster than the schedules in use; nothing was written"
    own = here.kernels / "common" / "schedules" / f"{device.schedules}.json"
    document = store.read(file if file.is_file() else own)
    jsonfile.replace_file(file, store.written(store.with_winners(document, winners)))
    return f"{len(winners)} schedules written to {file}"


def _evidence(one: Any, search: Search, device: DeviceInfo) -> dict[str, Any]:
    found = one.winner.ratio
    return {
        "device": device.name,
        "tilelang": device.env.tilelang,
        "kernel": one.lead.kernel.name,
        "cases": [step.case.id for step in one.finals],
        "time_over_default": [round(x, 4) for x in (found.ratio, found.low, found.high)],
        "default": one.default,
        "tried": len(one.trials) - one.count("dropped", "waiting"),
    }


def _print_json(search: Search, device: DeviceInfo, wrote: str | None) -> None:
    from dataclasses import asdict

    import msgspec

    document = {
        "schema": 1,
        "device": device.name,
        "schedules": device.schedules,
        "wrote": wrote,
        "notes": search.notes,
        "classes": [
            {
                "program": one.program,
                "default": one.default,
                "when": one.when(),
                "cases": [step.case.id for step in one.steps],
                "values": one.values,
                "winner": asdict(one.winner) if one.winner else None,
                "trials": one.trials,
            }
            for one in search.classes
        ],
        "gains": [{"case": name, **asdict(found)} for name, found in search.gains],
    }
    print(msgspec.json.encode(document).decode())
