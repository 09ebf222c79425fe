"""Each way of deceiving a check or a timing is found and named; honest kernels are left alone."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import torch

from mxbench.measurement import Plan
from mxbench.ops.base import Work
from mxbench.roofline import profiles
from mxbench.runner.integrity import Guard
from mxbench.runner.supervisor import Supervisor
from mxbench.runner.timed import BelowFloor, require_possible
from mxbench.verdict import Status

from .test_supervisor import case, kernel
from .tricks import TRICKS

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
CPU_PLAN = Plan(warmup=1, repeat=8, budget=60.0)
GPU_PLAN = Plan(warmup=1, repeat=8)
EVERYWHERE = [name for name, trick in TRICKS.items() if not trick.gpu]


@pytest.fixture(scope="module")
def gpu(workspace_root: Path) -> Iterator[Supervisor]:
    log = workspace_root / "integrity.log"
    with Supervisor(workspace_root / "kernels", "auto", log, timeout=20) as one:
        one.start()
        yield one


def require_found(supervisor: Supervisor, root: Path, name: str, plan: Plan) -> None:
    trick = TRICKS[name]
    deceiver = trick.kernel(root, name.replace(" ", "_"))
    some = case(root, 16, "many")
    how = msgspec.structs.replace(plan, mode=trick.mode) if trick.timed else None
    outcome = supervisor.judge(some, deceiver, plan=how)
    assert outcome.status is trick.status, outcome
    assert any(words in outcome.reason for words in trick.words.split(" | ")), outcome.reason
    assert outcome.timing is None
    # Whatever it did, the next kernel is judged and timed as ever.
    after = supervisor.judge(some, kernel(root, "good"), plan=plan)
    assert after.status is Status.PASSED and after.timing is not None, after


@pytest.mark.parametrize("name", EVERYWHERE)
def test_it_is_found_on_a_cpu(supervisor: Supervisor, workspace_root: Path, name: str) -> None:
    require_found(supervisor, workspace_root, name, CPU_PLAN)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("name", TRICKS)
def test_it_is_found_on_a_gpu(gpu: Supervisor, workspace_root: Path, name: str) -> None:
    require_found(gpu, workspace_root, name, GPU_PLAN)


def test_an_honest_kernel_is_probed_rotated_and_verified(
    supervisor: Supervisor, workspace_root: Path
) -> None:
    outcome = supervisor.judge(
        case(workspace_root, 16, "many"), kernel(workspace_root, "good"), plan=CPU_PLAN
    )
    assert outcome.status is Status.PASSED and outcome.strict is Status.PASSED
    assert outcome.probes == ["late writes", "other numbers"]
    assert outcome.timing is not None
    assert outcome.timing.rotated == 2
    assert outcome.timing.verified is not None and outcome.timing.verified >= 3


def test_a_time_that_the_device_cannot_reach_is_no_time() -> None:
    h100 = profiles()["h100"]
    work = Work(flops=10**12, bytes=10**6)  # more than 1 ms at any data sheet's peak
    with pytest.raises(BelowFloor, match=r"below the 1\.01"):
        require_possible(0.5, work, "float16", h100)
    require_possible(2.0, work, "float16", h100)


def test_what_torch_wraps_when_it_imports_its_own_parts_late_is_no_trick(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    guard = Guard("cpu")
    seed = torch.manual_seed
    monkeypatch.setattr(torch, "manual_seed", torch._disable_dynamo(seed))
    assert guard.evidence() == ""
    monkeypatch.setattr(torch, "manual_seed", functools.wraps(seed)(lambda seed: None))
    assert "torch.manual_seed was replaced" in guard.evidence()
