"""The analysis says what the figures say, names the cases, and says nothing without figures."""

from __future__ import annotations

import msgspec
import pytest

from mxbench.report import analysis, measured
from mxbench.report.texts import Texts

from . import synthetic as s

MLA = s.cases("mla", "performance")
MOE = s.cases("moe", "performance")


@pytest.fixture
def analyse(pages):
    def run(*records, language="en"):
        context = pages.context(*records)
        found = measured.timings(context.device, context.catalog)
        (key,) = [k for k in found.by_key if k[2] == "portable"]
        return analysis.paragraph(found.by_key[key], Texts(language), True)

    return run


def changed(record, **fields):
    return msgspec.structs.replace(record, timing=msgspec.structs.replace(record.timing, **fields))


def at_share(case, share):
    floor = s.bound(case.work, case.dtype, 1.0, s.PEAKS).floor
    return s.timed(case, floor / share)


def test_it_says_what_limits_which_sizes(analyse):
    text = analyse(*[at_share(c, 0.5) for c in MLA if c.params.batch == 1])
    assert "Limited by memory: 4 of 6 (kv_ctx 8192–65536; 9.47 MB–75.5 MB moved)" in text
    assert "only the launch limits them: 2 of 6 (kv_ctx 2048–4096" in text
    assert "compute" not in text
    assert "Limited by compute: 2 of 2 " in analyse(*[at_share(c, 0.5) for c in MOE])


def test_it_names_the_closest_and_the_farthest_from_the_floor(analyse):
    cases = [c for c in MLA if c.params.batch == 8]
    shares = [0.31, 0.52, 0.73, 0.84, 0.95]
    text = analyse(*[at_share(c, share) for c, share in zip(cases, shares, strict=True)])
    assert f"Closest to its floor is `{cases[4].name}`" in text
    assert "(95.0 %)" in text
    farthest = text.split("Farthest")[1].split(". ")[0]
    assert [c.name in farthest for c in cases] == [True, True, True, False, False]


def test_it_compares_small_and_large_cases_if_there_are_enough(analyse):
    shares = {c.name: 0.2 if c.params.kv_ctx <= 2048 else 0.8 for c in MLA}
    text = analyse(*[at_share(c, shares[c.name]) for c in MLA])
    assert "80.0 % in the largest third" in text
    assert "largest third" not in analyse(*[at_share(c, 0.5) for c in MLA[:5]])


def test_faster_than_the_memory_floor_is_explained(analyse):
    text = analyse(*[at_share(c, 1.25) for c in MLA[-2:]])
    assert "Faster than the floor: 2 of 2. The floor stands on rates (profile h100" in text


def test_a_large_spread_is_named_with_its_interval(analyse):
    wide = changed(s.timed(MOE[0], 18.0), std=3.6, per_call_mean=18.0, ci95=(17.3, 18.7))
    text = analyse(wide, s.timed(MOE[1], 2.4))
    assert "Standard deviation above 5 % of the mean: 1 of 2" in text
    assert f"`{MOE[0].name}` (20.0 %, interval 17.30 ms to 18.70 ms)" in text


def test_a_small_spread_is_said_to_be_small(analyse):
    assert "no standard deviation exceeds 5 % of its mean (largest 1.0 %" in analyse(
        s.timed(MOE[0], 18.0)
    )


def test_host_bound_calls_and_what_a_graph_gains(analyse):
    slow = changed(s.timed(MLA[0], 0.020), launch=0.0195, graph=0.010)
    text = analyse(slow, changed(s.timed(MLA[5], 0.030), graph=0.0295))
    assert "Launch cost of 90 % of the mean or more: 1 of 2;" in text
    assert f"or more: 1 of 2, most in `{MLA[0].name}`, from 20.00 µs to 10.00 µs" in text


def test_a_cold_l2_that_matters(analyse):
    warm = changed(s.timed(MLA[0], 0.020), median=0.021, cold_l2=0.042)
    text = analyse(warm)
    assert f"cold L2: 1 of 1, most `{MLA[0].name}`, from 21.00 µs to 42.00 µs" in text
    assert "cold L2" not in analyse(s.timed(MLA[0], 0.020))


def test_speedups_with_those_below_one(analyse):
    pairs = [s.timed(MOE[0], 10.0), s.timed(MOE[0], 40.0, "baseline")]
    pairs += [s.timed(MOE[1], 4.0), s.timed(MOE[1], 1.0, "baseline")]
    text = analyse(*pairs)
    assert "speed-up over the baseline is 1.00× (2 cases, 0.250× to 4.00×)" in text
    assert f"Slower than the baseline: 1 of 2, namely `{MOE[1].name}` (0.250×)" in text


def test_no_case_slower_and_a_single_pair(analyse):
    text = analyse(s.timed(MOE[0], 10.0), s.timed(MOE[0], 40.0, "baseline"))
    assert f"is 4.00× (`{MOE[0].name}`, the only pair). None is slower" in text


def test_nothing_is_said_without_figures(analyse):
    bare = s.timed(MOE[0], 18.0, bound=None)
    timing = s.Timing(mode="eager", warmup=10, repeat=100, mean=18.0)
    text = analyse(msgspec.structs.replace(bare, timing=timing))
    assert text == (
        "Without peaks of this device there is no floor. "
        "Without timings of the baseline there is no speed-up."
    )


def test_chinese_has_no_spaces_between_sentences(analyse):
    text = analyse(s.timed(MOE[0], 18.0), language="zh")
    assert text.startswith("受计算限制：1/1 例")
    assert "。 " not in text
