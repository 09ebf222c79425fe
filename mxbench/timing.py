"""A call -> its times. Runs in the worker; every figure comes from a pass of its own.

Headline: the contract call `repeat` times back to back on one stream, one pair of device events
around the whole, after `warmup` untimed calls: what a contest's "mean end-to-end API time" says.
"""

from __future__ import annotations

import itertools
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch

from .measurement import Plan, Timing
from .stats import Spread, covered, spread

Call = Callable[[], object]

HOST_AND_EVENTS_AGREE = 0.1
"""Relative difference of host clock and events over the headline loop that is worth a note..."""
HOST_SLACK_MS = 0.1
"""...beyond what one synchronisation costs."""

KEPT_SAMPLES = 1000


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
    call: Call, plan: Plan, l2_bytes: int, first_call: float, rotated: Callable[[], list[Call]]
) -> Timing:
    """All figures of `plan` for `call`, on the current device and stream.

    Args:
        l2_bytes: size of the L2, to flush it.
        first_call: milliseconds that the verified first call took.
        rotated: makes the same call on copies of the inputs, as many as memory allows; only asked
            for the cold-L2 pass, when all else is done.

    Raises:
        NotCapturable: mode `graph`, and the call cannot be captured.
    """
    timed = call if plan.mode == "eager" else capture(call)
    _warm_up(timed, plan.warmup)
    mean, host = _back_to_back(timed, plan.repeat)
    notes = []
    if abs(host - mean) > HOST_AND_EVENTS_AGREE * mean + HOST_SLACK_MS / plan.repeat:
        notes.append(f"host clock {host:.4g} ms and events {mean:.4g} ms disagree")
    fields = spread_fields(_per_call(timed, plan.repeat))
    fields["launch"] = _rounded(_launch(timed, plan.repeat))
    if plan.extras:
        if plan.mode == "eager":
            fields |= _graph_fields(call, plan)
        fields |= _kernel_only_fields(timed, min(plan.repeat, 20))
        turns = [timed, *(c if plan.mode == "eager" else capture(c) for c in rotated())]
        if len(turns) == 1:
            notes.append("cold L2: the inputs do not fit twice, so they were not rotated")
        fields["cold_l2"] = _rounded(_cold_l2(turns, min(plan.repeat, 30), l2_bytes))
    return Timing(
        mode=plan.mode,
        warmup=plan.warmup,
        repeat=plan.repeat,
        mean=_rounded(mean),
        host=_rounded(host),
        first_call=_rounded(first_call),
        notes=notes,
        **fields,
    )


def _warm_up(call: Call, count: int) -> None:
    for _ in range(count):
        call()
    torch.cuda.synchronize()


def _events(count: int) -> list[torch.cuda.Event]:
    return [torch.cuda.Event(enable_timing=True) for _ in range(count)]


def _back_to_back(call: Call, repeat: int) -> tuple[float, float]:
    """(by events, by the host's clock) milliseconds a call."""
    begin, end = _events(2)
    torch.cuda.synchronize()
    clock = time.perf_counter()
    begin.record()
    for _ in range(repeat):
        call()
    end.record()
    torch.cuda.synchronize()
    host = (time.perf_counter() - clock) * 1e3
    return begin.elapsed_time(end) / repeat, host / repeat


def _per_call(call: Call, repeat: int) -> list[float]:
    """Milliseconds of each call, an event on either side."""
    marks = _events(repeat + 1)
    torch.cuda.synchronize()
    marks[0].record()
    for mark in marks[1:]:
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
    try:
        with torch.cuda.graph(graph):
            call()
    except RuntimeError as error:
        torch.cuda.synchronize()
        raise NotCapturable(f"not capturable: {str(error).partition(chr(10))[0]}") from error
    return graph.replay


def _graph_fields(call: Call, plan: Plan) -> dict[str, Any]:
    """Mean of CUDA-graph replays, or why there is none."""
    try:
        replay = capture(call)
    except NotCapturable as error:
        return {"graph_note": str(error)}
    _warm_up(replay, plan.warmup)
    mean, _ = _back_to_back(replay, plan.repeat)
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


def time_cpu(call: Call, plan: Plan, first_call: float) -> Timing:
    """As many of the asked calls as fit the budget, at least one, by the host's clock.

    The first call has already run (it was verified), so its time tells what fits.
    """
    budget = plan.budget if plan.budget is not None else float("inf")
    begin = time.perf_counter()
    if first_call / 1e3 * (plan.warmup + plan.repeat) <= budget:
        for _ in range(plan.warmup):
            call()
    samples: list[float] = []
    while len(samples) < plan.repeat:
        start = time.perf_counter()
        call()
        samples.append((time.perf_counter() - start) * 1e3)
        spent = time.perf_counter() - begin
        if spent + samples[-1] / 1e3 > budget:
            break
    fields = spread_fields(samples)
    return Timing(
        mode="cpu",
        warmup=plan.warmup,
        repeat=len(samples),
        asked=plan.repeat,
        mean=fields["per_call_mean"],
        first_call=_rounded(first_call),
        **fields,
    )
