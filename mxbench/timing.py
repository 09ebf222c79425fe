"""A call -> its times. Runs in the worker; every figure comes from a pass of its own.

Headline: the contract call `repeat` times back to back on one stream, one pair of device events
around the whole, after `warmup` untimed calls: what a contest's "mean end-to-end API time" says.
"""

from __future__ import annotations

import itertools
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from .grade import Conditions, excess, grade
from .measurement import Plan, Timing
from .stats import Spread, covered, spread

Call = Callable[[], object]

TRIES = 2  # times that an unstable measurement is made in all
PAUSE = 0.1  # seconds between the two

HOST_AND_EVENTS_AGREE = 0.1
"""Relative difference of host clock and events over the headline loop that is worth a note..."""
HOST_SLACK_MS = 0.1
"""...beyond what one synchronisation costs."""

WORK_UNSEEN = 0.5
"""Share of the headline by which the host's clock may exceed events..."""
WORK_UNSEEN_MS = 5.0
"""...or this much over the whole loop, before the events have missed work."""

KEPT_SAMPLES = 1000


class Calls(Protocol):
    """What is timed: the same call on several inputs and outputs (see runner/rounds.py)."""

    @property
    def one(self) -> Call:
        """The call on the caller's own tensors."""

    def take(self, count: int) -> list[Call]:
        """Calls for one loop."""

    def poison(self) -> None:
        """Overwrite all outputs."""

    def verify(self, done: int, what: str = "timed call") -> None:
        """Judge some of the loop's calls; raises if one is wrong."""

    def verify_plain(self, what: str) -> None:
        """Judge what calls of `one` left; raises if it is wrong."""

    def fault_of_plain(self) -> str:
        """What is wrong with what calls of `one` left; empty if nothing is."""

    @property
    def is_large(self) -> bool:
        """Whether judging takes a good part of a second."""


@dataclass(frozen=True)
class Same:
    """Calls that are one and the same; what they put out is looked after elsewhere."""

    one: Call
    is_large: bool = False

    def take(self, count: int) -> list[Call]:
        return [self.one] * count

    def poison(self) -> None:
        pass

    def verify(self, done: int, what: str = "timed call") -> None:
        pass

    def verify_plain(self, what: str) -> None:
        pass

    def fault_of_plain(self) -> str:
        return ""


class WorkUnseen(Exception):
    """The device worked on where the events of the caller's stream do not see it."""


@dataclass(frozen=True)
class Watch:
    """Tells what the driver saw: `before` a measurement, and the conditions since."""

    before: Callable[[], Any]
    since: Callable[[Any], Conditions]


UNWATCHED = Watch(lambda: None, lambda _: Conditions())


@dataclass(frozen=True)
class _Try:
    """One measurement of the headline and its spread."""

    mean: float
    host: float
    samples: list[float]
    conditions: Conditions


def _rounded(value: float) -> float:
    """Six significant digits: more is noise, and journals stay small."""
    return float(f"{value:.6g}")


def spread_fields(samples: Sequence[float]) -> dict[str, Any]:
    """The spread of per-call samples as fields of a Timing."""
    s: Spread = spread(samples)
    return {
        "median": _rounded(s.median),
        "p10": _rounded(s.p10),
        "p90": _rounded(s.p90),
        "min": _rounded(s.min),
        "std": _rounded(s.std),
        "ci95": (_rounded(s.ci95[0]), _rounded(s.ci95[1])),
        "outliers": s.outliers,
        "per_call_mean": _rounded(s.mean),
        "samples": [_rounded(x) for x in samples[:KEPT_SAMPLES]],
    }


# --- GPU ----------------------------------------------------------------------------------------


class NotCapturable(Exception):
    """The call cannot be captured in a CUDA graph."""


