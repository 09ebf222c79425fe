"""The calls of a timed loop: they take turns over input sets, and which are verified is a secret.

Most calls write to the caller's outputs. A few, drawn anew for each loop, write to buffers of their
own, which look no different to the kernel; when the loop is done some of them are judged. A kernel
that does its work only now and then, or only while it is being judged, is found out.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from ..ops.base import Contract
from ..reference import mirror
from ..reference.draw import poison
from ..verdict import Status, Verdict
from .outputs import Fault
from .probing import judge_negated

Call = Callable[[], object]
Outputs = dict[str, torch.Tensor]
Bind = Callable[[dict[str, Any], Outputs], Call]
"""(inputs, outputs) -> a call on them."""

KEPT = 7  # timed calls with outputs of their own
JUDGED = 2  # of them, and the last of the others
LARGE = 1 << 26  # elements of an output from which on one of them is judged, and no other
MEMORY_SHARE = 8  # extra buffers may take one part in so many of what is free


@dataclass
class _Slot:
    """Where one timed call of interest left its result."""

    number: int
    """Which call of the loop it was, from 1 on."""
    outputs: Outputs
    flipped: bool


@dataclass
class Rounds:
    """Prepared calls of one case. `judge` gives the verdict on outputs of the plain inputs."""

    contract: Contract
    inputs: dict[str, Any]
    memory: Outputs
    """The caller's outputs."""
    bind: Bind
    judge: Callable[[Outputs], Verdict]
    free: int
    """Bytes of the device that may be used."""
    strict: bool
    """Whether the strict tolerance must hold as well."""
    sets: list[tuple[dict[str, Any], bool]] = field(init=False)
    """Input sets, and whether each is mirrored."""
    verified: int = 0
    _buffers: list[Outputs] = field(init=False)
    _slots: list[_Slot] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.sets = [(self.inputs, False)]
        size = sum(t.numel() * t.element_size() for t in self.memory.values())
        count = min(KEPT, self.free // MEMORY_SHARE // max(size, 1))
        self._buffers = [
            {name: torch.empty_like(tensor) for name, tensor in self.memory.items()}
            for _ in range(count)
        ]

    @property
    def is_large(self) -> bool:
        """Whether judging an output takes a good part of a second."""
        return self.memory[mirror.ODD].numel() >= LARGE

    def rotate(self) -> None:
        """Let calls alternate with those on mirrored inputs, if memory allows."""
        if len(self.sets) == 1 and self.extra_bytes <= self.free // 2:
            self.sets.append((mirror.mirrored(self.contract, self.inputs), True))

    @property
    def extra_bytes(self) -> int:
        """What a second set of inputs takes."""
        return mirror.extra_bytes(self.contract, self.inputs)

    @property
    def one(self) -> Call:
        """The call on the caller's own tensors."""
        return self.bind(self.inputs, self.memory)

    def take(self, count: int) -> list[Call]:
        """`count` calls for a loop. Some, nobody knows which, write to buffers of their own."""
        secret = random.SystemRandom().sample(range(count), min(len(self._buffers), count - 1))
        own = dict(zip(secret, self._buffers, strict=False))
        usual = [self.bind(inputs, self.memory) for inputs, _ in self.sets]
        calls = []
        self._slots = []
        for number in range(count):
            inputs, flipped = self.sets[number % len(self.sets)]
            outputs = own.get(number, self.memory)
            self._slots.append(_Slot(number + 1, outputs, flipped))
            calls.append(
                self.bind(inputs, outputs) if number in own else usual[number % len(usual)]
            )
        return calls

    def poison(self) -> None:
        """Overwrite all outputs; between warm-up and loop."""
        for outputs in (self.memory, *self._buffers):
            for tensor in outputs.values():
                poison(tensor)

    def verify(self, done: int, what: str = "timed call") -> None:
        """Judge a sample of the loop's calls, of which `done` were made.

        Raises:
            Fault: one of them is wrong.
        """
        made = self._slots[:done]
        own = [slot for slot in made if slot.outputs is not self.memory]
        shared = [slot for slot in made if slot.outputs is self.memory][-1:]
        if self.is_large:
            sample = random.SystemRandom().sample(own + shared, 1)
        else:
            sample = random.SystemRandom().sample(own, min(JUDGED, len(own))) + shared
        for slot in sample:
            self._require(slot, f"{what} {slot.number} of {done}")
        self.verified += len(sample)

    def verify_plain(self, what: str) -> None:
        """Judge what calls on the plain inputs left in the caller's outputs."""
        self._require(_Slot(0, self.memory, False), what)

    def fault_of_plain(self) -> str:
        """What is wrong with what calls on the plain inputs left; empty if nothing is."""
        try:
            self.verify_plain("them")
        except Fault as fault:
            return fault.reason
        return ""

    def _require(self, slot: _Slot, what: str) -> None:
        def judge() -> Verdict:
            return self.judge(slot.outputs)

        odd = slot.outputs[mirror.ODD]
        verdict = judge_negated(odd, judge) if slot.flipped else judge()
        right = verdict.status is Status.PASSED
        if not right or (self.strict and verdict.strict is not Status.PASSED):
            reason = f"right when it was judged, wrong in {what} ({verdict.status.value})"
            raise Fault(Status.INTEGRITY, f"{reason}: {verdict.reason}")
