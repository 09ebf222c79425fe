"""What supervisor and worker say to each other: msgpack structs over a pipe. Needs no torch."""

from __future__ import annotations

from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import msgspec

from ..case import Case
from ..device import DeviceInfo
from ..diagnosis import Diagnosis
from ..errors import MxbenchError
from ..kernel import Kernel
from ..measurement import Plan, Timing
from ..publicjudge.messages import (
    PROBLEM_STAGES,
    OpenProblem,
    ProblemOpened,
    ProblemOutcome,
    ProblemRead,
    ReadProblem,
    RunProblem,
)
from ..roofline import Rates
from ..tuning.fit import Footprint
from ..verdict import Errors, Status

Stage = Literal[
    "inputs", "compile", "kernel", "golden", "timing",
    "genTestCase", "baseline", "check", "submission",
]  # fmt: skip
COMPILE_LIMIT = 300.0  # seconds; a broken compiler must not hang a run
LEAST_BLOCKS = 6  # of a race; fewer give no interval worth the name
OWN_LIMIT = 300.0  # seconds for mxbench's own parts, however short the kernel's limit is


def stage_limit(stage: Stage, timeout: float) -> float:
    """Seconds a stage may take when a kernel may take `timeout`."""
    if stage == "kernel" or stage in PROBLEM_STAGES:
        return timeout
    return COMPILE_LIMIT if stage == "compile" else max(timeout, OWN_LIMIT)


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker needs to start."""

    kernels: str
    """The workspace's kernels folder."""
    target: str
    """`auto`, `cuda`, `maca` or `cpu`."""
    log: str
    """File that takes the worker's stdout and stderr."""
    forked: bool = False
    """Whether the worker is forked from a server that has imported torch."""
    visible: str | None = None
    """The only GPU that the worker shall see; None for those this process sees."""
    companions: int = 0
    """Other workers of this run on the same device, which rest while this one measures."""
    environ: dict[str, str] = {}
    """Environment variables beside those of the process that starts it."""


class KernelRef(msgspec.Struct, frozen=True):
    """A kernel, by file."""

    op: str
    name: str
    path: str

    @staticmethod
    def of(kernel: Kernel) -> KernelRef:
        return KernelRef(kernel.op, kernel.name, str(kernel.path))

    def kernel(self) -> Kernel:
        return Kernel(self.op, self.name, Path(self.path))


class Load(msgspec.Struct, frozen=True, tag=True):
    """To the worker: import a kernel module. Answered by Loaded."""

    kernel: KernelRef


class Judge(msgspec.Struct, frozen=True, tag=True):
    """To the worker: run one case and judge it. Answered by Stages and an Outcome."""

    case: bytes
    """`Case.encode()`."""
    kernel: KernelRef
    precision: str
    """Of the golden: `fp32` or `fp64`."""
    timeout: float
    """Seconds the kernel may take; past it the supervisor kills the worker."""
    plan: Plan | None = None
    """What to time once the case has passed."""
    repeats: int = 0
    """Further calls that must put out the same bits."""
    probe: bool = True
    """Whether to call once more on other numbers, to see that the first result was no accident."""

    @staticmethod
    def of(
        case: Case,
        kernel: Kernel,
        precision: str,
        timeout: float,
        plan: Plan | None = None,
        repeats: int = 0,
        probe: bool = True,
    ) -> Judge:
        ref = KernelRef.of(kernel)
        return Judge(case.encode(), ref, precision, timeout, plan, repeats, probe)


class Diagnose(msgspec.Struct, frozen=True, tag=True):
    """To the worker: test a case's tolerances. Answered by a Diagnosis."""

    case: bytes
    """`Case.encode()`."""
    honest: int
    """Right results to let pass."""


class Measure(msgspec.Struct, frozen=True, tag=True):
    """To the worker: measure what the device reaches. Answered by Measured."""


class Contender(msgspec.Struct, frozen=True, kw_only=True):
    """Who takes part in a race: a kernel, maybe of another revision or with other schedules."""

    kernel: KernelRef
    folder: str
    """The kernels folder that it belongs to."""
    package: str
    """Under which name that folder is imported: one name a folder, and a name for each copy."""
    overrides: dict[str, dict[str, Any]] = {}
    """Schedules by program name, instead of those of the folder's files."""


class Heat(msgspec.Struct, frozen=True, kw_only=True):
    """How contenders are timed against each other."""

    blocks: int
    """In each, everyone runs twice: in some order and then in the reverse one (ABBA)."""
    slot_ms: float
    """Milliseconds that a turn should last: short calls are repeated within it."""
    seconds: float
    """After these no further block begins, once there are LEAST_BLOCKS."""
    mode: Literal["eager", "graph"] = "eager"


