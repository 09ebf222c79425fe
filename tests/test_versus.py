"""Ratios of interleaved times: how often the verdicts are right, on noise that is known."""

from __future__ import annotations

import random

import pytest

from mxbench import versus
from mxbench.versus import Ratio, Verdict


def blocks(rng, ratio, noise=0.01, count=30):
    """A and B with independent noise; the machine gets slower all the while."""
    return [
        (drift * rng.gauss(1, noise), drift * ratio * rng.gauss(1, noise))
        for drift in (1 + 0.01 * i for i in range(count))
    ]


def verdicts(ratio, times=40, **more):
    rng = random.Random(3)
    found = [versus.ratio(blocks(rng, ratio, **more)).verdict() for _ in range(times)]
    return {verdict: found.count(verdict) for verdict in Verdict}


def test_a_kernel_against_itself_is_mostly_undecided():
    assert verdicts(1.0)[Verdict.UNDECIDED] >= 36  # of 40; an interval of 95 % misses two


def test_three_per_cent_are_seen():
    assert verdicts(1.03)[Verdict.SLOWER] == 40
    assert verdicts(0.97)[Verdict.FASTER] == 40


def test_the_interval_holds_the_true_ratio_as_often_as_it_says():
    rng = random.Random(5)
    found = [versus.ratio(blocks(rng, 1.1, count=20)) for _ in range(60)]
    inside = sum(r.low <= 1.1 <= r.high for r in found)
    assert inside >= 53, "95 % of 60 are 57"


def test_single_disturbed_blocks_move_nothing():
    rng = random.Random(7)
    calm = blocks(rng, 1.0)
    disturbed = [(a, b * 5) if i in (3, 17, 28) else (a, b) for i, (a, b) in enumerate(calm)]
    assert versus.ratio(disturbed).ratio == pytest.approx(versus.ratio(calm).ratio, rel=0.005)
    assert versus.ratio(disturbed).verdict() is Verdict.UNDECIDED


def test_swapping_the_two_gives_the_reciprocal():
    found = blocks(random.Random(11), 1.2)
    one, other = versus.ratio(found), versus.ratio([(b, a) for a, b in found])
    assert other.ratio == pytest.approx(1 / one.ratio)
    assert (other.low, other.high) == pytest.approx((1 / one.high, 1 / one.low), rel=2e-3)


def test_the_geometric_mean_is_over_the_cases():
    rng = random.Random(13)
    found = versus.geometric_mean([blocks(rng, r, noise=1e-6) for r in (0.5, 2.0, 4.0)])
    assert found.ratio == pytest.approx(4 ** (1 / 3), rel=1e-4) and found.samples == 3


def test_times_without_spread_give_an_interval_of_no_width():
    found = versus.ratio([(1.0, 1.5)] * 6)
    assert (found.low, found.ratio, found.high) == pytest.approx((1.5, 1.5, 1.5))


def test_what_is_within_the_resolution_is_no_difference():
    found = Ratio(1.001, 1.0005, 1.0015, 30)
    assert found.verdict(0.002) is Verdict.UNDECIDED and found.verdict(0) is Verdict.SLOWER


def test_a_gate_asks_that_the_whole_interval_exceeds_the_tolerance():
    assert Ratio(1.03, 1.025, 1.04, 30).exceeds(0.02)
    assert not Ratio(1.03, 1.015, 1.05, 30).exceeds(0.02)


def test_one_block_is_no_sample():
    with pytest.raises(ValueError, match="two blocks"):
        versus.ratio([(1.0, 1.0)])
