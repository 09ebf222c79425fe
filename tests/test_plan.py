"""From options to cases and kernels."""

import pytest

from mxbench import workspace
from mxbench.case import load_suite
from mxbench.errors import MxbenchError
from mxbench.plan import Request, make_steps, with_baseline

HERE = workspace.bundled()


def planned(op, kind="cuda", **more):
    return [step.case for step in make_steps(HERE, Request(op=op, **more), kind)]


def test_the_default_suite_is_what_the_device_can_do():
    assert {case.suite for case in planned("mla", "cuda")} == {"functional"}
    assert {case.suite for case in planned("mla", "cpu")} == {"smoke"}
    assert {case.suite for case in planned("mla", "cuda", timed=True)} == {"performance"}


def test_perf_picks_the_cases_of_a_length():
    found = planned("nsa", timed=True, seqlen=65536)
    assert found and {case.params.seqlen for case in found} == {65536}
    names = {case.name for case in load_suite(HERE, "nsa", "performance").cases}
    assert {case.name for case in found} <= names, "as they stand in the suite"


def test_perf_rewrites_the_suite_to_a_length_that_no_case_has():
    found = planned("nsa", timed=True, seqlen=3000)
    assert found and {case.params.seqlen for case in found} == {3000}
    assert len(set(found)) == len(found)


def test_check_rewrites_every_case_to_a_length():
    assert {case.params.kv_ctx for case in planned("mla", seqlen=1024)} == {1024}


def test_tokens_change_the_cases_that_count_tokens_and_leave_explicit_rows_out():
    every = planned("moe", suites=("smoke",))
    explicit = [c for c in every if getattr(c.params, "seqlen", None) is None]
    assert explicit, "smoke has cases with explicit rows"
    found = planned("moe", suites=("smoke",), tokens=7)
    assert found and all((c.params.batch or 1) * c.params.seqlen == 7 for c in found)
    with pytest.raises(MxbenchError, match="give their rows explicitly"):
        planned("moe", suites=("smoke",), tokens=7, glob=explicit[0].name)


def test_a_baseline_follows_every_case():
    steps = make_steps(HERE, Request(op="mla", kernel="portable"), "cuda")
    both = with_baseline(HERE, steps, "baseline")
    assert [s.kernel.name for s in both] == ["portable", "baseline"] * len(steps)
    assert with_baseline(HERE, steps, "portable") == steps, "nothing is its own baseline"
    with pytest.raises(MxbenchError, match="no kernel 'basline'") as caught:
        with_baseline(HERE, steps, "basline")
    assert "baseline" in caught.value.hint
