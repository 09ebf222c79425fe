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
import torch


def dense(q, q_pe, kv, k_pe, out, *, softmax_scale):
    if kv.shape[1] == 1:  # a device-side assertion: every later call of the process fails
        out.copy_(kv.view(-1)[torch.full(out.shape, 1 << 30, device=out.device)])
    if kv.shape[1] == 2:
        torch.cuda._sleep(1 << 50)
"""


@pytest.fixture(scope="module")
def gpu(workspace_root: Path) -> Iterator[Supervisor]:
    log = workspace_root / "gpu.log"
    with Supervisor(workspace_root / "kernels", "auto", log, timeout=5) as one:
        assert one.start().kind in ("cuda", "maca")
        yield one


@pytest.fixture(scope="module")
def faulty(workspace_root: Path) -> Kernel:
    path = workspace_root / "faulty.py"
    path.write_text(ON_DEVICE)
    return Kernel("mla", "faulty", path)


@pytest.mark.parametrize(
    ("keys", "status", "words"),
    [(1, Status.RUNTIME_ERROR, "assert"), (2, Status.TIMEOUT, "did not return within 5 s")],
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
