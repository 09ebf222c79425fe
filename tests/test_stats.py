"""Statistics against hand counts and published tables."""

import math

import pytest

from mxbench.stats import covered, geometric_mean, quantile, spread, student_t95


def test_spread_of_known_samples():
    s = spread([4.0, 1.0, 3.0, 2.0, 5.0])
    assert (s.mean, s.median, s.min) == (3.0, 3.0, 1.0)
    assert s.std == pytest.approx(math.sqrt(2.5))
    half = 2.776 * math.sqrt(2.5) / math.sqrt(5)
    assert s.ci95 == pytest.approx((3 - half, 3 + half))
    assert (s.p10, s.p90) == pytest.approx((1.4, 4.6))
    assert s.outliers == 0


def test_a_sample_far_outside_the_quartiles_is_an_outlier():
    assert spread([1.0] * 5 + [1.1] * 5 + [9.0]).outliers == 1


def test_a_single_sample_has_no_spread():
    s = spread([2.0])
    assert (s.mean, s.std, s.ci95, s.outliers) == (2.0, 0.0, (2.0, 2.0), 0)


def test_no_samples_is_an_error():
    with pytest.raises(ValueError, match="no samples"):
        spread([])


@pytest.mark.parametrize(
    ("freedom", "value"), [(1, 12.706), (9, 2.262), (30, 2.042), (60, 2.000), (120, 1.980)]
)
def test_student_t_agrees_with_the_tables(freedom, value):
    assert student_t95(freedom) == pytest.approx(value, abs=3e-3)


def test_quantile_is_linear_between_neighbours():
    assert quantile([0.0, 10.0], 0.25) == 2.5


def test_geometric_mean():
    assert geometric_mean([1.0, 4.0]) == pytest.approx(2.0)
    with pytest.raises(ValueError, match="positive"):
        geometric_mean([1.0, 0.0])


def test_overlapping_intervals_are_counted_once():
    assert covered([]) == 0
    assert covered([(0, 2), (5, 6)]) == 3
    assert covered([(1, 4), (0, 2), (3, 3.5)]) == 4
