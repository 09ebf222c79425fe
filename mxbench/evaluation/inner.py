"""The process that measures one hand-in: `python -m mxbench.evaluation.inner FOLDER`.

The folder is the hand-in's own: order.json, kit.zip and handin.zip lie in it, and home, caches,
temporary and working folder are in it and empty. What is finished goes to stdout, one JSON message
a line; the hand-in's code runs only in worker processes, whose output goes to the log. When stdin
closes, whoever wanted the result is gone, and so is this process with all its children.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path

import msgspec

from .. import rules
from ..errors import EXIT_ENVIRONMENT, MxbenchError
from ..kernel import find_all
from ..plan import Request, make_steps, with_baseline
from ..record import scrub
from ..runner.ahead import compile_ahead
from ..runner.process import start_method
from ..runner.supervisor import Supervisor
from ..session import Session
from ..settings import Settings, TimingSettings
from ..view import Silent
from ..workspace import Workspace, bundled
from . import caches, parcel
from .messages import Ended, Heard, Order

PROBE = "--probe"
LOG = "log"
SILENT = Silent(notes=False)


def main(arguments: list[str]) -> None:
    """Measure (or compile) what the folder's order says, or with `--probe TARGET` find a device."""
    threading.Thread(target=_die_with_parent, daemon=True).start()
    if arguments[0] == PROBE:
        _probe(*arguments[1:])
        return
    folder = Path(arguments[0])
    order = msgspec.json.decode((folder / "order.json").read_bytes(), type=Order)
    try:
        if order.stage == "compile":
            _compile(folder, order)
        else:
            _measure(folder, order)
        say(Ended("finished"))
    except parcel.Absent as error:
        say(Ended("absent", error.message))
    except MxbenchError as error:
        hint = f" ({error.hint})" if error.hint else ""
        status = "unmeasured" if error.exit_code == EXIT_ENVIRONMENT else "malformed"
        say(Ended(status, scrub(error.message + hint)))  # type: ignore[arg-type]  # both are
    except Exception as error:  # of mxbench, or of a hand-in such as nobody thought of
        traceback.print_exc()
        say(Ended("unmeasured", scrub(f"{type(error).__name__}: {error}")))


def say(message: Heard | Ended) -> None:
    """One message to whoever started this process."""
    sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
    sys.stdout.buffer.flush()


def _die_with_parent() -> None:
    sys.stdin.buffer.read()
    os.killpg(0, signal.SIGKILL)
    os._exit(1)  # the first process of a namespace hears no signal of its own


def _probe(target: str, log: str) -> None:
    """Tell the device that a worker finds."""
    with Supervisor(bundled().kernels, target, Path(log)) as supervisor:
        try:
            say(Heard(device=supervisor.start()))
        except MxbenchError as error:
            say(Ended("unmeasured", f"{error.message} ({error.hint})"))


def _spaces(folder: Path) -> tuple[Workspace, Workspace]:
    """(the hand-in's, the organiser's) workspace."""
    kit_at = parcel.spread_out(folder, "kit", (folder / "kit.zip").read_bytes())
    kit = Workspace(kit_at / parcel.KERNELS, kit_at / "cases", folder)
    handed_in = parcel.spread_out(folder, "handed-in", (folder / "handin.zip").read_bytes())
    space = folder / "space"
    space.mkdir()
    return parcel.workspace_of(handed_in, kit, space), kit


def _measure(folder: Path, order: Order) -> None:
    mine, kit = _spaces(folder)
    law = rules.load(kit, order.rule)
    baseline = law.gate.faster_than or "baseline"
    kernel = parcel.kernel_of(mine, order.work.op, order.kernel, baseline)
    _lint(mine, order.work.op, kernel)
    timing = TimingSettings(
        rule=law,
        extras=order.extras,
        baseline=baseline,
        against=kit,
        environ=caches.variables(folder / caches.BASELINE),
        budget=order.budget,
    )
    if order.suite != order.gate:  # else timing judges these very cases
        _run(folder, mine, order, kernel, order.gate, None)
    _run(folder, mine, order, kernel, order.suite, timing)


def _run(
    folder: Path,
    mine: Workspace,
    order: Order,
    kernel: str,
    suite: str,
    timing: TimingSettings | None,
) -> None:
    """`check`, or `perf`, of one suite; every record is told at once."""
    request = Request(order.work.op, (suite,), kernel=kernel, timed=timing is not None)
    settings = Settings(
        target=order.target,
        timeout=order.timeout,
        timing=timing,
        fresh=True,
    )
    session = Session(mine, request, settings, folder / "state", given=order.given)
    session.log = folder / LOG
    session.run(SILENT, lambda record: say(Heard(record=record)))
    say(Heard(device=session.device))


def _lint(mine: Workspace, op: str, kernel: str) -> None:
    """Look for what the contest bans; a source that cannot be read says why."""
    from .. import lint
    from ..lint.sizes import case_sizes

    offences, notes = [], []
    for one in find_all(mine, op):
        if one.name != kernel and kernel != "auto":
            continue
        try:
            report = lint.lint(one.path, one.path.parent, case_sizes(mine, op))
        except MxbenchError as error:
            notes.append(scrub(f"{one.name}: {error.message}"))
        else:
            offences += [f"{f.path.name}:{f.line}: {f.rule}: {f.what}" for f in report.offences]
    say(Heard(lint=tuple(offences), lint_note="; ".join(notes)))


def _compile(folder: Path, order: Order) -> None:
    """Fill the compile caches for `order.device`, which need not be here, and pack them."""
    device, op = order.device, order.work.op
    assert device is not None
    mine, kit = _spaces(folder)
    baseline = rules.load(kit, order.rule).gate.faster_than or "baseline"
    kernel = parcel.kernel_of(mine, op, order.kernel, baseline)
    suites = tuple(dict.fromkeys((order.gate, order.suite)))
    steps = make_steps(mine, Request(op, suites, kernel=kernel), device.kind)
    both = with_baseline(kit, steps, baseline)

    def filled() -> Iterator[str]:
        # The baseline's first: none of the hand-in's code has run here yet.
        for space, name in ((kit, caches.BASELINE), (mine, caches.HAND_IN)):
            ours = [step for step in both if step.kernel.path.is_relative_to(space.kernels)]
            compile_ahead(
                ours, space.kernels, device, start_method(), folder / LOG, _unheard,
                least=1, environ=caches.variables(folder / name),
            )  # fmt: skip
            yield name

    (folder / caches.PACKED).write_bytes(caches.pack(folder, filled()))


def _unheard(share: float, programs: int) -> None:
    """Nobody watches a compile task's progress."""


if __name__ == "__main__":
    main(sys.argv[1:])