def time_gpu(
    calls: Calls,
    plan: Plan,
    l2_bytes: int,
    first_call: float,
    rotated: Callable[[], list[Call]],
    watch: Watch = UNWATCHED,
) -> Timing:
    """All figures of `plan`, on the current device and stream.

    Args:
        l2_bytes: size of the L2, to flush it.
        first_call: milliseconds that the verified first call took.
        rotated: makes the same call on copies of the inputs, as many as memory allows; only asked
            for the cold-L2 pass, when all else is done.

    Raises:
        NotCapturable: mode `graph`, and the call cannot be captured.
        WorkUnseen: the host's clock says that the device did more than the events tell.
    """
    call = calls.one
    timed = call if plan.mode == "eager" else capture(call)
    most = TRIES if plan.extras else 1
    kept, tries = _steadiest(lambda: _try_gpu(calls, timed, plan, watch), PAUSE, most)
    notes = []
    if abs(kept.host - kept.mean) > HOST_AND_EVENTS_AGREE * kept.mean + HOST_SLACK_MS / plan.repeat:
        notes.append(f"host clock {kept.host:.4g} ms and events {kept.mean:.4g} ms disagree")
    fields = spread_fields(kept.samples)
    fields["launch"] = _rounded(_launch(timed, plan.repeat))
    if plan.extras:
        if plan.mode == "eager":
            fields |= _graph_fields(calls, plan)
        fields |= _kernel_only_fields(timed, min(plan.repeat, 20))
        turns = [timed, *(c if plan.mode == "eager" else capture(c) for c in rotated())]
        if len(turns) == 1:
            notes.append("cold L2: the inputs do not fit twice, so they were not rotated")
        fields["cold_l2"] = _rounded(_cold_l2(turns, min(plan.repeat, 30), l2_bytes))
    return Timing(
        mode=plan.mode,
        warmup=plan.warmup,
        repeat=plan.repeat,
        mean=_rounded(kept.mean),
        host=_rounded(kept.host),
        first_call=_rounded(first_call),
        grade=grade(kept.samples, kept.conditions, tries),
        notes=notes,
        **fields,
    )


def _steadiest(measure: Callable[[], _Try], pause: float, most: int = TRIES) -> tuple[_Try, int]:
    """The first steady measurement of a few, else the steadiest; and how many were made.

    Never the fastest: which one is kept must not depend on the result.
    """
    made: list[_Try] = []
    while len(made) < most:
        if made:
            time.sleep(pause)
        made.append(measure())
        # A limit in force is why the clock falls; again it would only begin on a hot device.
        if excess(made[-1].samples) <= 1 or made[-1].conditions.limited:
            return made[-1], len(made)
    return min(made, key=lambda one: excess(one.samples)), len(made)


def _try_gpu(calls: Calls, timed: Call, plan: Plan, watch: Watch) -> _Try:
    """Warm-up, headline loop with a sample of its outputs verified, then the per-call loop."""
    before = watch.before()
    loop = calls.take(plan.repeat) if plan.mode == "eager" else [timed] * plan.repeat
    for i in range(plan.warmup):
        loop[i % len(loop)]()
    torch.cuda.synchronize()
    calls.poison()
    mean, host = _back_to_back(loop)
    if (host - mean) * len(loop) > max(WORK_UNSEEN * mean * len(loop), WORK_UNSEEN_MS):
        mean, host = _back_to_back(loop)  # the host itself may have been held up
        if (host - mean) * len(loop) > max(WORK_UNSEEN * mean * len(loop), WORK_UNSEEN_MS):
            raise WorkUnseen(
                f"events on the caller's stream saw {mean:.4g} ms a call, the host's clock "
                f"{host:.4g} ms until the device was idle: the work goes on elsewhere"
            )
    if plan.mode == "eager":
        calls.verify(len(loop))
    else:
        calls.verify_plain("replays of a CUDA graph")
    samples = _per_call(loop)
    return _Try(mean, host, samples, watch.since(before))


def _warm_up(call: Call, count: int) -> None:
    for _ in range(count):
        call()
    torch.cuda.synchronize()


def _events(count: int) -> list[torch.cuda.Event]:
    return [torch.cuda.Event(enable_timing=True) for _ in range(count)]


def _back_to_back(calls: Sequence[Call]) -> tuple[float, float]:
    """(by events, by the host's clock) milliseconds a call."""
    begin, end = _events(2)
    torch.cuda.synchronize()
    clock = time.perf_counter()
    begin.record()
    for call in calls:
        call()
    end.record()
    torch.cuda.synchronize()
    host = (time.perf_counter() - clock) * 1e3
    return begin.elapsed_time(end) / len(calls), host / len(calls)


def _per_call(calls: Sequence[Call]) -> list[float]:
    """Milliseconds of each call, an event on either side."""
    marks = _events(len(calls) + 1)
    torch.cuda.synchronize()
    marks[0].record()
    for call, mark in zip(calls, marks[1:], strict=True):
        call()
        mark.record()
    torch.cuda.synchronize()
    return [a.elapsed_time(b) for a, b in itertools.pairwise(marks)]


def _launch(call: Call, repeat: int) -> float:
    """Median host milliseconds until a call returns, the device idle before each."""
    samples = []
    for _ in range(min(repeat, 50)):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        call()
        samples.append((time.perf_counter() - begin) * 1e3)
    torch.cuda.synchronize()
    return spread(samples).median


