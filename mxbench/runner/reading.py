"""A problem's case list in mxbench's words, in the worker: shapes, and what only drawing tells."""

from __future__ import annotations

import inspect
import math
import traceback
from pathlib import Path
from typing import Any

import msgspec
import torch

from ..device import DeviceInfo
from ..publicjudge.messages import ProblemCase, ProblemRead, ReadCase, ReadProblem
from ..publicjudge.signature import Known, Sizes, recognise
from . import problem
from .problem import Problem, Theirs

SHARE = 0.25  # of the free memory that a case may take to be drawn
BYTES = 4  # of an element while it is drawn


def read_problem(request: ReadProblem, device: DeviceInfo) -> ProblemRead:
    """The cases of a problem; what is wrong with it is part of the answer."""
    try:
        one = problem.load(Path(request.folder))
        opened = problem.describe(one)
        cases, notes = _cases(one, opened.cases, device)
    except Theirs as fault:
        traceback.print_exc()
        return ProblemRead(fault=fault.message, hint=fault.hint)
    return ProblemRead(cases=cases, tolerance=_tolerance(one), notes=opened.notes + notes)


def _cases(
    one: Problem, cases: list[ProblemCase], device: DeviceInfo
) -> tuple[list[ReadCase], list[str]]:
    smallest = min(cases, key=lambda case: _bytes(case.shapes))
    found: list[ReadCase] = []
    notes: list[str] = []
    most = 0  # bytes of the largest case drawn: its scales are the surest
    scales: dict[str, float] = {}
    for case in cases:
        known = recognise(case.shapes)
        if known is None:
            raise Theirs(
                f"case {case.number} is of no operator that mxbench knows",
                "its arguments are not those of the judge's moe, mla or nsa; `mxbench judge` runs "
                "it all the same",
            )
        drawn: list[Any] | None = None
        # Of nsa only the arguments themselves tell the block size.
        if case is smallest or known.signature.op == "nsa":
            if _bytes(case.shapes) > SHARE * device.free:
                notes.append(f"case {case.number} is too large to be drawn here")
                if known.signature.op == "nsa":
                    notes.append(f"case {case.number} is left out: its block size is not known")
                    continue
            else:
                drawn = one.draw(case, device.torch_device)
                known = recognise(case.shapes, drawn) or known
        found.append(_case(case, known, drawn))
        if drawn is not None and _bytes(case.shapes) > most:
            most = _bytes(case.shapes)
            tensors = dict(zip(known.signature.arguments, drawn, strict=True))
            scales = _scales(known.signature.op, tensors)
    return [msgspec.structs.replace(case, inputs=scales) for case in found], notes


def _bytes(sizes: Sizes) -> int:
    return BYTES * sum(math.prod(size) for size in sizes if size)


def _case(case: ProblemCase, known: Known, drawn: list[Any] | None) -> ReadCase:
    dtype = ""
    if drawn is not None:
        out = known.signature.arguments.index(known.signature.tensors["out"])
        dtype = str(drawn[out].dtype).removeprefix("torch.")
    return ReadCase(
        number=case.number,
        op=known.signature.op,
        contract=known.signature.contract,
        params=dict(known.params),
        warmup=case.warmup,
        repeat=case.repeat,
        dtype=dtype,
    )


def _scales(op: str, tensors: dict[str, torch.Tensor]) -> dict[str, float]:
    """Standard deviations of the inputs, by the names of mxbench's recipes."""
    names = {
        "mla": {"q": "q", "kv": "kv"},
        "nsa": {"scale": "q"},
        "moe": {"tokens": "tokens", "gate_up": "gate_w", "down": "down_w"},
    }[op]
    found = {}
    for name, argument in names.items():
        values = tensors[argument].float()
        spread = float(values[values.isfinite()].std())
        if math.isfinite(spread) and spread > 0:
            found[name] = float(f"{spread:.3g}")
    return found


def _tolerance(one: Problem) -> dict[str, float]:
    """`atol` and `rtol` where `check` has them as parameters with defaults."""
    parameters = inspect.signature(one.module.check).parameters
    values = {name: parameters[name].default for name in ("atol", "rtol") if name in parameters}
    return {name: float(v) for name, v in values.items() if isinstance(v, int | float)}
