"""Negated inputs negate `out`, for every contract, and negating twice restores every bit."""

from __future__ import annotations

import pytest
import torch

from mxbench import mutants, reference, workspace
from mxbench.case import Case, load_suite
from mxbench.reference import mirror

HERE = workspace.bundled()


def first(op: str, contract: str) -> Case:
    return next(c for c in load_suite(HERE, op, "smoke").cases if c.contract == contract)


@pytest.mark.parametrize(
    ("op", "contract"),
    [
        ("moe", "routed"),
        ("moe", "layer"),
        ("mla", "dense"),
        ("mla", "paged"),
        ("nsa", "selected"),
        ("nsa", "full"),
    ],
)
def test_out_is_odd_in_the_mirrored_inputs(op: str, contract: str) -> None:
    case = first(op, contract)
    subject = mutants.subject(case, "cpu")  # with a valid choice of blocks for nsa full
    inputs, spec = subject.inputs, case.spec
    before = {n: t.clone() for n, t in inputs.items() if isinstance(t, torch.Tensor)}
    copy = mirror.mirrored(spec, inputs)
    golden = reference.expected(case, copy, subject.outputs)
    assert golden.problem is None
    assert torch.equal(golden.tensors["out"], -subject.golden)
    mirror.flip(spec, inputs)
    for name in mirror.negated(spec):
        assert torch.equal(inputs[name].nan_to_num(7), copy[name].nan_to_num(7))
    mirror.flip(spec, inputs)
    for name, tensor in before.items():
        assert torch.equal(tensor.view(torch.uint8), inputs[name].view(torch.uint8)), name