def capture(call: Call) -> Call:
    """A replay of `call` as a CUDA graph."""
    graph = torch.cuda.CUDAGraph()
    stream = torch.cuda.current_stream()
    try:
        with torch.cuda.graph(graph):
            call()
    except RuntimeError as error:
        torch.cuda.set_stream(stream)  # torch leaves the capture's as the current one then
        torch.cuda.synchronize()
        raise NotCapturable(f"not capturable: {str(error).partition(chr(10))[0]}") from error
    return graph.replay


def _graph_fields(calls: Calls, plan: Plan) -> dict[str, Any]:
    """Mean of CUDA-graph replays, or why there is none; their last result is judged.

    A wrong one costs this figure alone: the headline is of other calls.
    """
    try:
        replay = capture(calls.one)
    except NotCapturable as error:
        return {"graph_note": str(error)}
    _warm_up(replay, plan.warmup)
    calls.poison()
    mean, _ = _back_to_back([replay] * plan.repeat)
    if not calls.is_large and (fault := calls.fault_of_plain()):
        return {"graph_note": f"replays put out something else: {fault}"}
    return {"graph": _rounded(mean)}


def _kernel_only_fields(call: Call, repeat: int) -> dict[str, Any]:
    """Time a call keeps the device busy with kernels, by CUPTI, or why it is not known."""
    try:
        from torch.profiler import ProfilerActivity, profile

        # The profiler's own warnings about its set-up say nothing about the kernel.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with profile(activities=[ProfilerActivity.CUDA]) as trace:
                for _ in range(repeat):
                    call()
                torch.cuda.synchronize()
        busy_us = covered(
            (event.time_range.start, event.time_range.end)
            for event in trace.events()
            if event.device_type == torch.autograd.DeviceType.CUDA
        )
    except Exception as error:  # CUPTI missing or in use: many shapes, all mean "no figure"
        return {"kernel_only_note": f"CUPTI: {type(error).__name__}: {str(error)[:120]}"}
    if busy_us <= 0:
        return {"kernel_only_note": "CUPTI reported no kernel"}
    return {"kernel_only": _rounded(busy_us / repeat / 1e3)}


def _cold_l2(turns: list[Call], repeat: int, l2_bytes: int) -> float:
    """Median milliseconds of single calls, in turn, each after the L2 was overwritten.

    Turns differ in where their inputs lie, so that no TLB or row buffer remembers them either.
    """
    flush = torch.empty(2 * l2_bytes, dtype=torch.int8, device="cuda")
    samples = []
    for i in range(repeat):
        flush.fill_(i % 100)
        begin, end = _events(2)
        begin.record()
        turns[i % len(turns)]()
        end.record()
        torch.cuda.synchronize()
        samples.append(begin.elapsed_time(end))
    return spread(samples).median


# --- CPU ----------------------------------------------------------------------------------------


def time_cpu(calls: Calls, plan: Plan, first_call: float) -> Timing:
    """As many of the asked calls as fit the budget, at least one, by the host's clock.

    The first call has already run (it was verified), so its time tells what fits. An unstable
    measurement is repeated while the budget lasts.
    """
    budget = plan.budget if plan.budget is not None else float("inf")
    begin = time.perf_counter()
    once = _try_cpu(calls, plan, first_call, budget)
    spent = time.perf_counter() - begin
    kept, tries = once, 1
    if excess(once.samples) > 1:
        more = int(min(TRIES - 1, (budget - spent) // max(spent, 1e-9)))
        first = iter([once])
        kept, tries = _steadiest(
            lambda: next(first, None) or _try_cpu(calls, plan, first_call, budget), 0.0, 1 + more
        )
    fields = spread_fields(kept.samples)
    return Timing(
        mode="cpu",
        warmup=plan.warmup,
        repeat=len(kept.samples),
        asked=plan.repeat,
        mean=fields["per_call_mean"],
        first_call=_rounded(first_call),
        grade=grade(kept.samples, kept.conditions, tries),
        **fields,
    )


def _try_cpu(calls: Calls, plan: Plan, first_call: float, budget: float) -> _Try:
    """Warm-up if there is time for it, then the loop with a sample of its outputs verified."""
    begin = time.perf_counter()
    loop = calls.take(plan.repeat)
    if first_call / 1e3 * (plan.warmup + plan.repeat) <= budget:
        for i in range(plan.warmup):
            loop[i % len(loop)]()
    calls.poison()
    samples: list[float] = []
    for call in loop:
        start = time.perf_counter()
        call()
        samples.append((time.perf_counter() - start) * 1e3)
        spent = time.perf_counter() - begin
        if spent + samples[-1] / 1e3 > budget:
            break
    calls.verify(len(samples))
    mean = sum(samples) / len(samples)
    return _Try(mean, mean, samples, Conditions())
