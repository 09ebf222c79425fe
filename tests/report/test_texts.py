"""Both languages say the same, and nothing in the code asks for a phrase that is not there."""

from __future__ import annotations

import re
from pathlib import Path
from string import Formatter

import pytest

from mxbench import report, rules
from mxbench.report import texts
from mxbench.report.texts import PHRASES, Texts, performance

from . import synthetic as s

MODULES = (
    texts.analysis, texts.charts, texts.common, texts.design, texts.functional, texts.performance,
    texts.slides,
)  # fmt: skip
CODE = [p.read_text() for p in Path(report.__file__).parent.glob("*.py")]


def places(phrase):
    return {field for _, field, _, _ in Formatter().parse(phrase) if field}


@pytest.mark.parametrize("key", PHRASES)
def test_both_languages_have_the_same_places(key):
    chinese, english = PHRASES[key]
    assert places(chinese) == places(english)
    assert english.isascii() or not re.search(r"[一-鿿]", english)


def test_no_phrase_stands_in_two_modules():
    assert sum(len(module.PHRASES) for module in MODULES) == len(PHRASES)


def test_every_phrase_is_used():
    code = "\n".join(CODE) + Path(texts.__file__).read_text()
    made = ("env_", "axis_", "is_", "limit_", "aggregate_", "chart_", "clock_", "caption_", "same_",
            "design_", "res_", "page_", "slides_problem_")  # fmt: skip
    asked = set(re.findall(r"""["'](\w+)["']""", code))
    assert {key for key in PHRASES if not key.startswith(made)} <= asked


def test_every_phrase_the_code_names_exists():
    asked = {key for code in CODE for key in re.findall(r'\bt\(\s*"(\w+)"', code)}
    assert asked
    assert asked <= set(PHRASES)


def test_the_open_points_of_every_rule_are_translated():
    for name in rules.names(s.HERE):
        for point in rules.load(s.HERE, name).ambiguities:
            assert Texts("zh").ambiguity(point) != point
            assert Texts("en").ambiguity(point) == point
    known = {p for name in rules.names(s.HERE) for p in rules.load(s.HERE, name).ambiguities}
    assert set(performance.AMBIGUITIES) == known


@pytest.mark.parametrize(
    ("source", "chinese"),
    [
        ("measured on this device (x 1 TFLOP/s, 2 GB/s)", "本设备实测（x 1 TFLOP/s, 2 GB/s）"),
        ("profile h100, measured elsewhere", "档案 h100（他处实测）"),
        ("profile c500, data sheet", "档案 c500（数据手册）"),
        ("a friend's word", "a friend's word"),
    ],
)
def test_where_peaks_come_from_is_translated(source, chinese):
    assert Texts("zh").peaks(source) == chinese
    assert Texts("en").peaks(source) == source
