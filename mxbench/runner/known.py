"""A problem's case as one of mxbench's own: its golden, its strict verdict, its floor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import torch

from .. import compare, reference
from ..case import Case
from ..ops import contract
from ..ops.base import DTYPES, Tolerance
from ..publicjudge.messages import KnownCase
from ..publicjudge.signature import recognise
from ..verdict import Verdict

AGREES = 0.02
"""Rms error up to which a problem's baseline counts as the operator that its shapes suggest."""


@dataclass
class Recognised:
    """The case, and where the contract's arguments are among the judge's."""

    case: Case
    inputs: dict[str, Any]
    """Contract argument -> the tensor as drawn."""
    out: int
    """Which of the judge's arguments is the output."""

    @property
    def summary(self) -> KnownCase:
        params: dict[str, Any] = msgspec.to_builtins(self.case.params)
        return KnownCase(
            op=self.case.op, contract=self.case.contract, params=params, dtype=self.case.dtype
        )

    def golden(self) -> reference.Expected:
        """Of the inputs as they are now."""
        return reference.expected(self.case, self.inputs, {}, "fp32")

    def verdict(self, result: torch.Tensor, golden: reference.Expected) -> Verdict:
        """Of an output. Its official part says nothing: the problem's own check decides that."""
        limits = self.case.spec.strict(self.case.params, self.case.dtype)
        return compare.judge(self.case.spec, self.case.tolerance, limits, {"out": result}, golden)

    def why_other(self, baseline: torch.Tensor, golden: reference.Expected) -> str:
        """Why the problem is another operator in spite of its shapes; empty if it is not."""
        errors = self.verdict(baseline, golden).errors
        if errors is not None and errors.rms_ratio <= AGREES:
            return ""
        off = "" if errors is None else f" (rms error {errors.rms_ratio:.1%})"
        return (
            f"shaped like {self.case.op}, but the problem's baseline is not mxbench's golden{off}: "
            "no strict verdict"
        )


def look(shapes: list[tuple[int, ...]], drawn: list[Any]) -> Recognised | str:
    """What a call is; in words why it is nothing that mxbench knows, or an empty string."""
    known = recognise(shapes, drawn)
    if known is None:
        return ""
    signature = known.signature
    spec = contract(signature.op, signature.contract)
    tensors = dict(zip(signature.arguments, drawn, strict=True))
    inputs = {mine: tensors[theirs] for mine, theirs in signature.tensors.items()}
    out = signature.arguments.index(signature.tensors["out"])
    dtype = str(drawn[out].dtype).removeprefix("torch.")
    if dtype not in DTYPES:
        return f"shaped like {signature.op}, but in {dtype}: no strict verdict"
    try:
        params = msgspec.convert(known.params, spec.params)
    except msgspec.ValidationError as error:
        return f"shaped like {signature.op}, but {error}: no strict verdict"
    case = Case(
        op=signature.op,
        suite="problem",
        name="case",
        contract=signature.contract,
        params=params,
        dtype="float16" if dtype == "float16" else "bfloat16",
        seed=0,
        recipe=spec.recipe(),
        tolerance=Tolerance(atol=0.01, rtol=0.01),
    )
    return Recognised(case, {**inputs, **_options(case)}, out)


def _options(case: Case) -> dict[str, Any]:
    params = case.params
    values = {
        "softmax_scale": getattr(params, "scale", None),
        "block_size": getattr(params, "block_size", None),
        "causal": getattr(params, "causal", None),
    }
    return {name: values[name] for name in case.spec.options}
