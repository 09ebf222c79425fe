"""Figures as text."""

from __future__ import annotations

import pytest

from mxbench.report import numbers
from mxbench.report.markdown import escape


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (18.3245, "18.32"),
        (9.99996, "10.00"),
        (163.6, "163.6"),
        (12345.6, "12350"),
        (0.0123456, "0.01235"),
        (0, "0"),
    ],
)
def test_significant_digits_without_exponent(value, text):
    assert numbers.significant(value) == text


def test_pass_rates_are_rounded_down():
    assert numbers.pass_rate(999, 1000) == "99.9 %"
    assert numbers.pass_rate(19999, 20000) == "99.9 %"
    assert numbers.pass_rate(57, 100) == "57.0 %"
    assert numbers.pass_rate(20000, 20000) == "100.0 %"
    assert numbers.pass_rate(0, 0) == "0.0 %"


def test_matched_is_100_only_for_all_elements():
    assert numbers.matched(1.0) == "100 %"
    assert numbers.matched(0.9999999) == "99.999 %"


def test_the_unit_suits_most_times():
    assert numbers.unit_of([0.01, 0.5, 20.0]).name == "µs"
    assert numbers.unit_of([0.01, 5.0, 20.0]).name == "ms"


def test_amounts_have_decimal_prefixes():
    assert numbers.amount(2.886e12, "FLOP") == "2.89 TFLOP"
    assert numbers.amount(75_533_312, "B") == "75.5 MB"
    assert numbers.amount(12, "B") == "12 B"


def test_text_from_outside_cannot_break_a_table():
    assert escape("a | b\n<c>") == "a \\| b &lt;c&gt;"
