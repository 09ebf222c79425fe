"""Programs: lowered, compiled once per static shape and target, kept, and launched."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

os.environ.setdefault("TILELANG_PRINT_ON_COMPILATION", "0")

import tilelang
import torch
from tilelang import tvm

from .memo import trial
from .target import Target, current
from .words import Dialect

HALF = (torch.float16, torch.bfloat16)

# Full -ffast-math would let the compiler assume that no NaN or infinity exists, but masks are
# built from -inf and poisoned inputs from NaN. Reassociation alone is what vectorises reductions.
CPU_FLAGS = [
    "-O3",
    "-march=native",
    "-fassociative-math",
    "-fno-signed-zeros",
    "-fno-trapping-math",
    "-fno-math-errno",
]


@dataclass
class _Mode:
    """What asking for a program does in this process: by default compile it, if it is new."""

    share: tuple[int, int] | None = None
    """(i, n) while compiling ahead: compile every n-th program, launch nothing."""
    asked: list[tuple[Program, dict[str, Any]]] | None = None
    """While collecting: the programs asked for, with their static sizes."""
    compiled: int = 0
    """Programs compiled or loaded from the disk cache so far."""


_mode = _Mode()


def compiled_count() -> int:
    """How many programs this process has compiled (or loaded from TileLang's disk cache)."""
    return _mode.compiled


@contextlib.contextmanager
def compile_only(index: int = 0, count: int = 1) -> Iterator[None]:
    """Inside, programs compile but do not run, so kernels may be called with meta tensors.

    Of `count` processes doing the same calls, the one with this `index` compiles its share.
    """
    _mode.share = (index, count)
    try:
        with trial():
            yield
    finally:
        _mode.share = None


@contextlib.contextmanager
def collect() -> Iterator[list[tuple[Program, dict[str, Any]]]]:
    """Inside, programs neither compile nor run; yields the list of those asked for."""
    _mode.asked = []
    try:
        with trial():
            yield _mode.asked
    finally:
        _mode.asked = None


@dataclass(frozen=True)
class Lowered:
    """What TileLang made of a program for a target, before that target's own compiler."""

    source: str
    shared_bytes: int
    """Dynamic shared memory of a block; of several kernels, the largest."""
    threads: int
    """Threads of a block, producer warps that TileLang added included; likewise."""


@dataclass
class Program:
    """A builder of TileLang functions, compiled on demand, one binary per static shape."""

    builder: Callable[..., Any]
    """(Dialect, **static) -> prim_func."""
    writes: tuple[str, ...]
    """Names of the prim_func's parameters that it writes."""
    pass_configs: dict[str, Any] = field(default_factory=dict)
    cache: dict[Any, Callable[..., None]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.builder.__module__}.{self.builder.__qualname__}"

    def get(self, **static: Any) -> Callable[..., None]:
        """The compiled program for the current target: call it with the tensors, in order."""
        if _mode.asked is not None:
            _mode.asked.append((self, static))
            return _skip
        key = (current(), *static, *static.values())  # cheaper to hash than pairs
        launch = self.cache.get(key)
        if _mode.share is not None:
            return self._compile_share(key, static)
        if launch is None:
            launch = self.cache[key] = self._compile(static)
        return launch

    def lower(self, target: Target, **static: Any) -> Lowered:
        """Device code for `target`; needs neither its compiler nor its hardware."""
        resolved = target.tvm()
        with tvm.transform.PassContext(opt_level=3, config=self.pass_configs), resolved:
            artifact = tilelang.lower(
                self.builder(Dialect(target), **static),
                target=resolved,
                enable_host_codegen=False,
                enable_device_compile=False,
            )
        threads, shared = 1, 0
        for kernel in artifact.device_mod.functions.values():
            extents = kernel.attrs["thread_extent"]
            sizes = (int(extents[k]) for k in extents if str(k).startswith("threadIdx"))
            threads = max(threads, math.prod(sizes))
            if "dyn_shared_memory_buf" in kernel.attrs:
                shared = max(shared, int(kernel.attrs["dyn_shared_memory_buf"]))
        return Lowered(artifact.kernel_source, shared, threads)

    def _compile_share(self, key: Any, static: dict[str, Any]) -> Callable[..., None]:
        index, count = _mode.share
        text = json.dumps([self.name, sorted(map(str, static.items()))])
        mine = int(hashlib.sha256(text.encode()).hexdigest(), 16) % count == index
        if mine and key not in self.cache:
            self.cache[key] = self._compile(static)
        return _skip

    def _compile(self, static: dict[str, Any]) -> Callable[..., None]:
        target = current()
        function = self.builder(Dialect(target), **static)
        _mode.compiled += 1
        if target.is_cpu:
            kernel = tilelang.compile(
                function,
                target="c",
                target_host="c",
                execution_backend="cython",
                compile_flags=CPU_FLAGS,
            )
            names = [
                function.buffer_map[p].name if p in function.buffer_map else p.name
                for p in function.params
            ]
            written = tuple(names.index(name) for name in self.writes)
            return functools.partial(_launch_on_cpu, kernel, written)
        kernel = tilelang.compile(
            function,
            target=target.tvm(),
            execution_backend="auto" if target.kind == "maca" else "tvm_ffi",
            pass_configs=self.pass_configs,
        )
        return _entry(kernel)


def _entry(kernel: Any) -> Callable[..., None]:
    """The compiled function itself where TileLang lets one have it, else TileLang's wrapper.

    The wrapper looks at every argument in Python: some microseconds of every launch.
    """
    find = getattr(getattr(kernel, "adapter", None), "_get_executable", None)
    try:
        return kernel if find is None else find()["main"]
    except (AttributeError, KeyError, RuntimeError):
        return kernel


def _skip(*tensors: Any) -> None:
    """Stands for a compiled program where none may run."""


BY_ROLE = {"tl.disable_warp_specialized": True}
"""Pass configuration of programs that write the roles of their warps out."""
BY_ALL = {**BY_ROLE, "tl.disable_tma_lower": True}
"""Of all others: every thread copies its share and multiplies.

Where it may, TileLang 0.1.15 splits off producer warps for Hopper. Of the four one loads, and
nothing holds it back while another one waits for the same barrier: a warp that is late by a whole
round of the barrier waits for a phase that never ends. Seen as a hang on an H100, in three of four
series of 200 launches. In roles that are written out all threads arrive.
"""


def program(
    *, writes: tuple[str, ...], pass_configs: dict[str, Any] = BY_ALL
) -> Callable[[Callable[..., Any]], Program]:
    """Decorator: make a builder `(D, *, static...) -> prim_func` a `Program`.

    pass_configs: TileLang's, `BY_ALL` or `BY_ROLE` and what else the program wants.
    """
    assert pass_configs.items() >= BY_ROLE.items(), "TileLang must not split warps: see BY_ALL"
    return lambda builder: Program(builder, writes, pass_configs)


def _launch_on_cpu(kernel: Any, written: tuple[int, ...], *args: Any) -> None:
    """Run a CPU program on half-precision tensors: widen, run in fp32, round what was written."""
    # lint: allow torch-arithmetic because this runs on a CPU only, where no contest is held
    wide = [a.float() if isinstance(a, torch.Tensor) and a.dtype in HALF else a for a in args]
    kernel(*wide)
    for i in written:
        if wide[i] is not args[i]:
            # lint: allow torch-arithmetic because this runs on a CPU only, where no contest is held
            args[i].copy_(wide[i])
