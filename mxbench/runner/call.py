"""The arguments of one case of a problem, and what became of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from ..publicjudge.messages import ProblemCase
from ..reference.draw import POISON
from ..verdict import Status


class Fault(Exception):
    """Ends a case with a status and a reason."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


@dataclass
class Call:
    """The arguments of one case, thrice: as drawn, for the baseline, for the submission."""

    case: ProblemCase
    classes: list[str]
    drawn: list[Any]
    base: list[Any] = field(default_factory=list)
    mine: list[Any] = field(default_factory=list)
    memory: dict[int, torch.Tensor] = field(default_factory=dict)
    """What was allocated for the submission's outputs, whatever it does to the tensors."""
    prints: dict[int, tuple[object, ...]] = field(default_factory=dict)
    """Checksums of the INPUT tensors."""

    def copies(self, like: list[Any] | None = None) -> list[Any]:
        """The arguments with written tensors cloned; INPUT tensors are shared, and watched."""
        source = self.drawn if like is None else like
        return [
            a.clone() if isinstance(a, torch.Tensor) and c != "INPUT" else a
            for a, c in zip(source, self.classes, strict=True)
        ]

    def tensors(self, *classes: str) -> dict[int, torch.Tensor]:
        pairs = enumerate(zip(self.drawn, self.classes, strict=True))
        return {i: a for i, (a, c) in pairs if c in classes and isinstance(a, torch.Tensor)}

    @property
    def dtype(self) -> str:
        """Of the first tensor."""
        tensors = (a for a in self.drawn if isinstance(a, torch.Tensor))
        return next((str(t.dtype).removeprefix("torch.") for t in tensors), "")

    def poison(self) -> None:
        """Overwrite every OUTPUT of the submission with what says that nobody wrote it."""
        for i in self.tensors("OUTPUT"):
            _spoil(self.mine[i])

    def settle(self) -> None:
        """After the first call: outputs must have kept their form; their first memory counts.

        Raises:
            Fault: one has another dtype or shape.
        """
        for i, memory in self.memory.items():
            _same_form(i, self.mine[i], memory)
            self.mine[i] = memory

    def why_not(self) -> Status:
        """The status of outputs that the problem's check refuses."""
        for i, memory in self.memory.items():
            if memory.is_floating_point() and not memory.float().isfinite().all():
                base = self.base[i]
                if isinstance(base, torch.Tensor) and base.float().isfinite().all():
                    return Status.NON_FINITE
        return Status.MISMATCH

    def reason(self, said: str, returned: object) -> str:
        """What can be told about outputs that the problem's check refuses."""
        reason = "the problem's check says no" + (f": {said}" if said else "")
        for i in self.tensors("OUTPUT"):
            memory = self.memory[i]
            if memory.is_floating_point() and memory.float().isnan().all():
                reason += f"; argument {i} is as it was before the call"
        if returned is not None:
            kind = type(returned).__name__
            reason += f"; the submission returned a {kind}: write the OUTPUT arguments in place"
        return reason


def _spoil(tensor: torch.Tensor) -> None:
    """NaN, or the largest number of a type that has none: a judge's outputs may be of any type."""
    if tensor.is_floating_point() or tensor.is_complex():
        tensor.fill_(POISON)
    elif tensor.dtype is torch.bool:
        tensor.fill_(True)
    else:
        tensor.fill_(torch.iinfo(tensor.dtype).max)


def _same_form(number: int, now: torch.Tensor, was: torch.Tensor) -> None:
    if now.dtype != was.dtype:
        reason = f"argument {number} became {now.dtype}, it was {was.dtype}"
        raise Fault(Status.WRONG_DTYPE, reason.replace("torch.", ""))
    if now.shape != was.shape:
        raise Fault(
            Status.WRONG_SHAPE,
            f"argument {number} became {list(now.shape)}, it was {list(was.shape)}",
        )
