"""One case on its way through the worker: its tensors, its golden, its call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from .. import compare, reference
from ..case import Case
from ..kernel import Kernel
from ..ops.base import Contract
from ..reference.base import Expected
from ..verdict import Verdict


@dataclass
class Subject:
    """One case on its way through the worker."""

    case: Case
    kernel: Kernel
    function: Callable[..., None]
    inputs: dict[str, Any]
    outputs: dict[str, torch.Tensor]
    """The tensor objects that the kernel is given."""
    memory: dict[str, torch.Tensor]
    """What the caller allocated, whatever the kernel does to the tensor objects it is given."""
    prints: dict[str, tuple[object, ...]]
    """Checksums of the inputs."""
    precision: str
    golden: Expected | None = None
    choice: torch.Tensor | None = None
    """What the golden rests on: blocks that the kernel chose."""

    def bind(
        self, inputs: dict[str, Any], outputs: dict[str, torch.Tensor]
    ) -> Callable[[], object]:
        """The call on these tensors."""
        tensors, options = arguments(self.case.spec, inputs, outputs)
        return lambda: self.function(*tensors, **options)

    def judge(self, outputs: dict[str, torch.Tensor]) -> Verdict:
        """The verdict on outputs of the inputs as they were drawn."""
        spec, case = self.case.spec, self.case
        golden, choice = self.golden, outputs.get("chosen")
        same = choice is None or (self.choice is not None and torch.equal(choice, self.choice))
        if golden is None or not same:
            golden = reference.expected(case, self.inputs, outputs, self.precision)
        if self.golden is None:
            self.golden = golden
            self.choice = None if choice is None else choice.clone()
        strict = spec.strict(case.params, case.dtype)
        return compare.judge(spec, case.tolerance, strict, outputs, golden)


def arguments(
    spec: Contract, inputs: dict[str, Any], outputs: dict[str, torch.Tensor]
) -> tuple[list[torch.Tensor], dict[str, Any]]:
    """A call's positional arguments and options."""
    tensors = [outputs[name] if name in outputs else inputs[name] for name in spec.tensors]
    return tensors, {name: inputs[name] for name in spec.options}


def other_bits(first: torch.Tensor, again: torch.Tensor) -> str:
    """Where two results of the same call differ, and how much; empty if bit for bit equal."""
    bits = first.contiguous().view(torch.uint8) != again.contiguous().view(torch.uint8)
    if not bits.any():
        return ""
    element = first.element_size()
    wrong = bits.flatten().view(-1, element).any(-1)
    at = int(wrong.byte().argmax())
    index = [int(i) for i in torch.unravel_index(torch.tensor(at), first.shape)]
    values = float(first.flatten()[at]), float(again.flatten()[at])
    return f"{int(wrong.sum())} elements, first {index}, {values[0]:.6g} then {values[1]:.6g}"


def copied(inputs: dict[str, Any]) -> dict[str, Any]:
    return {n: v.clone() if isinstance(v, torch.Tensor) else v for n, v in inputs.items()}
