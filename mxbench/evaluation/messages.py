"""What the parts of an evaluation say to each other, across processes and machines. No torch."""

from __future__ import annotations

from typing import Literal

import msgspec

from ..device import DeviceInfo
from ..record import Record

GIB = 1 << 30


class Work(msgspec.Struct, frozen=True, order=True):
    """One task: one operator's suites of one hand-in."""

    hand_in: str
    op: str
    replica: int = 0
    """0 is what is ranked; 1 and on are the same again on further machines."""

    def __str__(self) -> str:
        again = f" (machine {self.replica + 1})" if self.replica else ""
        return f"{self.hand_in} {self.op}{again}"


class Place(msgspec.Struct, frozen=True):
    """A device that serves one task at a time, or a host that compiles."""

    id: str
    """What the executor calls it."""
    machine: str
    """What must differ for `elsewhere`: the host, or the GPU where there is one host only."""
    label: str
    """How people are told of it."""
    device: DeviceInfo | None
    """None for a host that only compiles."""
    generation: str = ""
    """Changes when the process behind `id` is another one."""
    fenced: bool = False
    """Whether hand-ins run behind namespaces there, and so cannot end what is outside."""

    @property
    def model(self) -> str:
        """What must be equal for two times to be comparable; empty where nothing is timed."""
        d = self.device
        return "" if d is None else f"{d.name}, {d.sms} units, {round(d.memory / GIB)} GiB"


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What the process that measures one hand-in has to do."""

    work: Work
    stage: Literal["measure", "compile"] = "measure"
    target: str
    visible: str | None = None
    """The only GPU that it shall see; None to leave that as it is."""
    rule: str
    suite: str
    """Whose times are ranked."""
    gate: str
    """Whose verdicts count for the gate; may be the same."""
    kernel: str | None = None
    """None for the one that the hand-in holds, or what its dispatch.json says."""
    extras: bool = True
    timeout: float | None = None
    """Seconds a kernel may take."""
    budget: float = 60.0
    """Seconds for timing one case on a CPU."""
    limit: float = 3600.0
    """Seconds for all of it."""
    given: tuple[Record, ...] = ()
    """What an earlier try has finished on a device of this model."""
    device: DeviceInfo | None = None
    """For which device to compile."""


Status = Literal["finished", "absent", "malformed", "time limit", "died", "unmeasured"]
FINAL = ("finished", "absent", "malformed", "time limit")
"""How a try may end that need not be repeated; `absent`: the operator is not handed in."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """How one try ended."""

    status: Status
    reason: str = ""
    device: DeviceInfo | None = None
    records: tuple[Record, ...] = ()
    """All of this try, those that were given left out."""
    lint: tuple[str, ...] = ()
    """Offences against the contest's bans."""
    lint_note: str = ""
    """Why it was not looked for them."""
    seconds: float = 0.0
    said: str = ""
    """The last lines of its log, if it did not go well."""
    cache: bytes = b""
    """Of a compile task: the compile cache, packed."""


class Heard(msgspec.Struct, frozen=True, tag=True):
    """From the measuring process: a case is done, or what it found on the way."""

    record: Record | None = None
    device: DeviceInfo | None = None
    lint: tuple[str, ...] | None = None
    lint_note: str = ""


class Ended(msgspec.Struct, frozen=True, tag=True):
    """From the measuring process, last of all."""

    status: Status
    reason: str = ""
