from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from mxbench import workspace
from mxbench.case import Case, load_suite, override
from mxbench.device import DeviceInfo
from mxbench.record import Environment
from mxbench.runner.limits import default_timeout, reason_to_skip

GIB = 1 << 30


@pytest.fixture
def case() -> Case:
    return load_suite(workspace.find(), "mla", "functional").cases[0]


def device(kind: str = "cpu", free: int = 16 * GIB) -> DeviceInfo:
    env = Environment(python="3", torch="2", sms=1, memory=free, platform="Linux-x86_64")
    fields: dict[str, Any] = {"torch_device": "cpu", "arch": "", "schedules": "cpu", "sms": 1}
    return DeviceInfo(kind=kind, name="it", memory=free, free=free, env=env, **fields)  # type: ignore[arg-type]


def test_a_case_that_fits_is_run(case: Case) -> None:
    assert reason_to_skip(case, device(), 60) == ""


def test_a_case_larger_than_the_memory_is_skipped_with_both_figures(case: Case) -> None:
    big = override(case, {"batch": 512, "kv_ctx": 65536})
    reason = reason_to_skip(big, device("cuda", 32 * GIB), 300)
    assert reason.startswith("needs 40.") and "32.0 GiB free" in reason
    assert reason_to_skip(big, device("cuda", 64 * GIB), 300) == ""


def test_a_case_too_slow_for_a_cpu_is_skipped_unless_the_timeout_is_raised(case: Case) -> None:
    slow = override(case, {"heads": 128, "kv_ctx": 65536, "batch": 32})
    assert "raise --timeout" in reason_to_skip(slow, device(), 60)
    assert reason_to_skip(slow, device(), 600) == ""
    assert reason_to_skip(slow, device("cuda"), 60) == ""


def test_a_small_case_runs_in_little_memory(case: Case) -> None:
    small = replace(override(case, {"kv_ctx": 64}), name="small")
    assert reason_to_skip(small, device(free=GIB // 2), 60) == ""


def test_a_gpu_gets_more_time_than_a_cpu() -> None:
    assert default_timeout(device("cuda")) > default_timeout(device())


def test_device_info_survives_the_pipe() -> None:
    info = device()
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(info), type=DeviceInfo) == info
