"""How evaluation bears many hand-ins: `python -m tests.evaluation.load local|cluster|chaos N ...`.

Measurement is stubbed; what is measured is everything else: processes, queue, journals, ranking.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from mxbench.evaluation import entrants, setting
from mxbench.evaluation.board import Policy
from mxbench.evaluation.ledger import Ledger
from mxbench.evaluation.loop import Loop

from .. import sandbox
from . import synthetic


class Processes:
    """A scheduler and workers of their own, which can be killed and restarted."""

    def __init__(self, folder: Path, workers: int, compiling: int = 0) -> None:
        self.file = folder / "scheduler.json"
        self._folder, self._stop = folder, threading.Event()
        self.kills = 0
        self.port = 0
        self.scheduler = self._start_scheduler()
        self.workers: list[subprocess.Popen[bytes]] = []
        self._measuring = workers
        for number in range(workers + compiling):
            self.workers.append(self._start_worker(number))

    def _spawn(self, *words: str) -> subprocess.Popen[bytes]:
        with (self._folder / "dask.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "dask", *words],
                env=sandbox.environment(), stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def _start_scheduler(self) -> subprocess.Popen[bytes]:
        self.file.unlink(missing_ok=True)
        process = self._spawn(
            "scheduler", "--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard",
            "--scheduler-file", str(self.file),
        )  # fmt: skip
        while not self.file.exists():
            time.sleep(0.1)
        time.sleep(0.2)
        self.port = int(json.loads(self.file.read_text())["address"].rpartition(":")[2])
        return process

    def _start_worker(self, number: int) -> subprocess.Popen[bytes]:
        address = f"tcp://127.0.0.1:{self.port}"
        resources = ["--resources", "GPU=1"] if number < self._measuring else []
        return self._spawn(
            "worker", address, "--nworkers", "1", "--nthreads", "1", "--no-nanny", "--no-dashboard",
            "--name", f"w{number}-{time.monotonic_ns() % 10**6}", *resources,
        )  # fmt: skip

    def await_workers(self) -> None:
        """Until all of them have come: on a busy machine one may be done before another begins."""
        from distributed import Client

        with Client(f"tcp://127.0.0.1:{self.port}", set_as_default=False) as client:
            client.wait_for_workers(len(self.workers), timeout=120)

    def tend(self) -> None:
        """As a service manager would: start again what has ended."""
        for number, worker in enumerate(self.workers):
            if worker.poll() is not None:
                self.workers[number] = self._start_worker(number)

    def kill_one(self, rng: random.Random) -> None:
        os.killpg(rng.choice(self.workers).pid, signal.SIGKILL)
        self.kills += 1

    def restart_scheduler(self) -> None:
        os.killpg(self.scheduler.pid, signal.SIGKILL)
        self.scheduler.wait()
        time.sleep(1)
        self.scheduler = self._start_scheduler()

    def close(self) -> None:
        for process in [*self.workers, self.scheduler]:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def evaluate(root: Path, out: Path, executor, tick=lambda loop: None, **changes):  # type: ignore[no-untyped-def]
    """Run an evaluation of root/subs; the loop and its seconds."""
    from mxbench import workspace

    here = workspace.find(root)
    wish = synthetic.wish(here, **changes)
    hand_ins = entrants.find([root / "subs"])
    kept = Ledger(out, wish.decisive)
    begin, cpu = time.monotonic(), time.process_time()
    try:
        loop = Loop(
            hand_ins, setting.kit(here), wish.options(here, executor, ()), wish.board(hand_ins),
            kept, executor,
        )  # fmt: skip
        loop.run(lambda: tick(loop))
    finally:
        executor.close()
        kept.close()
    loop.cpu = time.process_time() - cpu
    return loop, wish, here, time.monotonic() - begin


def places(loop, wish, here):  # type: ignore[no-untyped-def]
    """(hand-in, rank, points, why) of the ranking, and everybody who has none."""
    ((_, tables, missing),) = setting.rank(here, wish, loop)
    found = [(p.hand_in, p.rank, p.points, p.why) for t in tables for p in t.places]
    found += [(u.hand_in, None, 0, "unranked") for t in tables for u in t.unranked]
    return sorted([*found, *((u.hand_in, None, 0, "missing") for u in missing)])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("count", type=int)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--limit", type=float, default=3.0)
    parser.add_argument("--chaos", type=int, default=0, help="workers to kill, at random moments")
    parser.add_argument("--restart", action="store_true", help="restart the scheduler halfway")
    parser.add_argument("--strikes", type=int, default=2)
    parser.add_argument("--good", action="store_true", help="no hand-in that misbehaves")
    parser.add_argument("--out", type=Path, help="where the places go, as JSON")
    chosen = parser.parse_args()
    rng = random.Random(7)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        here = synthetic.contest(root)
        synthetic.many(root / "subs", here, chosen.count, chosen.seconds, good=chosen.good)
        processes = Processes(root, chosen.workers)
        kills = sorted(rng.sample(range(chosen.count // 20, chosen.count * 9 // 10), chosen.chaos))
        restart = [chosen.count // 2] if chosen.restart else []

        def tick(loop: Loop) -> None:
            done = len(loop.results)
            if kills and done >= kills[0]:
                kills.pop(0)
                processes.kill_one(rng)
            if restart and done >= restart[0]:
                restart.pop()
                processes.restart_scheduler()
            processes.tend()
            loop.book.news.clear()

        try:
            executor = setting.executor(str(processes.file), "cuda", None, synthetic.STUB)
            loop, wish, here, seconds = evaluate(
                root, root / "out", executor, tick, limit=chosen.limit,
                policy=Policy(strikes=chosen.strikes, losses=20),
            )  # fmt: skip
        finally:
            processes.close()
        found = places(loop, wish, here)
        kinds: dict[str, int] = {}
        for line in loop.ledger.entries:
            kinds[line.kind] = kinds.get(line.kind, 0) + 1
        statuses: dict[str, int] = {}
        for line in loop.results.values():
            statuses[line.status] = statuses.get(line.status, 0) + 1
        measured = sum(line.seconds for line in loop.results.values())
        print(
            f"{chosen.count} hand-ins, {chosen.workers} workers: {seconds:.1f} s, "
            f"{seconds / chosen.count * 1e3:.1f} ms each, of the client's CPU "
            f"{loop.cpu / chosen.count * 1e3:.1f} ms; in tasks {measured:.1f} s; "
            f"kills {processes.kills}; ledger {kinds}; results {statuses}; "
            f"ranked {sum(f[1] is not None for f in found)}"
        )
        if chosen.out:
            chosen.out.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
