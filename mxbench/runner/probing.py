"""Calls that only an honest kernel passes: late writes, results of earlier calls, cached contents.

Every probe is made with the public contract alone, so none needs the kernel's consent.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import torch

from ..ops.base import Contract
from ..reference import mirror
from ..reference.draw import poison
from ..verdict import Status, Verdict
from .fingerprint import Fingerprint
from .outputs import Fault

JOIN = 1.0  # seconds that threads of a call get to end
QUEUE_CYCLES = 4_000_000  # some 2 ms of a GPU's clock: work queued before the probed call
PAIRS = 5  # of calls on contents never seen and seen before
CONFIRMED = 3  # times that a cache must show
CACHED_RATIO = 2.0  # as long as on contents seen before: what more shows a cache...
CACHED_MS = {"cuda": 0.05, "cpu": 0.2}  # ...if it is more than this, too

Memory = dict[str, torch.Tensor]
Prints = dict[str, tuple[object, ...]]


class LateWrites:
    """Sees whether outputs change after the call that writes them has returned.

    `returned` reads them on the caller's stream at once, without waiting for anything else;
    `settled` compares when the device is idle and threads had time to end.
    """

    def __init__(self, fingerprint: Fingerprint, memory: Memory) -> None:
        self._fingerprint, self._memory = fingerprint, memory
        self._threads = set(threading.enumerate())
        self._early: Prints = {}

    def returned(self) -> None:
        """The call has just returned."""
        self._early = self._prints()

    def settled(self) -> None:
        """Raises Fault if an output is another one than when the call returned."""
        started = [t for t in threading.enumerate() if t not in self._threads]
        for thread in started:
            thread.join(JOIN)
        late = self._prints()
        names = ", ".join(name for name in late if late[name] != self._early[name])
        if names:
            by = f"the thread {started[0].name}" if started else "another stream or thread"
            reason = f"{names} changed after the call had returned: the work goes on in {by}"
            raise Fault(Status.INTEGRITY, reason)

    def _prints(self) -> Prints:
        return {name: self._fingerprint(tensor) for name, tensor in self._memory.items()}


def queue_ahead(memory: Memory, device: str) -> None:
    """Poison the outputs at the end of a queue that takes a while.

    What does not wait for the caller's stream writes first, and is overwritten.
    """
    if device == "cuda" and hasattr(torch.cuda, "_sleep"):
        torch.cuda._sleep(QUEUE_CYCLES)
    for tensor in memory.values():
        poison(tensor)


def require_mirrored(
    contract: Contract,
    memory: Memory,
    judge: Callable[[], Verdict],
    was: Verdict,
) -> None:
    """Judge a call on mirrored inputs; `memory` holds what it put out, `was` the first verdict.

    Raises:
        Fault: it does not put out the mirrored result; most telling, the first call's once more.
    """
    out = memory[mirror.ODD]
    verdict = judge_negated(out, judge)
    worse = verdict.status is not Status.PASSED
    worse = worse or (was.strict is Status.PASSED and verdict.strict is not Status.PASSED)
    if not worse:
        return
    if judge().status is Status.PASSED and bool(out.any()):
        raise Fault(
            Status.INTEGRITY,
            "results are cached by the identity of the inputs: on other numbers in the same "
            f"tensors ({', '.join(mirror.negated(contract))} negated) it put out the first "
            "call's result",
        )
    if bool(out.isnan().all()):
        reason = "a second call, on other numbers in the same tensors, wrote nothing to the output"
        raise Fault(Status.INTEGRITY, f"{reason} in time: it skips the work, or does it elsewhere")
    raise Fault(
        Status.INTEGRITY,
        "right when first called, wrong in a second call on other numbers in the same tensors "
        f"({verdict.status.value}): {verdict.reason}",
    )


def judge_negated(out: torch.Tensor, judge: Callable[[], Verdict]) -> Verdict:
    """The verdict on the negative of `out`, which is left as it is."""
    mirror.negate_(out)
    try:
        return judge()
    finally:
        mirror.negate_(out)


def require_uncached(call: Callable[[], object], inputs: dict[str, Any], device: str) -> None:
    """Time calls on contents never seen before against the same calls once more.

    A machine has moods: only if every new call takes more than twice as long as every repeated one,
    in each of CONFIRMED rounds, are results remembered.

    Raises:
        Fault: that is so.
    """
    for _ in range(CONFIRMED):
        new, seen = _on_new_and_seen(call, inputs, device)
        first, again = min(new), max(seen)
        if first <= CACHED_RATIO * again or first - again <= CACHED_MS[device]:
            return
    raise Fault(
        Status.INTEGRITY,
        f"results are cached across calls by content: {first:.4g} ms on numbers not seen "
        f"before, {again:.4g} ms on the same numbers again",
    )


def _on_new_and_seen(
    call: Callable[[], object], inputs: dict[str, Any], device: str
) -> tuple[list[float], list[float]]:
    """Milliseconds of PAIRS calls on new contents, and of the same calls repeated."""
    source = torch.Generator().manual_seed(time.perf_counter_ns() % 2**63)
    data = [value for value in inputs.values() if _is_data(value)]
    elsewhere = [torch.ones_like(value.view(-1)[:1]) for value in data]
    new, seen = [], []
    for _ in range(PAIRS):
        undo = [_touch(value, source) for value in data]
        new.append(_milliseconds(call, device))
        for value in elsewhere:  # the host does the same before either call
            _touch(value, source)
        seen.append(_milliseconds(call, device))
        for restore in undo:
            restore()
    return new, seen


def _is_data(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point() and value.numel() > 0


def _touch(tensor: torch.Tensor, source: torch.Generator) -> Callable[[], None]:
    """Change one element of a tensor by a little; returns what undoes it."""
    at = int(torch.randint(tensor.numel(), (1,), generator=source))
    element = tensor.view(-1)[at : at + 1]
    was = element.clone()
    element.mul_(0.5 + float(torch.rand(1, generator=source)))

    def restore() -> None:
        element.copy_(was)

    return restore


def _milliseconds(call: Callable[[], object], device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    begin = time.perf_counter()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - begin) * 1e3
