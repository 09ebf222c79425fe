"""What limits an evaluation of many hand-ins: `python -m tests.evaluation.simulate`.

A simulation in virtual time with the real board. The client is one server that every start and
every end of a task passes through; devices measure in parallel; workers die at a given rate.
"""

from __future__ import annotations

import argparse
import heapq
import random
from dataclasses import dataclass

from mxbench.evaluation.board import Board, Policy
from mxbench.evaluation.messages import Place, Work

from .synthetic import DEVICE


@dataclass(frozen=True)
class Setup:
    """What is simulated; times in seconds."""

    hand_ins: int
    devices: int
    task: float = 120.0
    """Mean time of a task, log-normal with sigma 0.6: most are alike, some take thrice as long."""
    client: float = 0.02
    """The client's time for a task, half at its start and half at its end."""
    startup: float = 6.0
    """For a process to import torch and find the device, with no case measured yet."""
    hours_between_deaths: float = 24.0
    """Of one worker."""
    killers: float = 0.005
    """Share of hand-ins that kill their worker."""


@dataclass(frozen=True)
class Outcome:
    seconds: float
    ideal: float
    """Of all measuring, spread evenly over the devices."""
    busy: float
    """Share of the devices' time spent on measuring and starting up."""
    client: float
    """Share of the client's time."""
    wasted: float
    """Share of the devices' time that tries took which came to nothing."""
    died: int


def simulate(setup: Setup, seed: int = 1) -> Outcome:
    """Run one evaluation in virtual time."""
    rng = random.Random(seed)
    works = [Work(f"{n:05d}", "mla") for n in range(setup.hand_ins)]
    length = {w: setup.startup + rng.lognormvariate(0, 0.6) * setup.task / 1.197 for w in works}
    killers = {w for w in works if rng.random() < setup.killers}
    board = Board(works, Policy())
    places = [Place(str(n), f"m{n // 8}", str(n), DEVICE) for n in range(setup.devices)]
    events: list[tuple[float, int, str]] = []
    free, client, spent, wasted, used, now, died = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0
    half = setup.client / 2

    def serve(at: float) -> float:
        nonlocal free, client
        free = max(free, at) + half
        client += half
        return free

    def start(place: Place, at: float) -> None:
        nonlocal spent, used, wasted
        work = board.pick(place)
        if work is None:
            return
        begin = serve(at)
        until_death = rng.expovariate(1 / (setup.hours_between_deaths * 3600))
        fatal = setup.startup + 1 if work in killers else until_death
        took = min(length[work], fatal)
        spent += took
        if took < length[work]:
            wasted += took
            heapq.heappush(events, (begin + took + 10.0, int(place.id), f"strike {work.hand_in}"))
        else:
            used += took
            heapq.heappush(events, (begin + took, int(place.id), f"end {work.hand_in}"))

    for place in places:
        start(place, 0.0)
    while events:
        at, number, what = heapq.heappop(events)
        kind, _, name = what.partition(" ")
        now = serve(at)
        if kind == "end":
            board.end(Work(name, "mla"))
        elif not board.strike(Work(name, "mla")):
            died += 1
        start(places[number], now)
    assert board.finished
    total = now * setup.devices
    ideal = sum(length.values()) / setup.devices
    return Outcome(now, ideal, spent / total, client / now, wasted / total, died)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--hand-ins", type=int, default=10_000)
    parser.add_argument("--task", type=float, default=120.0)
    parser.add_argument("--client-ms", type=float, default=20.0)
    chosen = parser.parse_args()
    print("devices   hours   ideal   devices busy   client busy   wasted   recorded as died")
    for devices in (2, 8, 32, 128, 512, 2048, 8192):
        found = simulate(
            Setup(chosen.hand_ins, devices, task=chosen.task, client=chosen.client_ms / 1e3)
        )
        print(
            f"{devices:7d} {found.seconds / 3600:7.2f} {found.ideal / 3600:7.2f} "
            f"{found.busy:13.1%} {found.client:13.1%} {found.wasted:8.2%} {found.died:8d}"
        )


if __name__ == "__main__":
    main()
