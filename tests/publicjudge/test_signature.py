"""Which operator a problem's shapes are."""

from __future__ import annotations

import pytest

from mxbench.errors import MxbenchError
from mxbench.publicjudge.messages import points
from mxbench.publicjudge.signature import MOE_DRAFT, recognise, signature_of

MLA = [(2, 16, 512), (2, 16, 64), (2, 70, 1, 512), (2, 70, 1, 64), (2, 16, 512), *[()] * 6]
NSA = [(1, 64, 16, 32), (1, 64, 2, 32), (1, 64, 2, 32), (1, 64, 2, 4), (1, 64, 16, 32), *[()] * 8]
MOE = [(512, 64), (4, 32, 64), (4, 32, 64), (4, 64, 32), (300,), (4,), (4,), (4,), (7,), (512, 64)]


def test_each_operator_is_known_by_its_shapes():
    assert recognise(MLA).params == {
        "batch": 2, "kv_ctx": 70, "heads": 16, "kv_heads": 1, "dim": 512, "pe_dim": 64,
    }  # fmt: skip
    assert recognise(NSA).signature.op == "nsa" and "block_size" not in recognise(NSA).params
    values = [None] * 11 + [16, 1]
    assert recognise(NSA, values).params["block_size"] == 16
    assert recognise(NSA, values).params["causal"] is True
    assert recognise(MOE).params["layout"] == "padded" and recognise(MOE).params["group_sum"] == 300


def test_the_draft_of_moe_with_a_workspace_is_known_too():
    compact = [(300, 64), *MOE[1:9], (300, 32), (300, 64), *[()] * 5]
    known = recognise(compact)
    assert known.signature is MOE_DRAFT and known.params["layout"] == "compact"


@pytest.mark.parametrize(
    "sizes",
    [
        MLA[:-1],
        [(2, 16, 512), (2, 16, 64), (2, 70, 1, 512), (2, 71, 1, 64), (2, 16, 512), *[()] * 6],
        [*NSA[:4], (1, 64, 8, 32), *[()] * 8],
        [*MOE[:3], (4, 64, 33), *MOE[4:]],
        [],
        [(), (), ()],
    ],
)
def test_shapes_that_do_not_fit_together_are_nobody_s(sizes):
    assert recognise(sizes) is None


def test_points_are_50_at_the_baseline_s_speed_and_grow_with_it():
    assert points(2.0, 2.0) == 50
    assert points(1.0, 3.0) == pytest.approx(75) and points(3.0, 1.0) == pytest.approx(25)


def test_an_operator_without_a_signature_comes_with_the_nearest():
    with pytest.raises(MxbenchError) as caught:
        signature_of("mlaa")
    assert "'mla'" in caught.value.hint
