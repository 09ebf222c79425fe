"""Drives a worker through a problem, and survives what the two files do. Needs no torch."""

from __future__ import annotations

import time

from ..errors import MxbenchError
from ..record import scrub
from ..runner.process import last_words
from ..runner.protocol import Entered, Stage, stage_limit
from ..runner.supervisor import REASON_LENGTH, Supervisor, WorkerDied, WorkerHung
from ..verdict import Status
from .folder import ProblemFolder, SubmissionFile
from .messages import (
    PROBLEM_STAGES,
    OpenProblem,
    ProblemOpened,
    ProblemOutcome,
    ProblemRead,
    ReadProblem,
    RunProblem,
)

OPEN_LIMIT = 120.0  # seconds to import both files and to ask for all sizes
READ_LIMIT = 300.0  # seconds to draw every case that has to be drawn to be understood


class Driver(Supervisor):
    """A supervisor whose worker judges a public judge's problem."""

    def __enter__(self) -> Driver:
        return self

    def open(self, problem: ProblemFolder, submission: SubmissionFile | None) -> ProblemOpened:
        """Import both in the worker, and what the problem says of its cases.

        Raises:
            MxbenchError: exit code 2, one of them cannot be used; with the reason.
        """
        path = "" if submission is None else str(submission.path)
        answer = self._ask(OpenProblem(str(problem.path), path), OPEN_LIMIT)
        assert isinstance(answer, ProblemOpened | str), answer
        if isinstance(answer, str):
            raise MxbenchError(
                f"problem {problem.path.name}: {scrub(answer)}",
                "it must import, and tell its sizes, within seconds",
            )
        if answer.fault:
            said = f"\nit printed: {answer.said}" if answer.said else ""
            raise MxbenchError(f"problem {problem.path.name}: {answer.fault}", answer.hint + said)
        return answer

    def read(self, problem: ProblemFolder) -> ProblemRead:
        """The problem's cases as mxbench's own.

        Raises:
            MxbenchError: exit code 2, it cannot be used, or is of no operator that mxbench knows.
        """
        answer = self._ask(ReadProblem(str(problem.path)), READ_LIMIT)
        assert isinstance(answer, ProblemRead | str), answer
        if isinstance(answer, str):
            raise MxbenchError(
                f"problem {problem.path.name}: {scrub(answer)}", "its module must answer in time"
            )
        if answer.fault:
            raise MxbenchError(f"problem {problem.path.name}: {answer.fault}", answer.hint)
        return answer

    def run(
        self,
        problem: ProblemFolder,
        submission: SubmissionFile,
        number: int,
        budget: float,
        timed: bool,
    ) -> ProblemOutcome:
        """The outcome of one case, whatever happens to the worker.

        Raises:
            MxbenchError: exit code 3, a new worker cannot be started.
        """
        self._mark_log()
        self._send(
            RunProblem(
                folder=str(problem.path),
                submission=str(submission.path),
                number=number,
                timeout=self.timeout,
                budget=budget,
                timed=timed,
            )
        )
        return self._follow(submission)

    def _follow(self, submission: SubmissionFile) -> ProblemOutcome:
        """Wait for the case's outcome, stage by stage; made up if the worker hangs or dies."""
        stage: Stage = "genTestCase"
        while True:
            limit = stage_limit(stage, self.timeout)
            begin = time.monotonic()
            try:
                answer = self._receive(limit)
            except WorkerHung:
                reason = f"{_whose(stage)} did not return within {limit:g} s"
                return ProblemOutcome(status=Status.TIMEOUT, reason=reason)
            except WorkerDied as death:
                spent = time.monotonic() - begin
                said = scrub(last_words(self._log, self._log_start, submission.path.name))
                reason = f"the worker {death} after {spent:.1f} s in {_whose(stage)}"
                if said:
                    reason += f"; it said: {said[:REASON_LENGTH]}"
                return ProblemOutcome(status=Status.CRASHED, reason=reason)
            if isinstance(answer, Entered):
                stage = answer.stage
            elif isinstance(answer, ProblemOutcome):
                if answer.poisoned:
                    self.close()
                return answer


def _whose(stage: Stage) -> str:
    if stage == "submission":
        return "the submission's run_kernel"
    if stage in PROBLEM_STAGES:
        return f"the problem's {stage}"
    return f"mxbench's own {stage}"
