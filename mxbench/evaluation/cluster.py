"""Tasks on a Dask cluster. The evaluation decides what runs where; Dask carries it there.

Every task is pinned to one worker, and never moved by the scheduler: who died, and how often, is
counted here, and a retry elsewhere is another task. Finished cases come back at once as events of
the worker, so that a worker's death loses none of them.
"""

from __future__ import annotations

import contextlib
import queue
import secrets
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from distributed import Client, Future, Worker, get_worker

from .. import __version__
from ..device import DeviceInfo
from ..errors import EXIT_ENVIRONMENT, MxbenchError
from ..record import Record
from . import fence, isolation
from .executor import Came, Event, Lost, Over, Try
from .isolation import Task
from .messages import Place, Result, Status

GPU = "GPU"
"""Resource that a worker with a GPU declares: `dask worker --resources GPU=1`."""
CONNECT_LIMIT = 20.0  # seconds
GONE_AFTER = 2  # looks at the list of workers without this one
LOOK_EVERY = 0.5  # seconds


class Found(msgspec.Struct, frozen=True):
    """What a worker says of itself."""

    generation: str
    version: str
    machine: str
    device: DeviceInfo | None
    problem: str = ""
    fenced: bool = False


# --- on the workers -----------------------------------------------------------------------------


def look_around(target: str, measures: bool, inner: str, fenced: bool) -> bytes:
    """A `Found`, encoded. Runs on a worker."""
    worker = get_worker()
    device, problem = None, ""
    if measures:
        try:
            device = isolation.probe(target, None, inner, fenced=fenced)
        except MxbenchError as error:
            problem = error.message
    machine = isolation.machine_name()
    walled = fenced and fence.available()
    return msgspec.json.encode(Found(worker.id, __version__, machine, device, problem, walled))


def carry_out(number: int, topic: str, generation: str, task: Task) -> bytes:
    """Measure or compile; a `Result`, encoded. Runs on a worker, which it was meant for."""
    worker = get_worker()
    if worker.id != generation:
        # Another process took the dead one's address, and the scheduler sent it the dead one's
        # task: whether that task was to blame is for the evaluation to count.
        status: Status = "unmeasured" if task.walled else "died"
        return msgspec.json.encode(Result(status=status, reason="its worker was replaced"))
    stop = threading.Event()

    def tell(record: Record) -> None:
        worker.log_event(topic, {"number": number, "record": msgspec.json.encode(record)})

    with _watched(worker, stop):
        return msgspec.json.encode(isolation.run(task, tell, stop))


