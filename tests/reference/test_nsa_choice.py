"""Importances of blocks, and which choices of `full` are accepted."""

from __future__ import annotations

import pytest
import torch

from mxbench.reference import make_inputs
from mxbench.reference.nsa_choice import importance

from .plain_nsa import CPU, case, full_sizes, golden, plain_full, plain_importance


def test_importance_weights_of_the_papers_sizes():
    params = full_sizes(block_size=64, cmp_kernel=32, cmp_stride=16, seqlen=192)
    windows = torch.eye(params.windows, dtype=torch.float64).unsqueeze(1)  # [windows, 1, windows]
    weights = importance(windows, params)  # [windows, blocks]
    assert weights[:, 1].tolist() == [0, 0, 0, 1, 2, 2, 2, 1, 0, 0, 0]
    assert weights[:, 0].tolist() == [2, 2, 2, 1, 0, 0, 0, 0, 0, 0, 0]


@pytest.fixture(scope="module")
def plain_case():
    some = case(full_sizes())
    inputs = make_inputs(some, CPU)
    weights, _ = plain_importance(some.params, inputs, 0, 70, 1)
    return some, plain_full(some.params, inputs)[1], weights


@pytest.fixture
def choice(plain_case):
    """A case, its inputs, a correct choice, and the importances of token 70, KV head 1."""
    some, chosen, weights = plain_case
    return some, make_inputs(some, CPU), chosen.clone(), weights


def test_choice_in_any_order_is_accepted(choice):
    some, inputs, chosen, _ = choice
    assert golden(some, inputs, chosen=chosen.flip(-1)).problem is None


def test_choice_of_less_important_block_is_rejected_with_both_importances(choice):
    some, inputs, chosen, weights = choice
    best = int(chosen[0, 70, 1, 3])
    worst = min(range(1, 7), key=lambda j: weights[j])
    chosen[0, 70, 1, 3] = worst
    problem = golden(some, inputs, chosen=chosen).problem
    assert problem == (
        f"chosen[batch 0, token 70, KV head 1] has block {worst} of importance "
        f"{weights[worst]:.6g} instead of block {best} of importance {weights[best]:.6g}"
    )


def test_choice_that_leaves_out_the_best_for_the_runner_up_is_rejected():
    """All it chose is near the k-th best; still it misses a block that is far above."""
    some = case(full_sizes(top_k=5, kv_heads=1, q_heads=2))
    inputs = make_inputs(some, CPU)
    chosen = plain_full(some.params, inputs)[1]
    weights, _ = plain_importance(some.params, inputs, 0, 70, 0)
    order = sorted(range(1, 7), key=lambda j: -weights[j])
    assert weights[order[0]] > 1.05 * weights[order[2]]
    chosen[0, 70, 0, 3:] = torch.tensor(order[1:3])
    assert f"instead of block {order[0]}" in golden(some, inputs, chosen=chosen).problem


def test_choice_between_near_ties_is_accepted(choice):
    some, inputs, chosen, _ = choice
    inputs["q"][0, 70].zero_()  # all windows weigh the same, so all inner blocks tie
    chosen[0, 70, 1, 3] = 2
    assert golden(some, inputs, chosen=chosen).problem is None
    chosen[0, 70, 1, 3] = 5
    assert golden(some, inputs, chosen=chosen).problem is None


@pytest.mark.parametrize(
    "place, value, words",
    [
        ((0, 70, 1, 3), 2**30, "token 70, KV head 1] holds 1073741824, neither -1 nor one of"),
        ((0, 70, 1, 3), -2, "holds -2, neither"),
        ((0, 20, 0, 3), 3, "token 20, KV head 0] holds 3, neither -1 nor one of the blocks 0 to 2"),
        ((0, 70, 1, 3), 8, "names block 8 twice"),
        ((0, 70, 1, 0), 5, "lacks block 0, which is always chosen"),
        ((0, 70, 1, 1), 5, "lacks block 7, which is always chosen"),
        ((0, 70, 1, 2), 5, "lacks block 8, which is always chosen"),
        ((0, 70, 1, 3), -1, "has 3 blocks instead of 4"),
    ],
)
def test_invalid_choice_is_named(choice, place, value, words):
    some, inputs, chosen, _ = choice
    if value == 5 and 5 in chosen[place[:3]].tolist():
        value = 4  # a second fault would be named instead
    chosen[place] = value
    assert words in golden(some, inputs, chosen=chosen).problem


def test_attention_is_judged_under_the_kernels_own_choice(choice):
    some, inputs, chosen, weights = choice
    right = golden(some, inputs, chosen=chosen).tensors["out"]
    chosen[0, 70, 1, 3] = min(range(1, 7), key=lambda j: weights[j])
    other = golden(some, inputs, chosen=chosen).tensors["out"]
    changed = (right != other).any(-1).nonzero().tolist()
    assert changed == [[0, 70, 2], [0, 70, 3]]
