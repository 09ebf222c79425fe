"""Journals made up for the tests: every figure follows from the case, none from a machine."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec

from mxbench import workspace
from mxbench.case import Case, load_suite
from mxbench.measurement import Timing
from mxbench.ops.base import Work
from mxbench.record import Environment, Record, case_fields
from mxbench.roofline import Peaks, Rates, bound
from mxbench.rules import load as load_rule
from mxbench.verdict import Errors, Status

HERE = workspace.bundled()
H100, CPU = "NVIDIA H100 80GB HBM3", "Intel(R) Xeon(R) Platinum 8480+"
PEAKS = Peaks(
    rates=Rates(tflops={"float16": 756.0, "bfloat16": 756.0}, gbps=3010.0),
    source="profile h100, measured elsewhere",
)
GPU_ENV = Environment(
    mxbench="0.1.0", python="3.11.7", torch="2.11.0+cu130", tilelang="0.1.15", cuda="13.0",
    arch="sm_90a", sms=132, memory=85 << 30, platform="Linux-x86_64",
)  # fmt: skip
CPU_ENV = Environment(
    mxbench="0.1.0", python="3.11.7", torch="2.13.0+cpu", tilelang="0.1.15", arch="x86_64",
    sms=2, memory=8 << 30, platform="Linux-x86_64",
)  # fmt: skip
ERRORS = Errors(
    max_abs=3.1e-5, max_rel=2e-3, rms_ratio=2.3e-4, worst_row_rms_ratio=3.4e-4, cos_diff=4.1e-8,
    matched=1.0, worst_index=[0, 3, 17],
)  # fmt: skip
BAD = msgspec.structs.replace(ERRORS, max_abs=0.25, rms_ratio=0.11, matched=0.97512)


def cases(op: str, suite: str) -> list[Case]:
    return list(load_suite(HERE, op, suite).cases)


def record(case: Case, kernel: str = "portable", device: str = H100, **changes: object) -> Record:
    """A passed verdict, as `check` writes it."""
    fields = {
        "schema": 1, "run": "20250101-000000-aaaa", **case_fields(case), "kernel": kernel,
        "kernel_sha": f"{kernel[:4]:0<16}", "target": "cpu" if device == CPU else "cuda",
        "device": device, "status": Status.PASSED, "strict": Status.PASSED, "errors": ERRORS,
        "env": CPU_ENV if device == CPU else GPU_ENV,
    }  # fmt: skip
    return Record(**{**fields, **changes})


def failed(case: Case, reason: str, kernel: str = "portable", **changes: object) -> Record:
    verdict = {"status": Status.MISMATCH, "strict": Status.MISMATCH, "errors": BAD}
    return record(case, kernel, reason=reason, **{**verdict, **changes})


def skipped(case: Case, reason: str, kernel: str = "portable", **changes: object) -> Record:
    verdict = {"status": Status.SKIPPED, "strict": None, "errors": None}
    return record(case, kernel, reason=reason, **{**verdict, **changes})


def timed(
    case: Case, mean: float, kernel: str = "portable", rule: str = "xh-202608", **changes: object
) -> Record:
    """A GPU timing of `mean` milliseconds with a spread of 1 %, as `perf` writes it."""
    counts = load_rule(HERE, rule).counts_for(case)
    per_call = mean + 0.002
    timing = Timing(
        mode="eager", warmup=counts.warmup, repeat=counts.repeat, mean=mean, median=per_call,
        p10=per_call * 0.99, p90=per_call * 1.01, min=per_call * 0.98, std=per_call * 0.01,
        ci95=(per_call * 0.998, per_call * 1.002), outliers=1, per_call_mean=per_call,
        host=mean * 1.001, graph=mean * 0.97, kernel_only=mean * 0.95, cold_l2=per_call * 1.05,
        launch=0.008, first_call=mean * 3,
    )  # fmt: skip
    timing = changes.pop("timing", timing)
    work = Work(case.work.flops, case.work.bytes)
    fields = {"timing": timing, "rule": rule, "bound": bound(work, case.dtype, timing.mean, PEAKS)}
    return record(case, kernel, **{**fields, **changes})


def plausible(case: Case, kernel: str, rng: random.Random) -> Record:
    """A timing near the floor for large cases and far from it for small ones."""
    floor = bound(case.work, case.dtype, 1.0, PEAKS).floor
    slower = rng.uniform(1.5, 5.0) if kernel == "baseline" else 1.0
    mean = (floor / rng.uniform(0.7, 0.95) + 0.006) * slower
    return timed(case, mean, kernel, schedule={"main": {"block_N": 64, "threads": 128}})


def write(path: Path, *records: Record) -> Path:
    """A journal of these records, in this order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(msgspec.json.encode(r) + b"\n" for r in records))
    return path


def whole_h100() -> list[Record]:
    """Both kernels on all functional and performance suites; nsa functional timed too."""
    rng = random.Random(7)
    found = []
    for op in ("moe", "mla", "nsa"):
        for kernel in ("baseline", "portable"):
            found += [record(case, kernel) for case in cases(op, "functional")]
            suites = ("functional", "performance") if op == "nsa" else ("performance",)
            for suite in suites:
                found += [plausible(case, kernel, rng) for case in cases(op, suite)]
    return found