@contextlib.contextmanager
def _watched(worker: Worker, stop: threading.Event) -> Iterator[None]:
    """Sets `stop` once the worker is told to close: its task would else go on for nobody."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.5):
            if worker.status.name not in ("running", "paused"):
                stop.set()
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()


# --- here ---------------------------------------------------------------------------------------


class Cluster:
    """The workers of a scheduler. Implements `Executor`."""

    def __init__(
        self, where: str, target: str, inner: str = isolation.INNER, *, fenced: bool = True
    ) -> None:
        """
        Args:
            where: the scheduler's address, or the path of its scheduler file.
            target: `auto`, `cuda`, `maca` or `cpu`.

        Raises:
            MxbenchError: exit code 3, the scheduler does not answer.
        """
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._where, self._target, self._inner = where, target, inner
        self._fenced = fenced
        self._topic = f"mxbench-{secrets.token_hex(4)}"
        self._runs: dict[int, tuple[Try, Future]] = {}
        self._missed: dict[int, int] = {}
        self._found: dict[str, Place] = {}
        self._asked: dict[str, Future] = {}
        self._told: set[str] = set()
        self._looked = 0.0
        self._workers: dict[str, Any] = {}
        self.notes: list[str] = []
        self.shares_host = False
        self._client = self._connect()

    @property
    def dashboard(self) -> str:
        return str(self._client.dashboard_link)

    def _connect(self) -> Client:
        place = {"scheduler_file": self._where} if Path(self._where).is_file() else {}
        try:
            client = Client(
                **(place or {"address": self._where}),
                timeout=CONNECT_LIMIT,
                name="mxbench-evaluate",
                set_as_default=False,
            )
        except (OSError, TimeoutError, ValueError) as error:
            raise MxbenchError(
                f"no Dask scheduler answers at {self._where}: {error}",
                "start one with `dask scheduler`, and give its address (tcp://HOST:8786) or file",
                EXIT_ENVIRONMENT,
            ) from None
        client.subscribe_topic(self._topic, self._on_event)
        return client

    def _on_event(self, event: tuple[float, Any]) -> None:
        _, message = event
        run = self._runs.get(message["number"])
        if run is not None:
            record = msgspec.json.decode(message["record"], type=Record)
            self.events.put(Came(run[0], record))

    # --- workers --------------------------------------------------------------------------------

    def places(self) -> list[Place]:
        if time.monotonic() - self._looked >= LOOK_EVERY:
            self._looked = time.monotonic()
            self._look()
        return [self._found[address] for address in self._workers if address in self._found]

    def _look(self) -> None:
        """See which workers there are, ask new ones what they are, and miss the dead."""
        if self._client.status != "running":
            self._reconnect()
            return
        try:
            self._workers = dict(self._client.scheduler_info(n_workers=-1)["workers"])
        except (OSError, TimeoutError):  # it is going: the next look will find it gone
            return
        gpus = any(GPU in w["resources"] for w in self._workers.values())
        for address, worker in self._workers.items():
            if address not in self._found and address not in self._asked:
                # Where GPUs are declared, workers without one only compile.
                measures = GPU in worker["resources"] or not gpus
                self._ask(address, measures)
        self._hear_answers()
        self._miss()

    def _ask(self, address: str, measures: bool) -> None:
        self._asked[address] = self._client.submit(
            look_around,
            self._target,
            measures,
            self._inner,
            self._fenced,
            workers=[address],
            allow_other_workers=False,
            pure=False,
            priority=10,
        )

    def _hear_answers(self) -> None:
        for address, future in list(self._asked.items()):
            if address not in self._workers:
                future.cancel()
                del self._asked[address]
            elif future.done():
                del self._asked[address]
                if future.status == "finished":
                    self._know(address, msgspec.json.decode(future.result(), type=Found))
                else:
                    self._complain(address, f"it does not run mxbench: {future.exception()}")

    def _know(self, address: str, found: Found) -> None:
        name = str(self._workers[address].get("name") or address)
        if found.version != __version__:
            self._complain(address, f"it runs mxbench {found.version}, not {__version__}")
        elif found.problem:
            self._complain(address, found.problem)
        else:
            label = name if name != address else address.rpartition("/")[2]
            place = Place(
                address, found.machine, label, found.device, found.generation, found.fenced
            )
            self._found[address] = place
            self._tell_apart()

    def _tell_apart(self) -> None:
        """Where all workers are of one machine, `elsewhere` means another worker."""
        alive = [p for a, p in self._found.items() if a in self._workers and p.device is not None]
        if len({p.machine.partition("/")[0] for p in alive}) > 1:
            return
        for place in alive:
            host = place.machine.partition("/")[0]
            name = f"{host}/{place.label.rpartition(':')[2]}"
            self._found[place.id] = msgspec.structs.replace(place, machine=name)

    def _complain(self, address: str, problem: str) -> None:
        if problem not in self._told:
            self._told.add(problem)
            self.notes.append(f"worker {address} is not used: {problem}")

    def _miss(self) -> None:
        """Tell of tasks whose worker is gone."""
        for number, (run, future) in list(self._runs.items()):
            if run.place.id in self._workers:
                self._missed.pop(number, None)
                continue
            self._missed[number] = self._missed.get(number, 0) + 1
            if self._missed[number] >= GONE_AFTER and self._runs.pop(number, None) is not None:
                del self._missed[number]
                self._found.pop(run.place.id, None)
                future.cancel()
                reason = f"its worker {run.place.label} was gone"
                self.events.put(Lost(run, reason, blame=not run.place.fenced))

    def _reconnect(self) -> None:
        """The scheduler is gone: so is all that ran, through nobody's fault."""
        runs, self._runs = list(self._runs.values()), {}
        self._workers, self._found, self._asked, self._missed = {}, {}, {}, {}
        for run, _ in runs:
            self.events.put(Lost(run, "the scheduler was gone", blame=False))
        with contextlib.suppress(Exception):  # of a connection that is already broken
            self._client.close(timeout=1)
        with contextlib.suppress(MxbenchError):  # not yet back; `patience` is the loop's
            self._client = self._connect()

    # --- tasks ----------------------------------------------------------------------------------

    def start(self, run: Try, task: Task) -> None:
        resources = {GPU: 1} if GPU in self._workers[run.place.id]["resources"] else None
        future = self._client.submit(
            carry_out,
            run.number,
            self._topic,
            run.place.generation,
            task,
            key=f"{run.stage}-{run.work.op}-{run.work.hand_in}-{run.number}-{secrets.token_hex(4)}",
            workers=[run.place.id],
            allow_other_workers=False,
            resources=resources,
            pure=False,
        )
        self._runs[run.number] = run, future
        future.add_done_callback(lambda done: self._over(run.number, done))

    def _over(self, number: int, future: Future) -> None:
        known = self._runs.pop(number, None)
        if known is None:  # told of already
            return
        run = known[0]
        if future.status == "finished":
            result = msgspec.json.decode(future.result(), type=Result)
            if result.reason == "its worker was replaced":
                self._found.pop(run.place.id, None)
            self.events.put(Over(run, result))
        elif future.status == "error":
            error = future.exception()
            blame = type(error).__name__ == "KilledWorker" and not run.place.fenced
            self.events.put(Lost(run, f"{type(error).__name__}: {error}", blame))
        else:
            self.events.put(Lost(run, "the scheduler forgot it", blame=False))

    def close(self) -> None:
        for _, future in list(self._runs.values()):
            future.cancel()
        self._runs.clear()
        with contextlib.suppress(Exception):  # nothing is waited for any more
            self._client.close(timeout=2)
