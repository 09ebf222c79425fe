"""Drives one worker, and survives it: a crash or a hang costs one case. Never imports torch."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType

import msgspec

from ..case import Case
from ..device import DeviceInfo, require_host_compiler
from ..diagnosis import Diagnosis
from ..errors import EXIT_ENVIRONMENT, MxbenchError
from ..kernel import Kernel
from ..measurement import Plan
from ..record import scrub
from ..roofline import Rates
from ..verdict import Status
from . import protocol, worker
from .process import (
    StartMethod,
    cause_of_death,
    kill,
    last_words,
    start_method,
    start_process,
    tail,
)
from .protocol import (
    Diagnose,
    Entered,
    Fault,
    Hello,
    Judge,
    KernelRef,
    Load,
    Loaded,
    Measure,
    Measured,
    Message,
    Outcome,
    Raced,
    Setup,
    Stage,
    stage_limit,
)

START_LIMIT = 300.0  # seconds to import torch and tilelang and to find the device
MEASURE_LIMIT = 120.0  # seconds for the device's rates
LOAD_LIMIT = 120.0  # seconds to import a kernel module
REASON_LENGTH = 400


class WorkerDied(Exception):
    """The worker is gone."""


class WorkerHung(Exception):
    """The worker did not answer in time."""


class Supervisor:
    """One worker at a time on one device. Use as a context manager; then start, load, judge."""

    def __init__(
        self,
        kernels: Path,
        target: str,
        log: Path,
        timeout: float = 60.0,
        visible: str | None = None,
        companions: int = 0,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """
        Args:
            kernels: the workspace's kernels folder.
            target: `auto`, `cuda`, `maca` or `cpu`.
            log: file for the workers' stdout and stderr.
            timeout: seconds a kernel may take, compiling apart.
            visible: the only GPU that the worker sees, by number or id.
            companions: other workers on that GPU, which rest while this one measures.
            environ: the worker's environment variables, beside this process's.
        """
        self.timeout = timeout
        self.method: StartMethod = start_method()
        self.notes: list[str] = []
        """What the user should know about how things went, such as a changed start method."""
        self.replaced = 0
        """Workers that had to be replaced."""
        self._kernels, self._target, self._log = kernels, target, log
        self._visible, self._companions = visible, companions
        self._environ = dict(environ or {})
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None
        self._log_start = 0

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the worker, whatever it is doing."""
        if self._pipe is not None:
            self._pipe.close()
        if self._process is not None:
            kill(self._process)
        self._pipe = self._process = None

    @property
    def pid(self) -> int | None:
        """The worker's process id while there is one."""
        return None if self._process is None else self._process.pid

    def kill(self) -> None:
        """End the worker from another thread: whoever waits for it hears of its death."""
        if (pid := self.pid) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def start(self) -> DeviceInfo:
        """Start the worker; returns the device it found.

        Raises:
            MxbenchError: exit code 3, the device or a compiler is missing.
        """
        if self._target == "cpu":
            require_host_compiler()  # here rather than after the seconds that torch takes
        answer = self._launch()
        if isinstance(answer, Fault) and answer.bad_fork:
            self.notes.append(f"workers start slowly (spawn): {answer.message} in a forked process")
            self.close()
            self.method = "spawn"
            answer = self._launch()
        if isinstance(answer, Fault):
            self.close()
            raise answer.error()
        assert isinstance(answer, Hello), answer
        if self._visible is not None and answer.device.kind == "cpu":
            self.close()
            raise MxbenchError(
                f"--devices: there is no GPU {self._visible}",
                "`mxbench env` shows what there is; on a CPU use --target cpu",
            )
        return answer.device

    def _launch(self) -> Message:
        setup = Setup(
            kernels=str(self._kernels),
            target=self._target,
            log=str(self._log),
            forked=self.method == "forkserver",
            visible=self._visible,
            companions=self._companions,
            environ=self._environ,
        )
        self._mark_log()
        self._process, self._pipe = start_process(self.method, worker.main, setup, self._log)
        try:
            return self._receive(START_LIMIT)
        except (WorkerDied, WorkerHung) as death:
            said = tail(self._log, self._log_start)
            self.close()
            raise MxbenchError(
                f"the worker did not start: it {death}; its log ends: {said or '(empty)'}",
                "check the installation of torch and tilelang",
                EXIT_ENVIRONMENT,
            ) from death

    def _mark_log(self) -> None:
        """Remember the log's end, so that a reason quotes only what this step wrote."""
        self._log_start = self._log.stat().st_size if self._log.exists() else 0

    def _receive(self, limit: float) -> Message:
        """The worker's next message. A dead or silent worker is killed first, then reported."""
        assert self._process is not None and self._pipe is not None
        ready = wait([self._pipe, self._process.sentinel], limit)
        try:
            # A worker may answer and exit: what is in the pipe comes first.
            if self._pipe in ready or self._pipe.poll():
                return protocol.receive(self._pipe)
        except (EOFError, OSError, msgspec.MsgspecError):
            ready = [self._process.sentinel]
        if not ready:
            self.close()
            raise WorkerHung(f"did not answer within {limit:g} s")
        self._process.join(10)
        code = self._process.exitcode
        self.close()
        raise WorkerDied(cause_of_death(code))

    def _send(self, message: Message) -> None:
        """Send to the worker, or to a new one if the last one is gone."""
        if self._pipe is not None:
            try:
                protocol.send(self._pipe, message)
                return
            except OSError:  # it died between two cases, through no fault of this one
                self.close()
        self.replaced += 1
        self.start()
        assert self._pipe is not None
        protocol.send(self._pipe, message)

    def _ask(self, message: Message, limit: float) -> Message | str:
        """The worker's answer, or in words why there is none."""
        self._mark_log()
        self._send(message)
        try:
            return self._receive(limit)
        except (WorkerDied, WorkerHung) as death:
            return f"the worker {death}; {tail(self._log, self._log_start)}"

    def load(self, kernel: Kernel) -> None:
        """Import a kernel's module in the worker.

        Raises:
            MxbenchError: it does not import; with its exception and line.
        """
        answer = self._ask(Load(KernelRef.of(kernel)), LOAD_LIMIT)
        assert isinstance(answer, Loaded | str), answer
        problem = answer if isinstance(answer, str) else answer.problem
        if problem:
            raise MxbenchError(
                f"kernel {kernel.name} ({kernel.path.name}) does not import: {problem}",
                "run the file on its own with Python to see the whole traceback",
            )

    def measure(self) -> Rates:
        """What the device reaches in a large matrix product and a large copy.

        Raises:
            MxbenchError: exit code 3, it cannot be measured.
        """
        answer = self._ask(Measure(), MEASURE_LIMIT)
        assert isinstance(answer, Measured | str), answer
        if isinstance(answer, Measured) and answer.rates is not None:
            return answer.rates
        problem = answer if isinstance(answer, str) else answer.problem
        raise MxbenchError(
            f"the device's rates cannot be measured: {scrub(problem)}",
            "run on a machine with a GPU that nobody else uses",
            EXIT_ENVIRONMENT,
        )

    def diagnose(self, case: Case, honest: int, limit: float) -> Diagnosis:
        """What a test of the case's tolerances finds, within `limit` seconds."""
        answer = self._ask(Diagnose(case.encode(), honest), limit)
        assert isinstance(answer, Diagnosis | str), answer
        return Diagnosis(problem=scrub(answer)) if isinstance(answer, str) else answer

    def judge(
        self,
        case: Case,
        kernel: Kernel,
        precision: str = "fp32",
        plan: Plan | None = None,
        repeats: int = 0,
        probe: bool = True,
    ) -> Outcome:
        """The outcome of one case, timed as `plan` says, whatever happens to the worker.

        Raises:
            MxbenchError: exit code 3, a new worker cannot be started.
        """
        self._mark_log()
        self._send(Judge.of(case, kernel, precision, self.timeout, plan, repeats, probe))
        answer = self._through_stages(kernel)
        assert isinstance(answer, Outcome), answer
        return answer

    def _through_stages(self, kernel: Kernel) -> Outcome | Raced:
        """The answer to a request that runs kernels in stages, or what became of the worker."""
        stage: Stage = "inputs"
        while True:
            limit = stage_limit(stage, self.timeout)
            begin = time.monotonic()
            try:
                answer = self._receive(limit)
            except WorkerHung:
                return _timed_out(stage, limit)
            except WorkerDied as death:
                seconds = time.monotonic() - begin
                said = last_words(self._log, self._log_start, kernel.path.name)
                return _crashed(f"{death} after {seconds:.1f} s in stage {stage}", said)
            if isinstance(answer, Entered):
                stage = answer.stage
            elif isinstance(answer, Outcome | Raced):
                outcomes = answer.outcomes if isinstance(answer, Raced) else [answer]
                if any(outcome.poisoned for outcome in outcomes):
                    self.close()
                return answer


def _timed_out(stage: Stage, limit: float) -> Outcome:
    if stage == "kernel":
        reason = f"the kernel did not return within {limit:g} s"
    elif stage == "compile":
        reason = f"the kernel did not compile within {limit:g} s"
    else:
        reason = f"mxbench's own {stage} took more than {limit:g} s"
    return Outcome(status=Status.TIMEOUT, reason=reason)


def _crashed(death: str, said: str) -> Outcome:
    reason = f"the worker was {death}" if death.startswith("killed") else f"the worker {death}"
    return Outcome(
        status=Status.CRASHED,
        reason=f"{reason}; it said: {scrub(said)[:REASON_LENGTH]}" if said else reason,
    )
