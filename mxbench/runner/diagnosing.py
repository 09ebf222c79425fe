"""Tests a case's tolerances in the worker: mutants must be caught, honest results must pass."""

from __future__ import annotations

import torch

from .. import compare, mutants
from ..case import Case
from ..device import DeviceInfo
from ..diagnosis import Diagnosis, Finding, Honest
from ..reference.base import Expected
from ..verdict import Status, Verdict

SAME = 1e-6  # relative difference that the order of fp32 sums alone may bring


def diagnose(case: Case, device: DeviceInfo, honest: int) -> Diagnosis:
    """All mutants and `honest` right results of a case, against both of its tolerances."""
    subject = mutants.subject(case, device.torch_device)
    golden = Expected({"out": subject.golden})
    limits = case.spec.strict(case.params, case.dtype)
    half = subject.outputs["out"].dtype

    def verdict(out: torch.Tensor) -> Verdict:
        return compare.judge(case.spec, case.tolerance, limits, {"out": out.to(half)}, golden)

    findings, unchanged = [], []
    nothing = SAME * float(subject.golden.abs().max())
    for one in mutants.mutants(subject):
        out = one.make()
        if float((out - subject.golden).abs().max()) <= nothing:
            unchanged.append(one.name)
        else:
            findings.append(_finding(one.name, verdict(out)))
    right = [verdict(mutants.honest(subject, seed)) for seed in range(honest)]
    return Diagnosis(
        findings=findings,
        unchanged=unchanged,
        honest=_honest(right) if right else None,
        rms_limit=limits.rms_ratio,
        row_limit=limits.row_rms_ratio,
    )


def _finding(mistake: str, verdict: Verdict) -> Finding:
    assert verdict.errors is not None
    return Finding(
        mistake=mistake,
        official=verdict.status is not Status.PASSED,
        strict=verdict.strict is not Status.PASSED,
        rms=verdict.errors.rms_ratio,
        row=verdict.errors.worst_row_rms_ratio,
    )


def _honest(verdicts: list[Verdict]) -> Honest:
    errors = [v.errors for v in verdicts if v.errors is not None]
    return Honest(
        tried=len(verdicts),
        official=sum(v.status is Status.PASSED for v in verdicts),
        strict=sum(v.strict is Status.PASSED for v in verdicts),
        rms=max(e.rms_ratio for e in errors),
        row=max(e.worst_row_rms_ratio for e in errors),
    )
