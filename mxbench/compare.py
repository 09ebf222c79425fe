"""Outputs x golden -> Verdict. Pure, and bounded in memory: outputs are read in slabs of rows.

The order is inf and NaN positions first, then element by element (the official tolerance), then by
row and direction (the strict one). A row is the last axis: what one token and head put out.

The strict tolerance compares norms. Two kinds of row need care:

* A row much smaller than the others, such as a sum that cancels, has a larger relative error in
  any honest kernel, so a row counts as at least 1/8 of the typical (median) row. With a limit of
  0.3 % a row of zeros is still caught unless it should be smaller than 1/2600 of the typical row,
  and a doubled one too.
* A row that is exactly 0 in the golden says something (nothing selected, padding). It must be 0
  but for a few units of the smallest number, or it counts as wrong altogether.

Half an ulp is not small for a number below the dtype's normal range, so two smallest numbers an
element (rms) are free everywhere: four roundings, as of a kernel that keeps three branches and
their sum in the dtype.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from .ops.base import Contract, StrictTolerance, Tolerance
from .reference.base import Expected
from .verdict import Errors, Status, Verdict

SLAB_ELEMENTS = 1 << 22  # 16 MiB of fp32; about ten temporaries of that size live at once
FREE = 2  # smallest numbers of the dtype that an element may be off, rms
SMALL_ROW = 1 / 8  # of the typical row: what a smaller row counts as
ZERO_ROW = 1e-6  # of the typical row: how much a row that should be 0 may hold
LARGEST = torch.finfo(torch.float32).max

_SEVERITY = (Status.PASSED, Status.MISMATCH, Status.NON_FINITE)


def judge(
    contract: Contract,
    tolerance: Tolerance,
    strict: StrictTolerance,
    outputs: dict[str, torch.Tensor],
    expected: Expected,
) -> Verdict:
    """The verdict on a kernel's outputs, each of the golden's shape and on its device.

    Both tolerances hold for every output by itself; the figures are the worst of all outputs.
    An invalid choice (`expected.problem`) is a mismatch however well the rest agrees.
    """
    found = [
        _compare(name, outputs[name], golden, tolerance, strict, contract.row_axes[name])
        for name, golden in expected.tensors.items()
    ]
    if not found:
        raise ValueError(f"no golden for any of the outputs {', '.join(contract.outputs)}")
    floor = Status.MISMATCH if expected.problem else Status.PASSED
    status = max([floor, *(one.status for one in found)], key=_SEVERITY.index)
    strictly = max([floor, *(one.strict for one in found)], key=_SEVERITY.index)
    worst = max(found, key=_Compared.rank)
    reasons = [text for text in (expected.problem, worst.reason) if text]
    return Verdict(
        status=status, strict=strictly, errors=_errors(found, worst), reason="; ".join(reasons)
    )


@dataclass(frozen=True)
class _Compared:
    """One output against its golden."""

    name: str
    status: Status
    strict: Status
    reason: str
    excess: float
    """Largest |out - golden| in units of what the official tolerance allows there."""
    max_abs: float
    max_rel: float
    rms_ratio: float
    row_ratio: float
    cos_diff: float
    matched: float
    index: list[int]
    value: float
    golden: float

    def rank(self) -> tuple[int, int, float]:
        """What decides a verdict ranks highest."""
        return _SEVERITY.index(self.status), _SEVERITY.index(self.strict), self.excess


def _errors(found: list[_Compared], worst: _Compared) -> Errors:
    def most(figure: str) -> float:
        # JSON has no infinity, which fp32 arithmetic on bf16's largest numbers can reach.
        return min(max(getattr(one, figure) for one in found), LARGEST)

    return Errors(
        max_abs=most("max_abs"),
        max_rel=most("max_rel"),
        rms_ratio=most("rms_ratio"),
        worst_row_rms_ratio=most("row_ratio"),
        cos_diff=most("cos_diff"),
        matched=min(one.matched for one in found),
        worst_index=worst.index,
        worst_output=worst.name,
        worst_value=worst.value if math.isfinite(worst.value) else None,
        worst_expected=worst.golden if math.isfinite(worst.golden) else None,
    )


class _Sums:
    """What one pass over an output, slab by slab, collects."""

    def __init__(self, out: torch.Tensor, golden: torch.Tensor, tolerance: Tolerance) -> None:
        """out, golden: [rows, columns]."""
        rows, columns = out.shape
        self.max_abs = self.max_rel = self.out2 = 0.0
        self.mismatched = self.non_finite = 0
        self.worst, self.excess = 0, -1.0  # flat index, and error over tolerance there
        self.first_bad = -1  # flat index of the first NaN or inf that the golden does not share
        self.row_error = torch.zeros(rows, dtype=torch.float64, device=out.device)  # norms
        self.row_golden = torch.zeros_like(self.row_error)
        step = max(1, SLAB_ELEMENTS // columns)
        for start in range(0, rows, step):
            part = slice(start, start + step)
            self._add(out[part], golden[part], part, tolerance)

    def _add(
        self, out: torch.Tensor, golden: torch.Tensor, part: slice, tolerance: Tolerance
    ) -> None:
        first = part.start * out.shape[1]  # flat index of the slab's first element
        golden = golden if golden.is_floating_point() else golden.double()
        out = out.to(golden.dtype)
        bad = ~(out.isfinite() & golden.isfinite())
        if bad.any():
            agree = (out == golden) | (out.isnan() & golden.isnan())  # equal infinities compare so
            wrong = bad & ~agree
            self.non_finite += int(wrong.sum())
            if self.first_bad < 0 and wrong.any():
                self.first_bad = first + int(wrong.flatten().byte().argmax())
            self.mismatched += int(wrong.sum())
            out = out.masked_fill(~(out.isfinite() & golden.isfinite()), 0)
            golden = golden.masked_fill(~golden.isfinite(), 0)
        error, size = (out - golden).abs_(), golden.abs()
        allowed = size * tolerance.rtol + tolerance.atol
        over = torch.where(error == 0, 0, error / allowed)  # 0 / 0 is no error
        self.mismatched += int(((over > 1) & ~bad).sum())
        excess, at = over.flatten().max(0)
        if float(excess) > self.excess:
            self.excess, self.worst = float(excess), first + int(at)
        self.max_abs = max(self.max_abs, float(error.max()))
        self.out2 += float(_norm(out.flatten())) ** 2
        self.row_error[part] = _norm(error)
        self.row_golden[part] = _norm(golden)
        row_rms = self.row_golden[part].unsqueeze(1) / math.sqrt(out.shape[1])
        relative = torch.where((size >= row_rms) & (size > 0), error / size, 0)
        self.max_rel = max(self.max_rel, float(relative.max()))


def _norm(x: torch.Tensor) -> torch.Tensor:
    """Euclidean norms of the last axis in fp64: fp32 squares overflow from 1.8e19 on."""
    return torch.linalg.vector_norm(x, dim=-1, dtype=torch.float64)


def _row_ratios(
    error: torch.Tensor, golden: torch.Tensor, columns: int, free: float
) -> torch.Tensor:
    """Relative error of every row, [rows], from the norms of errors and goldens, [rows] each.

    free: error an element that does not count. The module's docstring says how small rows count.
    """
    nonzero = golden[golden > 0]
    typical = nonzero.median() if len(nonzero) else golden.new_zeros(())
    error = (error.square() - free**2 * columns).clamp_(min=0).sqrt_()
    ratio = error / golden.clamp(min=typical * SMALL_ROW)
    return torch.where(golden > 0, ratio, (error > ZERO_ROW * typical).to(ratio.dtype))


def _whole_ratio(sums: _Sums, elements: int, free: float) -> float:
    """||out - golden|| / ||golden||; 0 or 1 where the whole golden is 0."""
    error = math.sqrt(max(0.0, float(_norm(sums.row_error)) ** 2 - free**2 * elements))
    golden = float(_norm(sums.row_golden))
    return error / golden if golden else float(error > 0)


def _compare(
    name: str,
    out: torch.Tensor,
    golden: torch.Tensor,
    tolerance: Tolerance,
    strict: StrictTolerance,
    axes: tuple[str, ...],
) -> _Compared:
    """One output against its golden; axes: their names."""
    if out.shape != golden.shape:
        raise ValueError(f"{name} is {tuple(out.shape)}, its golden {tuple(golden.shape)}")
    columns = out.shape[-1]
    out_rows, golden_rows = out.reshape(-1, columns), golden.reshape(-1, columns)
    sums = _Sums(out_rows, golden_rows, tolerance)
    free = FREE * _smallest(out.dtype)
    ratios = _row_ratios(sums.row_error, sums.row_golden, columns, free)
    row, row_ratio = int(ratios.argmax()), float(ratios.max())
    rms_ratio = _whole_ratio(sums, out.numel(), free)
    # What is shown is the error as it is, without the smallest numbers that the verdict forgives.
    shown_row_ratio = float(_row_ratios(sums.row_error, sums.row_golden, columns, 0.0).max())
    wrong = sums.mismatched / out.numel()

    status, strictly, fault = _faults(name, sums, rms_ratio, row_ratio, wrong, tolerance, strict)
    at = sums.worst
    if status is Status.NON_FINITE:
        at = sums.first_bad
    elif status is Status.PASSED and strictly is Status.MISMATCH:
        at = row * columns + _largest_error(out_rows[row], golden_rows[row])
    index = [int(i) for i in torch.unravel_index(torch.tensor(at), out.shape)]
    value, wanted = float(out[tuple(index)]), float(golden[tuple(index)])
    place = ", ".join(f"{axis} {i}" for axis, i in zip(axes, index, strict=True))
    return _Compared(
        name=name,
        status=status,
        strict=strictly,
        reason=f"{name}[{place}] is {value:.6g} instead of {wanted:.6g}; {fault}" if fault else "",
        excess=sums.excess,
        max_abs=sums.max_abs,
        max_rel=sums.max_rel,
        rms_ratio=_whole_ratio(sums, out.numel(), 0.0),
        row_ratio=shown_row_ratio,
        cos_diff=_cos_diff(sums),
        matched=1 - wrong,
        index=index,
        value=value,
        golden=wanted,
    )


def _faults(
    name: str,
    sums: _Sums,
    rms_ratio: float,
    row_ratio: float,
    wrong: float,
    tolerance: Tolerance,
    strict: StrictTolerance,
) -> tuple[Status, Status, str]:
    """The official and the strict status, and the worst fault in words ("" for none)."""
    if sums.non_finite:
        fault = f"{sums.non_finite} elements of {name} are NaN or infinite, or should be"
        return Status.NON_FINITE, Status.NON_FINITE, fault
    status = strictly = Status.PASSED
    fault = ""
    if row_ratio > strict.row_rms_ratio or rms_ratio > strict.rms_ratio:
        strictly = Status.MISMATCH
        fault = (
            f"strict: rms error {rms_ratio:.2%} of {name} (limit {strict.rms_ratio:.2%}), "
            f"{row_ratio:.2%} of its worst row (limit {strict.row_rms_ratio:.2%})"
        )
    if wrong > tolerance.max_mismatched_ratio:
        status = Status.MISMATCH
        fault = (
            f"{wrong:.2%} of {name} is out of tolerance "
            f"(atol {tolerance.atol:g}, rtol {tolerance.rtol:g})"
        )
    return status, strictly, fault


def _largest_error(out: torch.Tensor, golden: torch.Tensor) -> int:
    """Where two rows, [columns] each, differ most; shared infinities differ by nothing."""
    return int((out.double() - golden.double()).nan_to_num(nan=0).abs().argmax())


def _cos_diff(sums: _Sums) -> float:
    """1 - 2 <out, golden> / (|out|^2 + |golden|^2) = |out - golden|^2 / (the same).

    The right-hand side does not cancel.
    """
    error2, golden2 = (float(_norm(x)) ** 2 for x in (sums.row_error, sums.row_golden))
    return error2 / (sums.out2 + golden2) if error2 else 0.0


def _smallest(dtype: torch.dtype) -> float:
    """The smallest positive number of a dtype: 6e-8 in fp16, 9e-41 in bf16, 1e-45 in fp32."""
    if not dtype.is_floating_point:
        return 0.0
    limits = torch.finfo(dtype)
    return limits.smallest_normal * limits.eps
