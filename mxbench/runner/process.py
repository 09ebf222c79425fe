"""Start worker processes: from a fork server that has imported torch, or afresh."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal

from ..device import maca_on_disk
from ..errors import EXIT_ENVIRONMENT, MxbenchError

StartMethod = Literal["forkserver", "spawn"]
# Environment variable that chooses how workers start, should the choice made here be wrong.
START_METHOD = "MXBENCH_START_METHOD"

PRELOAD = ["mxbench.runner.preload"]
_STARTING = threading.Lock()  # one at a time: this process's output goes to the log meanwhile
LOG_TAIL = 16384  # bytes of a log that are looked at
WORKER_ENVIRONMENT = {
    # tilelang asks torch.cuda.is_available() on import. By default that initialises CUDA, which
    # in the fork server would make CUDA unusable for every worker; asking NVML does not.
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
    "TILELANG_PRINT_ON_COMPILATION": "0",
    # By default torch's threads spin while they wait for each other. Where other processes want
    # the cores too, a tiny operation then takes a scheduler's time slice instead of microseconds.
    "OMP_WAIT_POLICY": "passive",
}


def start_method() -> StartMethod:
    """How to start workers: `forkserver`, unless the user or the platform says otherwise."""
    chosen = os.environ.get(START_METHOD)
    if chosen is None:
        # MACA's torch has no NVML to ask, so importing it may touch the device.
        return "spawn" if maca_on_disk() else "forkserver"
    if chosen not in ("forkserver", "spawn"):
        raise MxbenchError(
            f"{START_METHOD}={chosen!r} is not a way to start workers", "use forkserver or spawn"
        )
    return chosen  # type: ignore[return-value]  # narrowed by the test above


def start_process(
    method: StartMethod, target: Callable[..., None], settings: Any, log: Path
) -> tuple[BaseProcess, Connection]:
    """A started process running `target(pipe, settings)`, and our end of its pipe.

    Its stdout and stderr go to `log` from the first instruction on, the fork server's too.

    Raises:
        MxbenchError: exit code 3, the process cannot be started.
    """
    with _STARTING:
        return _start_process(method, target, settings, log)


def _start_process(
    method: StartMethod, target: Callable[..., None], settings: Any, log: Path
) -> tuple[BaseProcess, Connection]:
    for name, value in WORKER_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    context = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(theirs, settings), daemon=True)  # type: ignore[attr-defined]  # every start method has it
    try:
        if method == "forkserver":
            context.set_forkserver_preload(PRELOAD)
            with _output_to(log), _ctrl_c_ignored():
                forkserver.ensure_running()
            process.start()  # waits for the server's imports, and Ctrl-C may end the wait
        else:
            with _output_to(log), _ctrl_c_ignored():
                process.start()
    except (OSError, EOFError) as error:
        said = tail(log, 0) or "(empty)"
        raise MxbenchError(
            f"a worker process cannot be started: {error}; its log ends: {said}",
            f"try {START_METHOD}=spawn",
            EXIT_ENVIRONMENT,
        ) from error
    finally:
        theirs.close()
    return process, ours


def kill(process: BaseProcess) -> None:
    """End a process at once and wait until it is gone (a GPU context takes a while to go)."""
    with contextlib.suppress(OSError):
        process.kill()
    process.join(60)


def cause_of_death(code: int | None) -> str:
    """`killed by SIGSEGV` or `exited with code 3`."""
    if code is None:
        return "stopped answering"
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def tail(log: Path, start: int, lines: int = 3) -> str:
    """The last lines that a log got since byte `start`, in one."""
    return " | ".join(_lines_since(log, start)[-lines:])


def last_words(log: Path, start: int, kernel: str) -> str:
    """What a dead worker's log says since byte `start`.

    Of a fatal error's traceback the innermost line in the file named `kernel`, else the tail.
    """
    lines = _lines_since(log, start)
    fatal = [line for line in lines if line.startswith("Fatal Python error")]
    near = re.compile(rf'File "(?:[^"]*/)?{re.escape(kernel)}", line (\d+) in (\S+)')
    places = [found for found in map(near.search, lines) if found]
    if fatal and places:
        return f"{fatal[-1]} ({kernel}:{places[0][1]}, in {places[0][2]})"
    return " | ".join(lines[-3:])


def _lines_since(log: Path, start: int) -> list[str]:
    try:
        with log.open("rb") as file:
            file.seek(max(start, file.seek(0, os.SEEK_END) - LOG_TAIL))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return [line.strip() for line in text.splitlines() if line.strip()]


@contextlib.contextmanager
def _output_to(log: Path) -> Iterator[None]:
    """Inside, child processes inherit the log as their stdout and stderr."""
    sys.stdout.flush()
    sys.stderr.flush()
    fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    kept = [os.dup(1), os.dup(2)]
    try:
        os.dup2(fd, 1)
        os.dup2(fd, 2)
        yield
    finally:
        for number, copy in enumerate(kept, 1):
            os.dup2(copy, number)
            os.close(copy)
        os.close(fd)


@contextlib.contextmanager
def _ctrl_c_ignored() -> Iterator[None]:
    """Inside, child processes start deaf to Ctrl-C, which the terminal sends to all of them."""
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # not the main thread: Ctrl-C does not come here anyway
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