class Race(msgspec.Struct, frozen=True, tag=True):
    """To the worker: judge those not judged yet, then time them in turns. Answered by Raced."""

    case: bytes
    """`Case.encode()`."""
    contenders: list[Contender]
    heat: Heat | None
    """None to judge only."""
    timeout: float
    """Seconds a contender's call may take."""


class Survey(msgspec.Struct, frozen=True, tag=True):
    """To a workshop: which schedules does a call look up? Answered by Surveyed."""

    case: bytes
    kernel: KernelRef


class Probe(msgspec.Struct, frozen=True, tag=True):
    """To a workshop: what will a call's programs need under other schedules? By Probed."""

    case: bytes
    kernel: KernelRef
    overrides: dict[str, dict[str, Any]]


class Build(msgspec.Struct, frozen=True, tag=True):
    """To a workshop: compile a call's programs under other schedules. Answered by Built."""

    case: bytes
    kernel: KernelRef
    overrides: dict[str, dict[str, Any]]


class Hello(msgspec.Struct, frozen=True, tag=True):
    """From the worker: ready, on this device."""

    device: DeviceInfo


class Fault(msgspec.Struct, frozen=True, tag=True):
    """From the worker: it cannot work here, and exits."""

    message: str
    hint: str
    exit_code: int
    bad_fork: bool = False
    """The GPU was touched before the fork; a spawned process may do better."""

    def error(self) -> MxbenchError:
        return MxbenchError(self.message, self.hint, self.exit_code)


class Loaded(msgspec.Struct, frozen=True, tag=True):
    """From the worker: the module is imported, or why not."""

    problem: str = ""


class Measured(msgspec.Struct, frozen=True, tag=True):
    """From the worker: the device's rates, or why there are none."""

    rates: Rates | None
    problem: str = ""


class Entered(msgspec.Struct, frozen=True, tag=True):
    """From the worker: a stage of the case begins."""

    stage: Stage


class Outcome(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """From the worker, or made up by the supervisor for a worker that died: one case is done."""

    status: Status
    strict: Status | None = None
    errors: Errors | None = None
    timing: Timing | None = None
    """Times, if they were asked for and the case passed."""
    reason: str = ""
    probes: list[str] = []
    """What a second call tested."""
    schedule: dict[str, Any] = {}
    seconds: dict[str, float] = {}
    programs: int = 0
    """Programs compiled, or loaded from the compile cache, for this case."""
    poisoned: bool = False
    """The device's context is unusable; the worker exits after this message."""


class Raced(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """From the worker: how a race went."""

    outcomes: list[Outcome]
    """Of each contender; times are taken only if all have passed."""
    blocks: list[list[float]] = []
    """Milliseconds a call, by block and contender."""
    calls: int = 0
    """Calls in a turn."""
    mode: str = ""
    """`eager`, `graph` or `cpu`."""
    note: str = ""


class Lookup(msgspec.Struct, frozen=True):
    """A schedule that a call asked for."""

    program: str
    shape: dict[str, Any]
    use: dict[str, Any]


class Surveyed(msgspec.Struct, frozen=True, tag=True):
    """From a workshop: the look-ups of a call, in order, or why there are none."""

    lookups: list[Lookup] = []
    problem: str = ""


class Probed(msgspec.Struct, frozen=True, tag=True):
    """From a workshop: footprints of a call's programs that differ from the default's."""

    footprints: list[Footprint] = []
    problem: str = ""


class Built(msgspec.Struct, frozen=True, tag=True):
    """From a workshop: compiled, or why not."""

    problem: str = ""


class Progress(msgspec.Struct, frozen=True, tag=True):
    """From a compiling process: it is through this many calls, and compiled this many programs."""

    calls: int
    programs: int


Message = (
    Load
    | Judge
    | Measure
    | Diagnose
    | Race
    | Survey
    | Probe
    | Build
    | Hello
    | Fault
    | Loaded
    | Measured
    | Diagnosis
    | Entered
    | Outcome
    | Raced
    | Surveyed
    | Probed
    | Built
    | Progress
    | OpenProblem
    | ProblemOpened
    | RunProblem
    | ProblemOutcome
    | ReadProblem
    | ProblemRead
)

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Message).decode


def send(pipe: Connection, message: Message) -> None:
    """Send a message; OSError if nobody is at the other end."""
    pipe.send_bytes(_encode(message))


def receive(pipe: Connection) -> Message:
    """The next message; EOFError if the other end is closed."""
    return _decode(pipe.recv_bytes())
