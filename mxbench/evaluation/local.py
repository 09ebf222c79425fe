"""Tasks on this machine's own devices: a thread and a process for each."""

from __future__ import annotations

import queue
import threading
from dataclasses import replace

import msgspec

from .. import devices
from . import fence, isolation
from .executor import Came, Event, Over, Try
from .isolation import Task
from .messages import Place, Result


class Local:
    """One task at a time on each device. Implements `Executor`."""

    def __init__(
        self,
        target: str,
        chosen: str | None,
        inner: str = isolation.INNER,
        *,
        fenced: bool = True,
    ) -> None:
        """
        Args:
            target: `auto`, `cuda`, `maca` or `cpu`.
            chosen: `--devices`.

        Raises:
            MxbenchError: as `devices.visible` and `isolation.probe`; or the devices differ.
        """
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.notes: list[str] = []
        self.shares_host = True
        walled = fenced and fence.available()
        if not walled:
            self.notes.append("no namespaces: hand-ins could read each other's files")
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._visible: dict[str, str | None] = {}
        self._places = []
        seen = devices.visible(chosen, target)
        for number, visible in enumerate(seen):
            device = isolation.probe(target, visible, inner, fenced=fenced)
            label = f"{device.kind}{number}" if len(seen) > 1 else device.kind
            # One machine: what `elsewhere` can mean is another GPU. A CPU has no other.
            machine = label if device.kind != "cpu" else isolation.machine_name()
            self._places.append(Place(label, machine, label, device, fenced=walled))
            self._visible[label] = visible

    @property
    def dashboard(self) -> str:
        return ""

    def places(self) -> list[Place]:
        return self._places

    def start(self, run: Try, task: Task) -> None:
        order = msgspec.structs.replace(task.order, visible=self._visible[run.place.id])
        task = replace(task, order=order)
        thread = threading.Thread(target=self._run, args=(run, task), daemon=True)
        self._threads = [t for t in self._threads if t.is_alive()] + [thread]
        thread.start()

    def _run(self, run: Try, task: Task) -> None:
        try:
            result = isolation.run(
                task, lambda record: self.events.put(Came(run, record)), self._stop
            )
        except Exception as error:  # of mxbench, not of the hand-in: shown, and bounded like a loss
            result = Result(status="unmeasured", reason=f"{type(error).__name__}: {error}")
        if not self._stop.is_set():
            self.events.put(Over(run, result))

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(10)
