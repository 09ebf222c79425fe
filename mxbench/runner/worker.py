"""The worker process: owns one device, imports torch and kernels, runs and judges cases."""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import signal
import threading
import traceback
from multiprocessing import connection, parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ..case import Case
from ..device import DeviceInfo, detect
from ..devices import VISIBLE_NAMES
from ..diagnosis import Diagnosis
from ..errors import EXIT_ENVIRONMENT, MxbenchError
from ..kernel import PACKAGE
from . import protocol
from .driver import COMPANIONS
from .protocol import (
    Diagnose,
    Entered,
    Fault,
    Hello,
    Judge,
    Load,
    Loaded,
    Measure,
    Measured,
    OpenProblem,
    Outcome,
    ProblemOutcome,
    Race,
    ReadProblem,
    RunProblem,
    Setup,
    Stage,
    stage_limit,
)

# An orphan that hangs with the GIL held cannot see that its parent is gone; this many seconds
# past the limit, at which the supervisor would have killed it, it ends itself.
ORPHAN_GRACE = 60.0


def main(pipe: Connection, setup: Setup) -> None:
    """Serve requests until the supervisor closes the pipe."""
    become_child(setup.log)
    os.environ.update(setup.environ)
    if setup.visible is not None:  # CUDA reads it when it is first used, which is after this
        os.environ.update(dict.fromkeys(VISIBLE_NAMES, setup.visible))
    os.environ[COMPANIONS] = str(setup.companions)
    with contextlib.suppress(EOFError, OSError):  # the supervisor has gone
        answer = _start(setup)
        protocol.send(pipe, answer)
        if isinstance(answer, Hello):
            _serve(pipe, Path(setup.kernels), answer.device)


def become_child(log: str) -> None:
    """Make this process a quiet child: output to the log, no Ctrl-C, gone when the parent is."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)
    faulthandler.enable()  # a segmentation fault leaves a Python traceback in the log
    parent = parent_process()
    assert parent is not None
    threading.Thread(target=_die_with, args=(parent.sentinel,), daemon=True).start()


def _die_with(sentinel: int) -> None:
    connection.wait([sentinel])
    os.kill(os.getpid(), signal.SIGKILL)


def use_target(kernels: Path, info: DeviceInfo, package: str = PACKAGE) -> Any:
    """Point the dialect of a kernels folder at the device; returns the dialect module."""
    from .. import kernel

    dialect = kernel.dialect(kernels, package)
    dialect.use(dialect.Target(info.kind, info.arch, info.schedules, info.sms))
    return dialect


def _start(setup: Setup) -> Hello | Fault:
    try:
        info = detect(setup.target)
        if info.kind == "cpu" and setup.target == "auto" and _fork_hides_gpu(setup):
            return Fault("the GPU does not answer", "", EXIT_ENVIRONMENT, True)
        use_target(Path(setup.kernels), info)
    except MxbenchError as error:
        return Fault(error.message, error.hint, error.exit_code, _fork_hides_gpu(setup))
    except Exception as error:
        traceback.print_exc()
        message = f"the worker cannot start: {type(error).__name__}: {error}"
        return Fault(message, "", EXIT_ENVIRONMENT, _fork_hides_gpu(setup))
    return Hello(info)


def _fork_hides_gpu(setup: Setup) -> bool:
    """Whether a GPU may be out of reach only because this process was forked.

    CUDA does not survive a fork: if importing torch or tilelang touched it in the fork server, a
    process of its own is needed.
    """
    import torch

    if not setup.forked or setup.target == "cpu" or torch.version.cuda is None:
        return False
    return any(map(os.path.exists, ("/dev/nvidiactl", "/dev/mxcd")))


def _serve(pipe: Connection, kernels: Path, info: DeviceInfo) -> None:
    from .judging import Bench  # with torch, which the fork server has at hand
    from .reading import read_problem
    from .submission import ProblemBench

    timeout = 0.0

    def enter(stage: Stage) -> None:
        faulthandler.dump_traceback_later(stage_limit(stage, timeout) + ORPHAN_GRACE, exit=True)
        protocol.send(pipe, Entered(stage))

    bench = Bench(kernels, info, enter)
    problems = ProblemBench(info, enter)
    arena = None
    gc.freeze()  # torch's objects live as long as the process: collections need not walk them
    while True:
        request = protocol.receive(pipe)
        if isinstance(request, Load):
            protocol.send(pipe, Loaded(bench.load_problem(request.kernel.kernel())))
        elif isinstance(request, Diagnose):
            protocol.send(pipe, _diagnose(request, info))
        elif isinstance(request, Measure):
            protocol.send(pipe, _measure(info))
        elif isinstance(request, OpenProblem):
            protocol.send(pipe, problems.open(request))
        elif isinstance(request, ReadProblem):
            protocol.send(pipe, read_problem(request, info))
        elif isinstance(request, Race):
            from .arena import Arena

            timeout = request.timeout
            arena = arena or Arena(bench)
            raced = arena.race(request)
            faulthandler.cancel_dump_traceback_later()
            protocol.send(pipe, raced)
            if any(outcome.poisoned for outcome in raced.outcomes):
                return
        elif isinstance(request, Judge | RunProblem):
            timeout = request.timeout
            if isinstance(request, Judge):
                outcome: Outcome | ProblemOutcome = bench.judge(request)
            else:
                outcome = problems.run(request)
            faulthandler.cancel_dump_traceback_later()
            protocol.send(pipe, outcome)
            if outcome.poisoned:
                return


def _measure(info: DeviceInfo) -> Measured:
    if info.torch_device == "cpu":
        return Measured(None, "a CPU has no bounds to measure for: its timings are no claim")
    from .peaks import measure

    try:
        return Measured(measure())
    except RuntimeError as error:
        traceback.print_exc()
        return Measured(None, f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")


def _diagnose(request: Diagnose, info: DeviceInfo) -> Diagnosis:
    from .diagnosing import diagnose

    try:
        return diagnose(Case.decode(request.case), info, request.honest)
    except (RuntimeError, MemoryError) as error:  # out of memory on either side
        traceback.print_exc()
        return Diagnosis(problem=f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")
