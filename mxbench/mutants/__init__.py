"""Wrong kernels, for testing verdicts: what a kernel with one certain mistake would put out.

A mutant is computed with the golden's own code from changed inputs, so it is exact in all but the
mistake; `honest` is the opposite, a right result with the rounding that half precision brings.
"""

from __future__ import annotations

import functools
import importlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from .. import reference
from ..case import Case
from . import outputs as common

MOST_SPLITS = 4  # parts of a sum in right results

Outputs = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Mutant:
    """A mistake and its consequence."""

    name: str
    make: Callable[[], torch.Tensor]
    """`out` with the mistake, in the golden's dtype."""


@dataclass(frozen=True)
class Subject:
    """A case with all that mutants are made of."""

    case: Case
    inputs: dict[str, Any]
    outputs: Outputs
    """Output tensors; for nsa `full` with a valid choice in `chosen`."""
    golden: torch.Tensor
    """`out` in the golden's dtype."""

    def golden_of(self, **changes: Any) -> torch.Tensor:
        """`out` for other inputs; a parameter's name changes that parameter of the case."""
        return out_of(self.case, {**self.inputs, **changes}, self.outputs)


def out_of(case: Case, inputs: dict[str, Any], outputs: Outputs) -> torch.Tensor:
    """The golden `out` in fp32."""
    return reference.expected(case, inputs, outputs).tensors["out"]


def subject(case: Case, device: str) -> Subject:
    """Inputs and golden of a case, ready for mutation."""
    inputs = reference.make_inputs(case, device)
    outputs = reference.make_outputs(case, inputs, device)
    operator = _module(case)
    operator.complete(case, inputs, outputs)
    return Subject(case, inputs, outputs, out_of(case, inputs, outputs))


def mutants(found: Subject) -> Iterator[Mutant]:
    """Every mistake that makes sense for the case: those of any output, then the operator's own."""
    yield from (Mutant(name, make) for name, make in common.mistakes(found))
    yield from (Mutant(name, make) for name, make in _module(found.case).mistakes(found))


def honest(found: Subject, seed: int) -> torch.Tensor:
    """`out` as a right kernel may compute it, in the case's dtype.

    The factors of the second matrix product (weights of the softmax, inner rows of an expert) are
    rounded to half precision by every real kernel, each in its own order of things. Here each of
    that product's terms is off by an independent rounding error, which is at least as much. The
    terms are summed whole, or in up to MOST_SPLITS parts of uneven size, in any order; every other
    time the parts are rounded to half precision before they are put together.
    """
    dtype = getattr(torch, found.case.dtype)
    source = torch.Generator(device=found.golden.device).manual_seed(seed)
    draw = random.Random(seed)
    cuts = sorted(draw.random() for _ in range(seed % MOST_SPLITS))
    blurring = functools.partial(common.blur, dtype=dtype, source=source)
    parts = list(_module(found.case).parts(found, cuts, blurring))
    draw.shuffle(parts)
    rounded = len(parts) > 1 and seed % (2 * MOST_SPLITS) >= MOST_SPLITS
    total = torch.zeros_like(found.golden)
    for part in parts:
        total += part.to(dtype) if rounded else part
    return total.to(dtype)


def _module(case: Case) -> Any:
    return importlib.import_module(f".{case.op}", __name__)
