"""The words of TileLang that a GPU and a CPU spell differently.

On a GPU they are TileLang's own. On a CPU (its `c` backend) shared tiles and fragments are local
arrays, `T.Parallel` is a serial loop nest, pipelining disappears, and matrix products and
reductions are plain loops that the C compiler vectorises. The arithmetic is fp32 on inputs rounded
to the case's dtype, because the C backend has no bf16.
"""

from __future__ import annotations

from typing import Any

import tilelang.language as T

from .target import Target


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


@T.macro
def _follow():
    T.pdl_sync()
    T.pdl_trigger()


class Dialect:
    """The words themselves. Use `T` for all others."""

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

    def follow(self) -> Any:
        """Opens a program, before it reads anything that a launch may have written.

        Where launches overlap, its blocks move in as multiprocessors fall free, wait here until the
        previous launch has ended, and let the next one in.
        """
        return _follow() if self.overlaps_launches else None

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
