"""Compile ahead: several processes fill TileLang's compile cache before the worker needs it.

Each process makes every call of the run with tensors that have no data, and compiles its share of
the programs those calls ask for. A failure here is no verdict: it shows again in the worker, where
it is recorded.
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import msgspec

from ..device import DeviceInfo
from ..runs import Step
from . import protocol
from .process import StartMethod, kill, start_process
from .protocol import COMPILE_LIMIT, KernelRef, Progress

MAX_PROCESSES = 16


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What one of the compiling processes has to do."""

    kernels: str
    log: str
    device: DeviceInfo
    index: int
    count: int
    """It compiles program number i of the run where i % count == index."""
    calls: list[tuple[bytes, KernelRef]]
    environ: dict[str, str] = {}


def distinct_calls(steps: Sequence[Step]) -> list[Step]:
    """Steps that may need different programs: one of each kernel, contract, sizes and dtype."""
    found: dict[object, Step] = {}
    for step in steps:
        case = step.case
        found.setdefault((step.kernel, case.contract, case.dtype, case.params), step)
    return list(found.values())


def program_families(steps: Sequence[Step]) -> int:
    """How many of the steps differ in more than dynamic sizes: at least as many programs."""
    keys = set()
    for step in steps:
        case = step.case
        sizes = msgspec.structs.asdict(case.params)
        static = [(k, str(v)) for k, v in sizes.items() if k not in case.spec.dynamic]
        keys.add((step.kernel, case.contract, case.dtype, tuple(static)))
    return len(keys)


def compile_ahead(
    steps: Sequence[Step],
    kernels: Path,
    device: DeviceInfo,
    method: StartMethod,
    log: Path,
    on_progress: Callable[[float, int], None],
    least: int = 2,
    environ: Mapping[str, str] | None = None,
) -> int:
    """Compile what `steps` need, in parallel; returns the number of programs.

    Args:
        on_progress: called with the share of the calls done (0 to 1) and the programs so far.
        least: below so many processes nothing is gained, where the worker is about to compile.
        environ: the processes' environment variables, beside this one's.
    """
    steps = [step for step in distinct_calls(steps) if step.kernel.uses_dialect]
    cores = len(os.sched_getaffinity(0))
    count = min(cores, MAX_PROCESSES, program_families(steps))
    if count < least:
        return 0
    calls = [(step.case.encode(), KernelRef.of(step.kernel)) for step in steps]
    running: dict[Connection, BaseProcess] = {}
    try:
        for index in range(count):
            order = Order(
                kernels=str(kernels),
                log=str(log),
                device=device,
                index=index,
                count=count,
                calls=calls,
                environ=dict(environ or {}),
            )
            process, pipe = start_process(method, main, order, log)
            running[pipe] = process
        return _watch(running, len(calls), on_progress)
    finally:
        for pipe, process in running.items():
            pipe.close()
            kill(process)


def _watch(
    running: dict[Connection, BaseProcess], calls: int, on_progress: Callable[[float, int], None]
) -> int:
    latest = {pipe: Progress(0, 0) for pipe in running}
    alive = set(running)
    deadline = time.monotonic() + COMPILE_LIMIT
    while alive:
        ready = wait(list(alive), max(0.0, deadline - time.monotonic()))
        if not ready:
            break  # nothing moved for too long; the worker will find out which program it is
        deadline = time.monotonic() + COMPILE_LIMIT
        for pipe in ready:
            assert isinstance(pipe, Connection)
            try:
                message = protocol.receive(pipe)
            except (EOFError, OSError):
                alive.discard(pipe)
                continue
            if isinstance(message, Progress):
                latest[pipe] = message
        done = sum(progress.calls for progress in latest.values())
        on_progress(done / (calls * len(running)), sum(p.programs for p in latest.values()))
    return sum(progress.programs for progress in latest.values())


def main(pipe: Connection, order: Order) -> None:
    """A compiling process."""
    import torch

    from .. import kernel
    from ..case import Case
    from .meta import arguments
    from .worker import become_child, use_target

    become_child(order.log)
    os.environ.update(order.environ)
    folder = Path(order.kernels)
    dialect = use_target(folder, order.device)
    for number, (data, ref) in enumerate(order.calls, 1):
        case = Case.decode(data)
        try:
            function = kernel.function(kernel.load(ref.kernel(), folder), case.spec)
            tensors, options = arguments(case)
            with dialect.compile_only(order.index, order.count), torch.no_grad():
                function(*tensors, **options)
        except Exception:
            traceback.print_exc()  # into the log; the worker will meet and record it
        with suppress(OSError):
            protocol.send(pipe, Progress(number, dialect.compiled_count()))
    pipe.close()
