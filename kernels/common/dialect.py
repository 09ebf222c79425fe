"""One kernel body for every target.

A portable kernel is a *program*: a function that takes a `Dialect` and static sizes and returns a
TileLang `prim_func`. The dialect supplies the few words that differ between a GPU and a CPU:

* on a GPU (`cuda`, `maca`, and `hip` for lowering tests) they are TileLang's own;
* on a CPU (`c` backend) shared tiles and fragments are local arrays, `T.Parallel` is a serial loop
  nest, pipelining disappears, and matrix products and reductions are plain loops that the C
  compiler vectorises. The arithmetic is fp32 on inputs rounded to the case's dtype, because the
  C backend has no bf16.

`Program.get(**static)` compiles once per static shape and target; batch, tokens and sequence
lengths stay dynamic (`T.dynamic`), so a new batch size never compiles again.
"""

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
import tilelang.language as T
import torch
from tilelang import tvm

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
class _State:
    """Settings of this process; a worker process serves one device."""

    target: Target = CPU
    share: tuple[int, int] | None = None
    """(i, n) while compiling ahead: compile every n-th program, launch nothing."""
    asked: list[tuple[Program, dict[str, Any]]] | None = None
    """While collecting: the programs asked for, with their static sizes."""
    compiled: int = 0
    """Programs compiled or loaded from the disk cache so far."""
    trials: int = 0
    """Schedules under trial (`schedule.override`)."""
    memos: list[dict[Any, Any]] = field(default_factory=list)


_state = _State()


def use(target: Target) -> None:
    """Make `target` the one that programs of this process are compiled for."""
    _state.target = target
    forget()


def current() -> Target:
    """The target in use."""
    return _state.target


def compiled_count() -> int:
    """How many programs this process has compiled (or loaded from TileLang's disk cache)."""
    return _state.compiled


@contextlib.contextmanager
def compile_only(index: int = 0, count: int = 1) -> Iterator[None]:
    """Inside, programs compile but do not run, so kernels may be called with meta tensors.

    Of `count` processes doing the same calls, the one with this `index` compiles its share.
    """
    _state.share = (index, count)
    forget()
    try:
        yield
    finally:
        _state.share = None


@contextlib.contextmanager
def collect() -> Iterator[list[tuple[Program, dict[str, Any]]]]:
    """Inside, programs neither compile nor run; yields the list of those asked for."""
    _state.asked = []
    forget()
    try:
        yield _state.asked
    finally:
        _state.asked = None


# --- what repeated calls need not look up again --------------------------------------------------


def memo() -> dict[Any, Any]:
    """A dict for a kernel module: what a call of some shape launches. Fill it with `remember`.

    Looking up a schedule and a program takes longer in Python than a small launch on the GPU.
    """
    made: dict[Any, Any] = {}
    _state.memos.append(made)
    return made


def remember(made: dict[Any, Any], key: Any, value: Any) -> Any:
    """Store `value` in a memo, unless this process only compiles, collects or tries schedules."""
    if _state.share is None and _state.asked is None and not _state.trials:
        made[key] = value
    return value


def forget() -> None:
    """Empty all memos: from now on calls may launch something else."""
    for made in _state.memos:
        made.clear()


@contextlib.contextmanager
def trial() -> Iterator[None]:
    """Inside, memos stay empty."""
    _state.trials += 1
    forget()
    try:
        yield
    finally:
        _state.trials -= 1


# --- the words that differ ----------------------------------------------------------------------


@T.macro
def _cpu_gemm(A, B, C, transpose_A, transpose_B):
    M, N = C.shape
    K = A.shape[0] if transpose_A else A.shape[1]
    if transpose_B:
        for i, j in T.grid(M, N):
            for k in T.serial(K):
                C[i, j] += (A[k, i] if transpose_A else A[i, k]) * B[j, k]
    else:
        # j innermost: the row of B and the row of C are contiguous, so the loop vectorises.
        for i, k in T.grid(M, K):
            for j in T.serial(N):
                C[i, j] += (A[k, i] if transpose_A else A[i, k]) * B[k, j]


