"""Drives an evaluation: hands tasks to free devices, hears what comes of them, writes it down."""

from __future__ import annotations

import queue
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ..device import DeviceInfo
from ..errors import EXIT_ENVIRONMENT, MxbenchError
from ..record import Record
from . import drift, isolation, ledger, parcel
from .board import Board
from .executor import Came, Event, Executor, Lost, Over, Try
from .isolation import Task
from .ledger import Entry, Ledger
from .messages import FINAL, Order, Place, Result, Work
from .snapshot import Load, Snapshot

TICK = 1.0  # seconds between looks at which devices are there


@dataclass(frozen=True)
class Options:
    """How to measure every hand-in alike."""

    target: str
    rule: str
    baseline: str
    suites: dict[str, str]
    """Whose times are ranked, by operator."""
    gates: dict[str, str]
    """The suite of the gate, by operator."""
    kernel: str | None = None
    extras: bool = True
    timeout: float | None = None
    budget: float = 60.0
    limit: float = 3600.0
    drift: float = 0.05
    """Share by which a machine's baseline may be off."""
    patience: float = 600.0
    """Seconds to wait for a device when there is none."""
    model: str = ""
    """Device model to measure on; empty for the one that most devices are."""
    inner: str = isolation.INNER
    fenced: bool = True
    hidden: tuple[str, ...] = ()
    """Folders and files of this machine that no hand-in shall see."""
    on_cpu: bool = False


