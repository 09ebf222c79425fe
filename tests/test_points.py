"""A contest's points, against hand counts of its rules."""

from __future__ import annotations

import json

import pytest

from mxbench import points, rules

from . import sandbox
from .report import synthetic as s

RULE = rules.load(s.HERE)
MLA = s.cases("mla", "functional")


def standing(op, records, kernel="portable", cases=None):
    count = len(s.cases(op, "functional")) if cases is None else cases
    return points.standing(RULE, op, RULE.scores[op], records, records, kernel, count)


def all_timed(op, mine=1.0, baseline=2.0):
    cases = s.cases(op, "functional")
    found = [s.timed(case, mine) for case in cases]
    return found + [s.timed(case, baseline, "baseline") for case in cases]


def test_all_cases_passed_and_faster_earns_all_function_points():
    one = standing("mla", all_timed("mla"))
    assert (one.function, one.mean, one.baseline) == (40, 1.0, 2.0)
    assert one.faster and one.through
    assert [one.performance(rank) for rank in (1, 2, 20, 21)] == [40, 38, 2, 0]


def test_below_the_gate_nothing_is_earned():
    records = [s.failed(MLA[0], "wrong"), *all_timed("mla")[1:]]
    one = standing("mla", records)
    assert one.tally.passed == 30 and not one.enough_pass  # 30 of 31 are 96.8 %
    assert one.function == 0 and one.performance(1) == 0


def test_function_points_are_pro_rata_above_the_gate():
    cases = s.cases("nsa", "functional")  # 108 of 109 are 99.1 %
    records = [s.failed(cases[0], "wrong"), *(s.timed(c, 1.0) for c in cases[1:])]
    one = standing("nsa", records)
    assert one.enough_pass and one.function == pytest.approx(40 * 108 / 109)


def test_cases_without_a_record_did_not_pass():
    one = standing("mla", all_timed("mla")[:20])
    assert one.tally.not_run == 11 and not one.enough_pass


def test_whether_it_is_faster_is_not_known_without_all_timings():
    one = standing("mla", [s.record(case) for case in MLA])
    assert one.enough_pass and one.faster is None and not one.through
    assert one.function == 40 and one.performance(1) == 0


def test_slower_than_the_baseline_fails_the_gate():
    one = standing("mla", all_timed("mla", mine=3.0))
    assert one.faster is False and not one.through


def test_timings_of_another_rule_do_not_count():
    one = standing("mla", [s.timed(case, 1.0, rule="xpu-oj") for case in MLA])
    assert one.mean is None


def test_the_better_operator_of_the_final_counts_and_the_bonus_is_not_weighted():
    every = [standing(op, all_timed(op)) for op in ("moe", "mla", "nsa")]
    found = points.total(RULE, every, {"moe": 2, "mla": 1, "nsa": 20})
    assert found.best == "mla" and found.technical == 80 and found.bonus == 9
    assert found.points == pytest.approx(0.6 * 80 + 9)
    assert points.total(RULE, every, {"nsa": 1}).points == pytest.approx(0.6 * 100)


def test_the_rank_at_which_one_operator_overtakes_the_other():
    mla, nsa = standing("mla", all_timed("mla")), standing("nsa", all_timed("nsa"))
    # nsa earns 40 + 42 = 82 at rank 7 and 79 at rank 8; mla 80 at rank 1.
    assert points.overtakes(nsa, mla, 1) == 7
    assert points.overtakes(mla, nsa, 1) is None


@pytest.fixture
def journal(tmp_path):
    records = [r for op in ("moe", "mla", "nsa") for r in all_timed(op)]
    return s.write(tmp_path / "h100" / "journal.jsonl", *records)


def score(journal, *more):
    return sandbox.run(sandbox.REPOSITORY, "score", str(journal), *more)


def test_the_command_shows_gates_ranks_and_what_the_rule_leaves_open(journal):
    done = score(journal, "--kernel", "portable", "--rank", "nsa=8", "--rank", "mla=1")
    assert done.returncode == 0, done.stderr
    assert "yes (2.00x)" in done.stdout and "109 of 109" in done.stdout
    assert "nsa at rank 7 or better beats mla at rank 1" in done.stdout
    assert "48.0 points = 0.6 x 80 (mla counts)" in done.stdout
    for text in RULE.ambiguities:
        assert f"open in the rule: {text}" in done.stdout