@T.macro
def _cpu_reduce_max(src, dst, clear):
    M, N = src.shape
    for i in T.serial(M):
        if clear:
            dst[i] = -T.infinity(dst.dtype)
        for j in T.serial(N):
            dst[i] = T.max(dst[i], src[i, j])


@T.macro
def _cpu_reduce_sum(src, dst, clear):
    M, N = src.shape
    for i in T.serial(M):
        if clear:
            dst[i] = 0
        for j in T.serial(N):
            dst[i] += src[i, j]


class Dialect:
    """The words of TileLang that a GPU and a CPU spell differently. Use `T` for all others."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.is_cpu = target.is_cpu

    def dtype(self, dtype: str) -> str:
        """How a half-precision element is stored in a program: as fp32 on the CPU."""
        return "float32" if self.is_cpu and dtype in ("float16", "bfloat16") else dtype

    def kernel(self, *grid: Any, threads: int) -> Any:
        return T.Kernel(*grid) if self.is_cpu else T.Kernel(*grid, threads=threads)

    def alloc_shared(self, shape: Any, dtype: str, static: bool = False) -> Any:
        """`static` memory is outside the pool that TileLang overlays once its contents are dead.

        Wanted for small tables that a pipelined loop reads indices from: TileLang 0.1.9 loses
        track of those in the pool.
        """
        if self.is_cpu:
            return T.alloc_local(shape, dtype)
        return T.alloc_shared(shape, dtype, scope="shared" if static else "shared.dyn")

    def alloc_fragment(self, shape: Any, dtype: str) -> Any:
        return T.alloc_local(shape, dtype) if self.is_cpu else T.alloc_fragment(shape, dtype)

    def parallel(self, *extents: Any) -> Any:
        if not self.is_cpu:
            return T.Parallel(*extents)
        return T.serial(extents[0]) if len(extents) == 1 else T.grid(*extents)

    def pipelined(self, extent: Any, num_stages: int) -> Any:
        return T.serial(extent) if self.is_cpu else T.Pipelined(extent, num_stages=num_stages)

    @property
    def overlaps_launches(self) -> bool:
        """Whether a launch may be told to start before the previous one has ended."""
        return self.target.kind == "cuda" and self.target.arch.startswith("sm_90")

    def gemm(
        self,
        A: Any,
        B: Any,
        C: Any,
        transpose_A: bool = False,
        transpose_B: bool = False,
        policy: Any = None,
    ) -> Any:
        """C += op(A) @ op(B), accumulated in C's dtype."""
        if self.is_cpu:
            return _cpu_gemm(A, B, C, transpose_A, transpose_B)
        more = {} if policy is None else {"policy": policy}
        return T.gemm(A, B, C, transpose_A=transpose_A, transpose_B=transpose_B, **more)

    def reduce_max(self, src: Any, dst: Any, clear: bool = True) -> Any:
        """Row maxima of a 2-D buffer; keeps what `dst` holds unless `clear`."""
        if self.is_cpu:
            return _cpu_reduce_max(src, dst, clear)
        return T.reduce_max(src, dst, dim=1, clear=clear)

    def reduce_sum(self, src: Any, dst: Any, clear: bool = True) -> Any:
        """Row sums of a 2-D buffer; adds to what `dst` holds unless `clear`."""
        if self.is_cpu:
            return _cpu_reduce_sum(src, dst, clear)
        return T.reduce_sum(src, dst, dim=1, clear=clear)


# --- compiling and launching --------------------------------------------------------------------


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
        if _state.asked is not None:
            _state.asked.append((self, static))
            return _skip
        key = (_state.target, *static, *static.values())  # cheaper to hash than pairs
        launch = self.cache.get(key)
        if _state.share is not None:
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
        index, count = _state.share
        text = json.dumps([self.name, sorted(map(str, static.items()))])
        mine = int(hashlib.sha256(text.encode()).hexdigest(), 16) % count == index
        if mine and key not in self.cache:
            self.cache[key] = self._compile(static)
        return _skip

    def _compile(self, static: dict[str, Any]) -> Callable[..., None]:
        target = _state.target
        function = self.builder(Dialect(target), **static)
        _state.compiled += 1
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
