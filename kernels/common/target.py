"""What programs are compiled for: the target that this process uses, and those known by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tilelang import tvm

from .memo import forget


@dataclass(frozen=True)
class Target:
    """What a program is compiled for."""

    kind: str
    """`cuda`, `maca`, `cpu`, or `hip` (lowering only: the stand-in for wave64 machines)."""
    arch: str = ""
    """`sm_90a`, `sm_80`, `gfx942`, ...; empty where the target has none."""
    schedules: str = "cpu"
    """Name of the device class in `schedules/`: `cuda-sm90`, `cuda-sm80`, `maca-c500`, `cpu`."""
    sms: int = 1
    """Streaming multiprocessors (compute units), for choosing split counts."""

    @property
    def is_cpu(self) -> bool:
        return self.kind == "cpu"

    def tvm(self) -> Any:
        """The TVM target. A dict is the one form that TileLang 0.1.9 to 0.1.15 all accept."""
        if self.kind == "cpu":
            return tvm.target.Target({"kind": "c"})
        if self.kind == "maca":
            return tvm.target.Target("maca")
        key = "mcpu" if self.kind == "hip" else "arch"
        return tvm.target.Target({"kind": self.kind, key: self.arch})


CPU = Target("cpu")
SM80 = Target("cuda", "sm_80", "cuda-sm80", sms=108)
SM90 = Target("cuda", "sm_90a", "cuda-sm90", sms=132)
WAVE64 = Target("hip", "gfx942", "maca-c500", sms=104)
MACA = Target("maca", "", "maca-c500", sms=104)


@dataclass
class _InUse:
    """The target of this process; a worker process serves one device."""

    target: Target


_in_use = _InUse(CPU)


def use(target: Target) -> None:
    """Make `target` the one that programs of this process are compiled for."""
    _in_use.target = target
    forget()


def current() -> Target:
    """The target in use."""
    return _in_use.target