def test_json_says_the_same(journal):
    document = json.loads(score(journal, "--kernel", "portable", "--rank=moe=1", "--json").stdout)
    told = {"technical": 40, "best": "mla", "bonus": 10, "points": 34}
    assert document["totals"] == [{"ranks": {"moe": 1}, **told}]
    assert [one["through"] for one in document["operators"]] == [True] * 3


def test_a_gate_that_is_not_met_is_exit_code_1(tmp_path):
    journal = s.write(tmp_path / "j" / "journal.jsonl", *(s.record(case) for case in MLA))
    done = score(journal, "--kernel", "portable")
    assert done.returncode == 1 and "not known" in done.stdout and "not met" in done.stdout


def test_a_later_check_does_not_hide_a_time(tmp_path):
    records = [*all_timed("mla"), *(s.record(case) for case in MLA)]
    journal = s.write(tmp_path / "j" / "journal.jsonl", *records)
    assert "yes (2.00x)" in score(journal, "--kernel", "portable").stdout


def test_an_older_time_does_not_hide_a_later_failure(tmp_path):
    records = [*all_timed("mla"), *(s.failed(case, "wrong") for case in MLA[:2])]
    journal = s.write(tmp_path / "j" / "journal.jsonl", *records)
    done = score(journal, "--kernel", "portable")
    assert done.returncode == 1 and "29 of 31" in done.stdout


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--rank", "nsa=0"], "not OP=N"),
        (["--rank", "mla"], "not OP=N"),
        (["--rank", "mla=5-2"], "not OP=N"),
        (["--rank", "mla=1-99999"], "ranks end at"),
        (["--weight", "1.5"], "technical_weight"),
        (["--aggregate", "max"], "aggregate"),
        (["--rank", "nsaa=1"], "did you mean 'nsa'?"),
        (["--rule", "xpu-oj"], "gives no points"),
        (["--device", "H20"], "has no device 'H20'"),
    ],
)
def test_bad_input_is_one_clear_message(journal, more, words):
    done = score(journal, *more)
    assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr


def test_several_devices_are_never_mixed(tmp_path):
    records = [s.record(MLA[0]), s.record(MLA[0], device="NVIDIA H200")]
    journal = s.write(tmp_path / "j" / "journal.jsonl", *records)
    done = score(journal)
    assert done.returncode == 2 and "records of 2 devices" in done.stderr


def test_a_range_of_ranks_is_a_table_of_totals(journal):
    done = score(journal, "--kernel", "portable", "--rank", "mla=1-3", "--rank", "moe=2", "--json")
    found = {one["ranks"]["mla"]: one["points"] for one in json.loads(done.stdout)["totals"]}
    assert found == pytest.approx({1: 0.6 * 80 + 9, 2: 0.6 * 78 + 9, 3: 0.6 * 76 + 9})


def test_what_the_rule_leaves_open_can_be_decided_otherwise(journal):
    more = ["--kernel", "portable", "--rank", "mla=1", "--json"]
    document = json.loads(score(journal, *more, "--weight", "0.3").stdout)
    assert document["totals"][0]["points"] == pytest.approx(0.3 * 80)


def test_a_newer_time_under_another_rule_does_not_hide_the_rule_s(tmp_path):
    later = [s.timed(case, 9.0, rule="xpu-oj", run="20990101-000000-aaaa") for case in MLA]
    journal = s.write(tmp_path / "j" / "journal.jsonl", *all_timed("mla"), *later)
    assert "yes (2.00x)" in score(journal, "--kernel", "portable").stdout


def test_a_journal_of_mixed_schemas_is_refused_and_a_torn_line_is_not(journal):
    whole = journal.read_bytes()
    journal.write_bytes(whole + whole[:200])
    done = score(journal, "--kernel", "portable")
    assert done.returncode == 0 and "damaged line" in done.stderr
    line = whole.split(b"\n")[0].replace(b'"schema":1', b'"schema":2')
    journal.write_bytes(whole + line + b"\n")
    done = score(journal, "--kernel", "portable")
    assert done.returncode == 2 and "mixes schemas" in done.stderr and not done.stdout
