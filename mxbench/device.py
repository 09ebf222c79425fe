"""The one place that knows cuda, maca and cpu. Imports torch only inside `detect`."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

from . import __version__
from .errors import EXIT_ENVIRONMENT, MxbenchError
from .record import Environment

Kind = Literal["cuda", "maca", "cpu"]
KINDS: tuple[Kind, ...] = get_args(Kind)

# TileLang looks for these on PATH, after CXX and CC (tilelang.contrib.cc.get_cplus_compiler).
HOST_COMPILERS = ("g++", "clang++", "c++")
MACA_KNOBS = re.compile(r"TILELANG_MACA_GEMM_\w+|TILELANG_MXCC_FLAGS")
MACA_NAME = re.compile(r"metax|mxc\d", re.IGNORECASE)


class DeviceInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A device as its worker sees it."""

    kind: Kind
    name: str
    """As the driver calls it, such as `NVIDIA H100 80GB HBM3`; of a CPU its model name."""
    torch_device: str
    """What torch calls it: `cuda` on MACA too."""
    arch: str
    """`sm_90a`, `sm_80`, ...; empty where the target has none."""
    schedules: str
    """Device class of the schedules: `cuda-sm90`, `cuda-sm80`, `maca-c500`, `cpu`."""
    sms: int
    """Streaming multiprocessors, compute units, or CPU cores."""
    memory: int
    """Bytes in all."""
    free: int
    """Bytes free when the worker started."""
    env: Environment


def host_compiler() -> str | None:
    """The C++ compiler that TileLang's CPU target would use, or None."""
    for name in (os.environ.get("CXX"), os.environ.get("CC"), *HOST_COMPILERS):
        if name and shutil.which(name):
            return name
    return None


def require_host_compiler() -> None:
    """MxbenchError (exit code 3) unless the CPU target can compile."""
    if host_compiler() is None:
        raise MxbenchError(
            "target cpu needs a C++ compiler, and there is none on PATH",
            "install one: `apt install g++`, `dnf install gcc-c++` or `conda install gxx`",
            EXIT_ENVIRONMENT,
        )


def maca_on_disk(
    environ: Mapping[str, str] = os.environ, which: Callable[[str], str | None] = shutil.which
) -> bool:
    """Whether a MACA toolkit is installed, by the signs that need no torch."""
    return bool(environ.get("MACA_PATH")) or Path("/opt/maca").is_dir() or bool(which("mx-smi"))


def is_maca(torch: Any, device_name: str) -> bool:
    """Whether torch's `cuda` device is really a MACA one.

    Torch on MACA answers through `torch.cuda` and sets `torch.version.cuda`, so neither tells.
    """
    return bool(
        getattr(torch.version, "maca", None)
        or "+metax" in torch.__version__
        or MACA_NAME.search(device_name)
        or ("nvidia" not in device_name.lower() and maca_on_disk())
    )


def detect(wanted: str) -> DeviceInfo:
    """The device to run on: the GPU if torch sees one, else the CPU.

    Args:
        wanted: `auto`, or the kind it must be.

    Raises:
        MxbenchError: exit code 3, the wanted kind is not there, or lacks a compiler.
    """
    import torch

    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        require_host_compiler()
        return _cpu(torch)
    if not torch.cuda.is_available():
        raise _no_gpu(torch, wanted)
    name = torch.cuda.get_device_name(0)
    kind: Kind = "maca" if is_maca(torch, name) else "cuda"
    if wanted not in ("auto", kind):
        raise MxbenchError(
            f"target {wanted}: the GPU here is {name}, a {kind} device",
            f"use --target {kind}",
            EXIT_ENVIRONMENT,
        )
    return _gpu(torch, kind, name)


def _no_gpu(torch: Any, wanted: str) -> MxbenchError:
    build = torch.__version__
    if wanted == "maca":
        fix = "install MetaX's torch (+metax) and driver; `mx-smi` must list the card"
    elif torch.version.cuda is None:
        fix = "this torch has no CUDA: pip install torch from https://pytorch.org for your driver"
    else:
        fix = "install NVIDIA's driver; `nvidia-smi` must list the card"
    return MxbenchError(
        f"target {wanted}: torch {build} sees no GPU",
        f"{fix}, or run on the CPU with --target cpu",
        EXIT_ENVIRONMENT,
    )


def _gpu(torch: Any, kind: Kind, name: str) -> DeviceInfo:
    free, total = torch.cuda.mem_get_info(0)
    properties = torch.cuda.get_device_properties(0)
    arch, schedules = "", "maca-c500"
    if kind == "cuda":
        major, minor = properties.major, properties.minor
        if major < 8:
            raise MxbenchError(
                f"{name} has compute capability {major}.{minor}; kernels need 8.0 or newer",
                "run on the CPU with --target cpu",
                EXIT_ENVIRONMENT,
            )
        hopper = (major, minor) == (9, 0)
        # Only `sm_90a` has wgmma; TMA and wgmma schedules do not carry over to other devices.
        arch = "sm_90a" if hopper else f"sm_{major}{minor}"
        schedules = "cuda-sm90" if hopper else "cuda-sm80"
    return DeviceInfo(
        kind=kind,
        name=name,
        torch_device="cuda",
        arch=arch,
        schedules=schedules,
        sms=properties.multi_processor_count,
        memory=total,
        free=free,
        env=_environment(torch, arch, properties.multi_processor_count, total),
    )


def _cpu(torch: Any) -> DeviceInfo:
    total, free = _host_memory()
    cores = len(os.sched_getaffinity(0))
    return DeviceInfo(
        kind="cpu",
        name=cpu_name(),
        torch_device="cpu",
        arch="",
        schedules="cpu",
        sms=cores,
        memory=total,
        free=free,
        env=_environment(torch, platform.machine(), cores, total),
    )


def cpu_name() -> str:
    """The CPU's model name, or its architecture where the kernel does not say."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1).strip() if found else f"{platform.machine()} CPU"


def _host_memory() -> tuple[int, int]:
    """(all, available) bytes of main memory, within the container's limit if it has one."""
    text = Path("/proc/meminfo").read_text()
    kib = {
        name: int(value) for name, value in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)
    }
    total, free = kib["MemTotal"] << 10, kib["MemAvailable"] << 10
    try:
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text())
        used = int((group / "memory.current").read_text())
    except (OSError, ValueError):  # no cgroup v2 here, or the limit is "max"
        return total, free
    return min(total, limit), min(free, max(0, limit - used))


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _driver() -> str | None:
    """Version of NVIDIA's kernel module."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text()
    except OSError:
        return None
    found = re.search(r"\b\d+\.\d+(\.\d+)?\b", text)
    return found.group(0) if found else None


def _environment(torch: Any, arch: str, sms: int, memory: int) -> Environment:
    return Environment(
        mxbench=__version__,
        python=".".join(map(str, sys.version_info[:3])),
        torch=str(torch.__version__),  # a subclass of str
        tilelang=_version("tilelang"),
        tvm_ffi=_version("apache-tvm-ffi"),
        cuda=torch.version.cuda,
        maca=getattr(torch.version, "maca", None),
        driver=_driver(),
        arch=arch or None,
        sms=sms,
        memory=memory,
        platform=f"{platform.system()}-{platform.machine()}",
        knobs={k: v for k, v in sorted(os.environ.items()) if MACA_KNOBS.fullmatch(k)},
    )
