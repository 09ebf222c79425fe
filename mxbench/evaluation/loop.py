"""Drives an evaluation: hands tasks to free devices, hears what comes of them, writes it down."""

from __future__ import annotations

import queue
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

from ..device import DeviceInfo
from ..errors import EXIT_ENVIRONMENT, MxbenchError
from . import ledger, parcel
from .board import Board
from .book import Book
from .executor import Came, Event, Executor, Lost, Over, Try
from .isolation import Task
from .ledger import Entry, Ledger
from .messages import FINAL, Order, Place, Result, Work
from .options import Options
from .snapshot import Load, Snapshot

TICK = 1.0  # seconds between looks at which devices are there


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
        self.book = Book(board, kept, options, shares_host=executor.shares_host)
        self._kit = kit
        self._running: dict[int, tuple[Try, float]] = {}
        self._number = 0
        self._told_of_others = False
        self._caches: dict[Work, Path] = {}
        self._seen: dict[str, Place] = {}
        self._there: set[str] = set()
        self._busy: dict[str, float] = defaultdict(float)
        self._served: Counter[str] = Counter()
        self._begin = self._without = time.monotonic()
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
                if not self.book.review(self._measuring()):
                    return
        finally:
            self.ledger.add(Entry(kind="stop"))

    def _step(self) -> None:
        places = self.executor.places()
        while self.executor.notes:
            self.book.news.append(self.executor.notes.pop(0))
        self._pin(places)
        self._hand_out(places)
        self._unblock()
        try:
            self._hear(self.executor.events.get(timeout=TICK))
            while True:
                self._hear(self.executor.events.get_nowait())
        except queue.Empty:
            pass

    def _pin(self, places: list[Place]) -> None:
        """Choose the device model, once; wait for a device of it, but not for ever."""
        self._there = {place.id for place in places}
        self._seen.update((place.id, place) for place in places)
        models = Counter(place.model for place in places if place.device is not None)
        if not self.book.model and models:
            self.book.model = models.most_common(1)[0][0]
        others = [model for model in models if model != self.book.model]
        if others and not self._told_of_others:
            self._told_of_others = True
            self.book.news.append(
                f"measuring is pinned to {self.book.model}; {sum(models[m] for m in others)} other "
                f"devices stay idle ({'; '.join(others)})"
            )
        if self.book.model in models or self._running:
            self._without = time.monotonic()
        elif time.monotonic() - self._without > self.options.patience:
            raise MxbenchError(
                f"no device{f' of model {self.book.model}' if self.book.model else ''} for "
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
                self._start(
                    self.board.pick_compile() if self.book.model else None, place, "compile"
                )
            elif place.model == self.book.model:
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
        return next((p.device for p in self._seen.values() if p.model == self.book.model), None)

    def _measuring(self) -> list[Place]:
        """Where tasks are measured at this moment."""
        there = self.executor.places()
        return [p for p in there if p.device is not None and p.model == self.book.model]

    def _unblock(self) -> None:
        """Let nobody wait for a machine that is not there, once nothing runs any more."""
        measuring = self._measuring()
        if self._running or not measuring:
            return
        for work in self.board.stuck(measuring):
            if work.replica:
                self.board.give_up(work)
                reason = "no further machine to repeat it on"
                self.book.end(work, None, Result(status="unmeasured", reason=reason))
            else:
                self.board.forgive(work)
        if self.board.stuck(measuring):  # every machine's baseline drifts: none is better
            self.book.news.append(
                "every machine's baseline has drifted: all of them measure on, flagged"
            )
            self.board.flags.clear()

    # --- what comes -----------------------------------------------------------------------------

    def _hear(self, event: Event) -> None:
        run = event.run
        if run.number not in self._running:  # of a try that was given up
            return
        if isinstance(event, Came):
            if run.stage == "measure":
                self.book.keep(run, event.record)
            return
        _, since = self._running.pop(run.number)
        self._busy[run.place.id] += time.monotonic() - since
        if run.stage == "compile":
            self._compiled(event)
        elif isinstance(event, Lost):
            self.book.failed(run, event.reason, event.blame)
        else:
            for record in event.result.records:
                self.book.keep(run, record)
            self._over(run, event.result)
        if self.board.tasks[run.work].done and (cache := self._caches.pop(run.work, None)):
            cache.unlink(missing_ok=True)

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
            self.book.failed(run, result.reason, True)
        elif result.status == "unmeasured":
            self.book.failed(run, result.reason, False)
        else:
            assert result.status in FINAL
            self._served[run.place.id] += 1
            self.book.finished(run, result, self._measuring())

    # --- how things stand -----------------------------------------------------------------------

    @property
    def results(self) -> dict[Work, Entry]:
        """The result of every task that has one."""
        return self.book.results

    def snapshot(self) -> Snapshot:
        """How things stand, for whoever watches."""
        now = time.monotonic()
        running = {run.place.id: (run, since) for run, since in self._running.values()}
        loads = []
        for place in (p for p in self._seen.values() if p.id in self._there):
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
            done=len(self.results),
            failed=sum(line.failed for line in self.results.values()),
            running=len(self._running),
            seconds=now - self._begin,
            left=None if each is None else each * self.board.left,
            loads=loads,
        )
