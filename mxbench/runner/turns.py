"""Calls timed in turns. In a block everyone runs twice, in some order and then in the reverse one:
a clock that falls steadily, as a GPU's does when it warms, costs everyone the same."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import torch

from .protocol import LEAST_BLOCKS, Heat

MOST_CALLS = 2000
"""Calls of a turn: launches beyond this fill the driver's queue."""

Call = Callable[[], object]


def timed(
    calls: list[Call], contexts: list[Any], heat: Heat, on_gpu: bool, beat: Callable[[], None]
) -> tuple[int, list[list[float]]]:
    """(calls of a turn, milliseconds a call by block and contender).

    Args:
        calls: each contender's, with all arguments.
        contexts: makes, for each, the context that its turns run in.
        beat: called before every block, to show that the worker is alive.
    """
    turn = _gpu_turn if on_gpu else _cpu_turn
    first = turn([(calls[0], contexts[0])], 1)[0]
    first = min(first, *turn([(calls[0], contexts[0])] * 3, 1))
    count = max(1, min(MOST_CALLS, round(heat.slot_ms / max(first, 1e-4))))
    order = list(range(len(calls)))
    blocks: list[list[float]] = []
    begin = time.monotonic()
    for number in range(heat.blocks + 1):
        late = time.monotonic() - begin > heat.seconds
        if late and len(blocks) >= min(LEAST_BLOCKS, heat.blocks):
            break
        beat()
        # Every other block begins at the other end: whoever comes first gains nothing by it.
        forth = order if number % 2 == 0 else order[::-1]
        turns = forth + forth[::-1]
        found = turn([(calls[i], contexts[i]) for i in turns], count)
        sums = [0.0] * len(calls)
        for i, value in zip(turns, found, strict=True):
            sums[i] += value / 2
        if number > 0:  # the first warms up
            blocks.append(sums)
    return count, blocks


def _gpu_turn(turns: list[tuple[Call, Any]], count: int) -> list[float]:
    """Milliseconds a call of each turn, all queued before the first is waited for."""
    marks = []
    torch.cuda.synchronize()
    for call, context in turns:
        with context():
            call()  # what the one before left in the caches is not this one's business
            begin = torch.cuda.Event(enable_timing=True)
            end = torch.cuda.Event(enable_timing=True)
            begin.record()
            for _ in range(count):
                call()
            end.record()
        marks.append((begin, end))
    torch.cuda.synchronize()
    return [begin.elapsed_time(end) / count for begin, end in marks]


def _cpu_turn(turns: list[tuple[Call, Any]], count: int) -> list[float]:
    found = []
    for call, context in turns:
        with context():
            begin = time.perf_counter()
            for _ in itertools.repeat(None, count):
                call()
            found.append((time.perf_counter() - begin) * 1e3 / count)
    return found
