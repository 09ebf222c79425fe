"""Contest rules: counts per case, and clear errors for faulty files."""

import json
import shutil

import pytest

from mxbench import case as cases
from mxbench import rules, workspace
from mxbench.errors import MxbenchError

HERE = workspace.bundled()


def counts(rule, op, suite, name):
    (case,) = cases.select(cases.load_suite(HERE, op, suite).cases, name)
    timing = rules.load(HERE, rule).counts_for(case)
    return timing.warmup, timing.repeat


def test_every_rule_loads_and_names_its_ambiguities():
    assert {"xh-202608", "xpu-oj"} <= set(rules.names(HERE))
    for name in rules.names(HERE):
        assert rules.load(HERE, name).ambiguities


def test_contest_counts_are_10_and_100_but_50_for_nsa_at_64k():
    rule = rules.load(HERE)
    for op in ("moe", "mla"):
        for case in cases.load_suite(HERE, op, "functional").cases:
            timing = rule.counts_for(case)
            assert (timing.warmup, timing.repeat) == (10, 100)
    for case in cases.load_suite(HERE, "nsa", "performance").cases:
        timing = rule.counts_for(case)
        assert timing.repeat == (50 if case.params.seqlen >= 65536 else 100), case.id


def test_the_judge_s_counts_come_from_its_cases():
    rule = rules.load(HERE, "xpu-oj")
    for case in cases.load_suite(HERE, "nsa", "judge").cases:
        assert rule.counts_for(case) == case.timing


def test_ranks_earn_what_the_contest_says():
    scores = rules.load(HERE).scores
    assert scores["moe"].ranks == tuple(range(10, 0, -1))
    assert scores["mla"].ranks == tuple(range(40, 0, -2))
    assert scores["nsa"].ranks == tuple(range(60, 0, -3))


def test_unknown_rule_names_the_nearest():
    with pytest.raises(MxbenchError, match="unknown rule") as caught:
        rules.load(HERE, "xh-20268")
    assert "xh-202608" in caught.value.hint


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda r: r["counts"].pop("default"), "$.counts.default: missing"),
        (lambda r: r["counts"]["default"].pop("repeat"), "$.counts.default.repeat: missing"),
        (lambda r: r["counts"]["default"].update(repeat=-1), "$.counts.default.repeat"),
        (lambda r: r["gate"].update(pass_rate=1.5), "$.gate.pass_rate"),
        (lambda r: r.update(nme="x"), "$.nme: unknown field"),
        (lambda r: r.update(name="other"), "$.name"),
    ],
)
def test_a_faulty_rule_is_named_with_its_place(tmp_path, change, place):
    rule = json.loads((HERE.cases / "rules" / "xh-202608.json").read_text())
    change(rule)
    shutil.copytree(HERE.cases, tmp_path / "cases")
    (tmp_path / "cases" / "rules" / "xh-202608.json").write_text(json.dumps(rule))
    broken = workspace.Workspace(HERE.kernels, tmp_path / "cases", tmp_path)
    with pytest.raises(MxbenchError) as caught:
        rules.load(broken)
    assert place in caught.value.message
    assert caught.value.exit_code == 2