class Loop:
    """One evaluation in progress."""

    def __init__(
        self,
        hand_ins: dict[str, Path],
        kit: bytes,
        options: Options,
        board: Board,
        kept: Ledger,
        executor: Executor,
    ) -> None:
        self.hand_ins, self.options, self.board = hand_ins, options, board
        self.ledger, self.executor = kept, executor
        self.news: list[str | Entry] = []
        """Notes and results, oldest first; whoever shows them takes them out."""
        self.model = options.model
        self._kit = kit
        self._results: dict[Work, Entry] = {}
        self._running: dict[int, tuple[Try, float]] = {}
        self._kept: dict[int, set[tuple[str, str, str | None]]] = defaultdict(set)
        self._number = 0
        self._usual: dict[str, drift.Baselines] = defaultdict(drift.Baselines)
        self._off: set[Work] = set()
        """Results that stand though the baseline was off: nowhere else to measure them."""
        self._told_of_others = False
        self._caches: dict[Work, Path] = {}
        self._seen: dict[str, Place] = {}
        self._busy: dict[str, float] = defaultdict(float)
        self._served: Counter[str] = Counter()
        self._begin = self._without = time.monotonic()
        self._restore()
        self._restored = board.left

    # --- from start to end ----------------------------------------------------------------------

    def run(self, on_change: Callable[[], None]) -> None:
        """Until every task has a result; `on_change` is called when there is something to show.

        Raises:
            MxbenchError: exit code 3, there is no device (any more); what is finished stays.
            KeyboardInterrupt: the same.
        """
        try:
            while True:
                while not self.board.finished:
                    self._step()
                    on_change()
                if not self._review():
                    return
        finally:
            self.ledger.add(Entry(kind="stop"))

    def _step(self) -> None:
        places = self.executor.places()
        while self.executor.notes:
            self._note(self.executor.notes.pop(0))
        self._pin(places)
        self._hand_out(places)
        self._unblock(places)
        try:
            self._hear(self.executor.events.get(timeout=TICK))
            while True:
                self._hear(self.executor.events.get_nowait())
        except queue.Empty:
            pass

    def _pin(self, places: list[Place]) -> None:
        """Choose the device model, once; wait for a device of it, but not for ever."""
        for place in places:
            self._seen[place.id] = place
        models = Counter(place.model for place in places if place.device is not None)
        if not self.model and models:
            self.model = models.most_common(1)[0][0]
        others = [model for model in models if model != self.model]
        if others and not self._told_of_others:
            self._told_of_others = True
            self._note(
                f"measuring is pinned to {self.model}; {sum(models[m] for m in others)} other "
                f"devices stay idle ({'; '.join(others)})"
            )
        if self.model in models or self._running:
            self._without = time.monotonic()
        elif time.monotonic() - self._without > self.options.patience:
            raise MxbenchError(
                f"no device{f' of model {self.model}' if self.model else ''} for "
                f"{self.options.patience:g} s; {self.board.left} tasks are left",
                "start workers, then run the same command: it continues",
                EXIT_ENVIRONMENT,
            )

    def _hand_out(self, places: list[Place]) -> None:
        taken = {run.place.id for run, _ in self._running.values()}
        for place in places:
            if place.id in taken:
                continue
            if place.device is None:
                self._start(self.board.pick_compile() if self.model else None, place, "compile")
            elif place.model == self.model:
                self._start(self.board.pick(place), place, "measure")

    def _start(self, work: Work | None, place: Place, stage: str) -> None:
        if work is None:
            return
        self._number += 1
        run = Try(work, place, self._number, stage)
        try:
            task = self._task(work, stage)
        except MxbenchError as error:  # its files cannot be read
            self._running[run.number] = run, time.monotonic()
            self._hear(Over(run, Result(status="malformed", reason=error.message)))
            return
        self._running[run.number] = run, time.monotonic()
        if stage == "measure":
            self.ledger.add(ledger.entry(work, "start", place))
        self.executor.start(run, task)

    def _task(self, work: Work, stage: str) -> Task:
        options = self.options
        measure = stage == "measure"
        order = Order(
            work=work,
            stage="measure" if measure else "compile",
            target=options.target,
            rule=options.rule,
            suite=options.suites[work.op],
            gate=options.gates[work.op],
            kernel=options.kernel,
            extras=options.extras,
            timeout=options.timeout,
            budget=options.budget,
            limit=options.limit,
            given=self.ledger.records(work) if measure else (),
            device=None if measure else self._device(),
        )
        cache = self._caches.get(work)
        return Task(
            order,
            self._kit,
            parcel.hand_in(self.hand_ins[work.hand_in]),
            cache.read_bytes() if cache is not None and measure else b"",
            options.inner,
            options.hidden,
            options.fenced,
        )

    def _device(self) -> DeviceInfo | None:
        """A device of the model that is measured on."""
        return next((p.device for p in self._seen.values() if p.model == self.model), None)

    def _unblock(self, places: list[Place]) -> None:
        """Let nobody wait for a machine that is not there, once nothing runs any more."""
        measuring = [p for p in places if p.device is not None and p.model == self.model]
        if self._running or not measuring:
            return
        for work in self.board.stuck(measuring):
            if work.replica:
                self.board.give_up(work)
                reason = "no further machine to repeat it on"
                self._end(work, None, Result(status="unmeasured", reason=reason))
            else:
                self.board.forgive(work)
        if self.board.stuck(measuring):  # every machine's baseline drifts: none is better
            self._note("every machine's baseline has drifted: all of them measure on, flagged")
            self.board.flags.clear()

    # --- what comes -----------------------------------------------------------------------------

    def _hear(self, event: Event) -> None:
        run = event.run
        if run.number not in self._running:  # of a try that was given up
            return
        if isinstance(event, Came):
            self._keep(run, event.record)
            return
        _, since = self._running.pop(run.number)
        self._busy[run.place.id] += time.monotonic() - since
        if run.stage == "compile":
            self._compiled(event)
        elif isinstance(event, Lost):
            self._failed(run, event.reason, event.blame)
        else:
            for record in event.result.records:
                self._keep(run, record)
            self._over(run, event.result)
        self._kept.pop(run.number, None)

    def _keep(self, run: Try, record: Record) -> None:
        key = (record.id, record.kernel, record.rule)
        if run.stage == "measure" and key not in self._kept[run.number]:
            self._kept[run.number].add(key)
            self.ledger.keep(run.work, record)

    def _compiled(self, event: Over | Lost) -> None:
        work = event.run.work
        if isinstance(event, Over) and event.result.cache:
            path = self.ledger.folder / ".compiled" / f"{work.hand_in}-{work.op}-{work.replica}.tar"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(event.result.cache)
            self._caches[work] = path
        self.board.compiled(work)

    def _over(self, run: Try, result: Result) -> None:
        if result.said:
            self.ledger.said(run.work, result.said)
        if result.status == "died":
            self._failed(run, result.reason, True)
        elif result.status == "unmeasured":
            self._failed(run, result.reason, False)
        else:
            assert result.status in FINAL
            self._served[run.place.id] += 1
            self._finished(run, result)

    def _failed(self, run: Try, reason: str, blame: bool) -> None:
        """A try without a result: again, elsewhere perhaps, but not for ever."""
        work, task = run.work, self.board.tasks[run.work]
        line = ledger.entry(work, "strike" if blame else "loss", run.place)
        self.ledger.add(msgspec.structs.replace(line, reason=reason))
        if blame and not self.board.strike(work):
            reason = f"its worker died {task.strikes} times, at last: {reason}"
            self._end(work, run.place, Result(status="died", reason=reason))
        elif not blame and not self.board.lose(work):
            reason = f"given up after {task.losses} lost tries, at last: {reason}"
            self._end(work, run.place, Result(status="unmeasured", reason=reason))

    def _finished(self, run: Try, result: Result) -> None:
        work, machine = run.work, run.place.machine
        times = drift.baseline_times(self.ledger.records(work), self.options.baseline)
        usual = self._usual[work.op]
        usual.add(machine, times)
        off = self._deviation(work, times)
        if off is not None and self._rerun(work, machine, off, times):
            return
        self.board.end(work)
        self._end(work, run.place, result, off)

    def _deviation(self, work: Work, times: Mapping[str, float]) -> float | None:
        """How far the baseline is off if that is too far; a CPU's times are no claim anyway."""
        if self.options.on_cpu:
            return None
        off = self._usual[work.op].deviation(times)
        return off if off is not None and abs(off) > self.options.drift else None

    def _rerun(self, work: Work, machine: str, off: float, times: Mapping[str, float]) -> bool:
        """Flag a machine; True if the task will run elsewhere."""
        again = self.board.drifted(work, machine, self._measuring())
        what = f"{machine}: its baseline of {work.op} is {off:+.1%} off beside {work.hand_in}"
        trusted = "" if self.board.trusted(machine) else "; it gets no more tasks"
        self._note(f"{what}{'; measured again elsewhere' if again else ''}{trusted}")
        line = ledger.entry(work, "drift" if again else "flag", None)
        self.ledger.add(msgspec.structs.replace(line, machine=machine, deviation=round(off, 4)))
        if again:
            self._usual[work.op].remove(machine, times)
            self.ledger.drop(work)
            self._results.pop(work, None)
        else:
            self._off.add(work)
        return again

    def _measuring(self) -> list[Place]:
        return [p for p in self.executor.places() if p.device is not None and p.model == self.model]

    def _end(
        self, work: Work, place: Place | None, result: Result, off: float | None = None
    ) -> None:
        """Write a task's result down."""
        self.ledger.let_go(work)
        if (cache := self._caches.pop(work, None)) is not None:
            cache.unlink(missing_ok=True)
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
        self._results[work] = line
        self.news.append(line)

    def _review(self) -> bool:
        """Look at all results again, now that it is known what is usual; True if any is redone."""
        redone = False
        for work, line in list(self._results.items()):
            off = self._deviation(work, line.baseline)
            if off is not None and work not in self._off:
                redone |= self._rerun(work, line.machine, off, line.baseline)
        return redone

    # --- what was before, what is now -----------------------------------------------------------

    def _restore(self) -> None:
        """Take over what the ledger says."""
        strikes: Counter[Work] = Counter()
        running: dict[Work, Entry] = {}
        for line in self.ledger.entries:
            work = line.work
            if line.kind == "stop":
                running.clear()
            if work not in self.board.tasks:  # of a hand-in that does not take part any more
                continue
            strikes[work] += line.kind == "strike"
            running.pop(work, None)
            if line.kind == "start":
                running[work] = line
            if line.kind == "result":
                self._results[work] = line
            elif line.kind == "drift":
                self._results.pop(work, None)
                self.board.tasks[work].drifts += 1
                self.board.tasks[work].avoid.add(line.machine)
            if line.kind in ("drift", "flag"):
                self.board.flags[line.machine] += 1
            self.model = self.model or line.model
        for work, count in strikes.items():
            self.board.tasks[work].strikes = count
        for work, line in self._results.items():
            self.board.restore_done(work, line.machine)
            self._usual[work.op].add(line.machine, line.baseline)
        if self.executor.shares_host:  # this very process was killed while they ran
            for work, line in running.items():
                self._blame(work, line)

    def _blame(self, work: Work, line: Entry) -> None:
        """Count a death of this process that nobody could write down."""
        reason = "mxbench was killed while it ran"
        strike = msgspec.structs.replace(line, kind="strike", reason=reason)
        self.ledger.add(strike)
        task = self.board.tasks[work]
        task.strikes += 1
        if task.strikes >= self.board.policy.strikes:
            self.board.give_up(work)
            reason = f"its worker died {task.strikes} times, at last: {reason}"
            self._end(work, None, Result(status="died", reason=reason))

    @property
    def results(self) -> dict[Work, Entry]:
        """The result of every task that has one."""
        return dict(self._results)

    def snapshot(self) -> Snapshot:
        """How things stand, for whoever watches."""
        now = time.monotonic()
        running = {run.place.id: (run, since) for run, since in self._running.values()}
        loads = []
        for place in self._seen.values():
            run, since = running.get(place.id, (None, now))
            loads.append(
                Load(
                    label=place.label,
                    model=place.model or "compiles",
                    now="" if run is None else str(run.work),
                    served=self._served[place.id],
                    busy=(self._busy[place.id] + now - since) / max(now - self._begin, 1e-9),
                    trusted=self.board.trusted(place.machine),
                )
            )
        done = self._restored - self.board.left
        each = (now - self._begin) / done if done > 0 else None
        return Snapshot(
            total=len(self.board.tasks),
            done=len(self._results),
            failed=sum(line.failed for line in self._results.values()),
            running=len(self._running),
            seconds=now - self._begin,
            left=None if each is None else each * self.board.left,
            loads=loads,
        )

    def _note(self, text: str) -> None:
        self.news.append(text)
