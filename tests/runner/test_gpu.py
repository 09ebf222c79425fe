"""Faults that only a GPU has: a poisoned context and a kernel that never ends on the device."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mxbench.kernel import Kernel
from mxbench.runner.supervisor import Supervisor
from mxbench.verdict import Status

from .test_supervisor import case, kernel

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA or MetaX GPU"),
]

ON_DEVICE = """
import tilelang.language as T
import torch

from ..common.dialect import program


@program(writes=("Out",), pass_configs={"tl.disable_safe_memory_legalize": True})
def scatter(D, *, dtype):
    size = T.dynamic("size")

    @T.prim_func
    def main(Far: T.Tensor((1,), "int32"), Out: T.Tensor((size,), dtype)):
        with T.Kernel(1, threads=32):
            Out[Far[0]] = T.cast(1, dtype)

    return main


def dense(q, q_pe, kv, k_pe, out, *, softmax_scale):
    if kv.shape[1] == 1:  # a device-side assertion: every later call of the process fails
        out.copy_(kv.view(-1)[torch.full(out.shape, 1 << 30, device=out.device)])
    if kv.shape[1] == 2:
        torch.cuda._sleep(1 << 50)
    if kv.shape[1] == 3:  # a write half a GiB past the end
        far = torch.full((1,), 2**28, dtype=torch.int32, device=out.device)
        scatter.get(dtype="float16")(far, out.view(-1))
"""


@pytest.fixture(scope="module")
def gpu(workspace_root: Path) -> Iterator[Supervisor]:
    log = workspace_root / "gpu.log"
    with Supervisor(workspace_root / "kernels", "auto", log, timeout=5) as one:
        assert one.start().kind in ("cuda", "maca")
        yield one


@pytest.fixture(scope="module")
def faulty(workspace_root: Path) -> Kernel:
    path = workspace_root / "kernels" / "mla" / "faulty.py"
    path.write_text(ON_DEVICE)
    return Kernel("mla", "faulty", path)


@pytest.mark.parametrize(
    ("keys", "status", "words"),
    [
        (1, Status.RUNTIME_ERROR, "device-side assert"),
        (2, Status.TIMEOUT, "did not return within 5 s"),
        (3, Status.RUNTIME_ERROR, "illegal memory access"),
    ],
)
def test_a_fault_on_the_device_costs_one_case(
    gpu: Supervisor, workspace_root: Path, faulty: Kernel, keys: int, status: Status, words: str
) -> None:
    good = kernel(workspace_root, "good")
    assert gpu.judge(case(workspace_root, keys), good).status is Status.PASSED
    outcome = gpu.judge(case(workspace_root, keys), faulty)
    assert outcome.status is status and words in outcome.reason, outcome
    assert gpu.judge(case(workspace_root, keys), good).status is Status.PASSED


def test_workers_are_forked_with_a_working_gpu(gpu: Supervisor) -> None:
    """Nothing that the fork server imports may touch CUDA, or every worker starts slowly."""
    assert gpu.method == "forkserver" and not gpu.notes
