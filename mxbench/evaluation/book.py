"""What has come of every task: writes it down, judges the machines, and takes it up again."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

import msgspec

from ..record import Record
from . import drift, ledger
from .board import Board
from .executor import Try
from .ledger import Entry, Kind, Ledger
from .messages import Place, Result, Work
from .options import Options


class Book:
    """Results of an evaluation, and what the board must know of them."""

    def __init__(self, board: Board, kept: Ledger, options: Options, *, shares_host: bool) -> None:
        """
        Args:
            shares_host: whether hand-ins may end this very process, as its children.
        """
        self.board, self.ledger, self.options = board, kept, options
        self.news: list[str | Entry] = []
        """Notes and results, oldest first; whoever shows them takes them out."""
        self.results: dict[Work, Entry] = {}
        """The result of every task that has one."""
        self.model = options.model
        """Device model that is measured on; empty until there is a device."""
        self._kept: dict[int, set[tuple[str, str, str | None]]] = defaultdict(set)
        self._usual: dict[str, drift.Baselines] = defaultdict(drift.Baselines)
        self._off: set[Work] = set()
        """Results that stand though the baseline was off: nowhere else to measure them."""
        self._restore(shares_host)

    def keep(self, run: Try, record: Record) -> None:
        """A case is finished; told twice, it is written once."""
        key = (record.id, record.kernel, record.rule)
        if key not in self._kept[run.number]:
            self._kept[run.number].add(key)
            self.ledger.keep(run.work, record)

    def failed(self, run: Try, reason: str, blame: bool) -> None:
        """A try without a result: again, elsewhere perhaps, but not for ever."""
        line = ledger.entry(run.work, "strike" if blame else "loss", run.place)
        self.ledger.add(msgspec.structs.replace(line, reason=reason))
        self._tried(run.work, run.place, reason, blame=blame)

    def _tried(self, work: Work, place: Place | None, reason: str, *, blame: bool) -> None:
        """Count a try that is written down; the last one gives the task its result."""
        task = self.board.tasks[work]
        if blame and not self.board.strike(work):
            reason = f"its worker died {task.strikes} times, at last: {reason}"
            self.end(work, place, Result(status="died", reason=reason))
        elif not blame and not self.board.lose(work):
            reason = f"given up after {task.losses} lost tries, at last: {reason}"
            self.end(work, place, Result(status="unmeasured", reason=reason))

    def finished(self, run: Try, result: Result, places: Iterable[Place]) -> None:
        """A try has a result; `places` are those where it could be measured again."""
        work, machine = run.work, run.place.machine
        times = drift.baseline_times(self.ledger.records(work), self.options.baseline)
        usual = self._usual[work.op]
        usual.add(machine, times)
        off = self._deviation(work, times)
        if off is not None and self._rerun(work, machine, off, times, places):
            return
        self.board.end(work)
        self.end(work, run.place, result, off)

    def _deviation(self, work: Work, times: Mapping[str, float]) -> float | None:
        """How far the baseline is off if that is too far; a CPU's times are no claim anyway."""
        if self.options.on_cpu:
            return None
        off = self._usual[work.op].deviation(times)
        return off if off is not None and abs(off) > self.options.drift else None

    def _rerun(
        self,
        work: Work,
        machine: str,
        off: float,
        times: Mapping[str, float],
        places: Iterable[Place],
    ) -> bool:
        """Flag a machine; True if the task will run elsewhere."""
        again = self.board.drifted(work, machine, places)
        what = f"{machine}: its baseline of {work.op} is {off:+.1%} off beside {work.hand_in}"
        trusted = "" if self.board.trusted(machine) else "; it gets no more tasks"
        self.news.append(f"{what}{'; measured again elsewhere' if again else ''}{trusted}")
        line = ledger.entry(work, "drift" if again else "flag", None)
        self.ledger.add(msgspec.structs.replace(line, machine=machine, deviation=round(off, 4)))
        if again:
            self._usual[work.op].remove(machine, times)
            self.ledger.drop(work)
            self.results.pop(work, None)
        else:
            self._off.add(work)
        return again

    def end(
        self, work: Work, place: Place | None, result: Result, off: float | None = None
    ) -> None:
        """Write a task's result down."""
        self.ledger.let_go(work)
        records, base = self.ledger.records(work), self.options.baseline
        mine = [r for r in records if r.kernel != base]
        line = msgspec.structs.replace(
            ledger.entry(work, "result", place, result),
            kernel=", ".join(dict.fromkeys(r.kernel for r in mine)),
            passed=sum(r.passed for r in mine),
            cases=len(mine),
            ratios=drift.ratios(records, base),
            baseline=drift.baseline_times(records, base),
            deviation=None if off is None else round(off, 4),
        )
        self.ledger.add(line)
        self.results[work] = line
        self.news.append(line)

    def review(self, places: Iterable[Place]) -> bool:
        """Look at all results again, now that it is known what is usual; True if any is redone."""
        redone = False
        for work, line in list(self.results.items()):
            off = self._deviation(work, line.baseline)
            if off is not None and work not in self._off:
                redone |= self._rerun(work, line.machine, off, line.baseline, places)
        return redone

    def _restore(self, shares_host: bool) -> None:
        """Take over what the ledger says."""
        strikes: Counter[Work] = Counter()
        losses: Counter[Work] = Counter()
        running: dict[Work, Entry] = {}
        for line in self.ledger.entries:
            work = line.work
            if line.kind == "stop":
                running.clear()
            if work not in self.board.tasks:  # of a hand-in that does not take part any more
                continue
            strikes[work] += line.kind == "strike"
            losses[work] += line.kind == "loss"
            running.pop(work, None)
            if line.kind == "start":
                running[work] = line
            if line.kind == "result":
                self.results[work] = line
            elif line.kind == "drift":
                self.results.pop(work, None)
                self.board.tasks[work].drifts += 1
                self.board.tasks[work].avoid.add(line.machine)
            if line.kind in ("drift", "flag"):
                self.board.flags[line.machine] += 1
            self.model = self.model or line.model
        for work, task in self.board.tasks.items():
            task.strikes, task.losses = strikes[work], losses[work]
        for work, line in self.results.items():
            self.board.restore_done(work, line.machine)
            self._usual[work.op].add(line.machine, line.baseline)
        if shares_host:  # this very process was killed while they ran
            for work, line in running.items():
                self._count_death(work, line)

    def _count_death(self, work: Work, line: Entry) -> None:
        """Count a death of this process that nobody could write down.

        Of a hand-in behind a fence it is a loss: for want of memory it may have caused it, and so
        must not be tried for ever, but to have killed this process it cannot be convicted of.
        """
        reason = "mxbench was killed while it ran"
        kind: Kind = "loss" if line.fenced else "strike"
        self.ledger.add(msgspec.structs.replace(line, kind=kind, reason=reason))
        self.board.take(work)
        self._tried(work, None, reason, blame=not line.fenced)
