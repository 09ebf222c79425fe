"""Watches what a verdict and a time rest on: functions, clocks and settings of this process.

A kernel runs in the process that judges it. The guard remembers the functions of torch, of the
clocks and of mxbench itself as they were before any kernel was imported, and finds those that are
others afterwards. It sees what accident and the known tricks do; an author who sets out to
deceive the guard itself can.
"""

from __future__ import annotations

import builtins
import ctypes
import importlib
import math
import statistics
import sys
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch

_MODULES: tuple[Any, ...] = (time, builtins, math, statistics, threading)
_TORCH = ("", ".cuda", ".nn.functional", ".linalg", ".testing", ".autograd.profiler", ".profiler")
_OWN = "mxbench."

_LIMIT_PERSISTING_L2 = 6  # CU_LIMIT_PERSISTING_L2_CACHE_SIZE
_ATTRIBUTE_WINDOW = 1  # CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW


class Guard:
    """What was as it should be. Make it before the first kernel is imported."""

    def __init__(self, device: str) -> None:
        """device: `cuda` or `cpu`."""
        owners = _owners()
        self._functions = [
            (owner, names, name, value)
            for owner in owners
            for names in [vars(owner)]
            for name, value in list(names.items())
            if _is_function(value)
        ]
        # A new name in these hides a base class's or a builtin one; elsewhere it means nothing.
        self._closed = [(o, frozenset(vars(o))) for o in owners if _is_closed(o)]
        self._readers = _state_readers(device)
        self._state = {name: read() for name, read in self._readers.items()}

    def evidence(self) -> str:
        """What is not as it was, in words, once it is as it was again; empty if all is well."""
        found = []
        for number, (owner, names, name, value) in enumerate(self._functions):
            now = names.get(name)
            if _wrapped_by_torch(now, value):
                self._functions[number] = (owner, names, name, now)
            elif now is not value:
                found.append(f"{_path(owner)}.{name} was replaced by {_describe(now)}")
                setattr(owner, name, value)
        for owner, names in self._closed:
            for name in vars(owner).keys() - names:
                if _is_function(vars(owner)[name]):
                    new = _describe(vars(owner)[name])
                    found.append(f"{_path(owner)}.{name} was replaced by {new}")
                    delattr(owner, name)
        for name, read in self._readers.items():
            now = read()
            if now != self._state[name]:
                found.append(f"{name} was left at {now}, it was {self._state[name]}")
        return "; ".join(found[:3]) + (f"; and {len(found) - 3} more" if len(found) > 3 else "")


def _owners() -> list[Any]:
    """Modules and classes whose functions decide verdicts and times."""
    torch_modules = [importlib.import_module(f"torch{name}") for name in _TORCH]
    classes = [torch.Tensor, torch.Generator, torch.cuda.Event, torch.cuda.Stream]
    classes += [torch.cuda.CUDAGraph, torch.cuda.graph]
    own = [m for n, m in sorted(sys.modules.items()) if n.startswith(_OWN) and m is not None]
    own_classes = [
        value
        for module in own
        for value in vars(module).values()
        if isinstance(value, type) and value.__module__ == module.__name__
    ]
    return [*_MODULES, *torch_modules, *classes, *own, *own_classes]


def _is_function(value: Any) -> bool:
    return callable(value) or isinstance(value, staticmethod | classmethod | property)


def _is_closed(owner: Any) -> bool:
    """Whether nobody adds functions to it after it is imported."""
    return isinstance(owner, type) or owner.__name__.startswith(_OWN)


def _wrapped_by_torch(now: Any, value: Any) -> bool:
    """Whether torch itself put a wrapper around a function of its own.

    Importing torch._dynamo does so with torch.manual_seed, and torch imports it when first needed,
    in the middle of a timing for instance.
    """
    code = getattr(now, "__code__", None)
    if code is None or getattr(now, "__wrapped__", None) is not value:
        return False
    return Path(code.co_filename).is_relative_to(Path(torch.__file__).parent)


def _path(owner: Any) -> str:
    if isinstance(owner, type):
        return f"{owner.__module__}.{owner.__qualname__}"
    return str(owner.__name__)


def _describe(value: Any) -> str:
    """A function by its name and line, anything else by its type."""
    function = getattr(value, "__func__", value)
    code = getattr(function, "__code__", None)
    if code is None:
        return "nothing" if value is None else f"a {type(value).__name__}"
    return f"{code.co_name} of {code.co_filename.rpartition('/')[2]}:{code.co_firstlineno}"


# --- settings -----------------------------------------------------------------------------------


def _state_readers(device: str) -> dict[str, Callable[[], object]]:
    readers: dict[str, Callable[[], object]] = {
        "torch's default dtype": torch.get_default_dtype,
    }
    for kind in ("function", "dispatch"):
        if count := getattr(torch._C, f"_len_torch_{kind}_stack", None):
            readers[f"the number of torch {kind} modes"] = count
    if device == "cuda":
        readers["the current device"] = torch.cuda.current_device
        readers["the current stream"] = lambda: torch.cuda.current_stream().cuda_stream
        if _libcuda() is not None:
            readers["the L2 set aside for persisting accesses (bytes)"] = _persisting_l2
            readers["the stream's persisting-L2 window (bytes)"] = _l2_window
    return readers


@cache
def _libcuda() -> ctypes.CDLL | None:
    """CUDA's driver library; None where the GPU is not NVIDIA's."""
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None


def _persisting_l2() -> int:
    size = ctypes.c_size_t()
    library = _libcuda()
    assert library is not None
    code = library.cuCtxGetLimit(ctypes.byref(size), _LIMIT_PERSISTING_L2)
    return size.value if code == 0 else 0


class _Window(ctypes.Structure):
    """CUaccessPolicyWindow within CUlaunchAttributeValue."""

    _fields_ = [
        ("base", ctypes.c_void_p),
        ("bytes", ctypes.c_size_t),
        ("hit_ratio", ctypes.c_float),
        ("hit", ctypes.c_int),
        ("miss", ctypes.c_int),
        ("pad", ctypes.c_char * 64),
    ]


def _l2_window() -> int:
    window = _Window()
    library = _libcuda()
    assert library is not None
    stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
    code = library.cuStreamGetAttribute(stream, _ATTRIBUTE_WINDOW, ctypes.byref(window))
    return int(window.bytes) if code == 0 else 0
