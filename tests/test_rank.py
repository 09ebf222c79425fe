"""The organiser's table over twelve hand-ins, every figure counted by hand from the rule."""

from __future__ import annotations

import csv
import io
import json
import shutil
import zipfile

import msgspec
import pytest

from mxbench import handins, ranking, rules
from mxbench.kernel import Kernel

from . import sandbox
from .report import synthetic as s

RULE = rules.load(s.HERE)
MLA = tuple(s.cases("mla", "functional"))
CONTEST = ranking.Contest(RULE, "mla", MLA, MLA)
SLICE = msgspec.structs.replace(s.GPU_ENV, sms=66, memory=42 << 30)


def records(mean, baseline=4.0, **changes):
    """All 31 cases timed at `mean` milliseconds, and the sample beside."""
    mine = [s.timed(case, mean, "mine", **changes) for case in MLA]
    beside = {k: v for k, v in changes.items() if k in ("device", "env")}
    return mine + [s.timed(case, baseline, "baseline", **beside) for case in MLA]


def counted(found, **changes):
    """The first record with other timing fields."""
    timing = msgspec.structs.replace(found[0].timing, **changes)
    return [msgspec.structs.replace(found[0], timing=timing), *found[1:]]


TWELVE = {
    "first": records(1.0),
    "second": records(2.0),
    "also-second": records(2.0),
    "fourth": records(3.0),
    "slower-than-sample": records(5.0),
    "below-gate": [s.failed(MLA[0], "wrong", "mine"), *records(0.5)[1:]],
    "case-missing": records(0.5)[1:],
    "two-sources": [msgspec.structs.replace(records(0.5)[0], kernel_sha="f" * 16),
                    *records(0.5)[1:]],
    "few-repeats": counted(records(0.5), repeat=10),
    "other-card": records(0.5, device="NVIDIA H200"),
    "half-a-card": records(0.5, env=SLICE),
    "other-rule": [r for r in records(0.5, rule="xpu-oj") if r.kernel == "mine"],
}  # fmt: skip


@pytest.fixture(scope="module")
def tables():
    entries = [ranking.HandIn(name, tuple(found)) for name, found in TWELVE.items()]
    return ranking.rank(CONTEST, entries)


def test_ranks_points_and_ties_follow_the_rule(tables):
    found = {p.hand_in: (p.rank, p.points) for p in tables[0].places}
    # function 40 + performance 40, 38, 38, 34: two at rank 2 leave out rank 3.
    assert found == {
        "first": (1, 80),
        "second": (2, 78),
        "also-second": (2, 78),
        "fourth": (4, 74),
        "slower-than-sample": (None, 40),
        "below-gate": (None, 0),
    }
    assert [p.hand_in for p in tables[0].places][:1] == ["first"]


def test_speed_up_and_the_judge_s_score(tables):
    first, *_ = tables[0].places
    assert first.speedup == pytest.approx(4) and first.judge == pytest.approx(100 * 4 / 5)
    assert first.standing.mean == 1.0 and len(first.means) == 31


def test_who_fails_the_gate_is_told_why(tables):
    why = {p.hand_in: p.why for p in tables[0].places if p.rank is None}
    assert why["below-gate"] == "gate: 30 of 31 cases passed"
    assert why["slower-than-sample"] == "gate: not faster than baseline"


def test_a_journal_that_does_not_add_up_is_named_and_not_ranked(tables):
    found = {u.hand_in: " ".join(u.faults) for u in tables[0].unranked}
    assert set(found) == {"case-missing", "two-sources", "few-repeats"}
    assert f"no record of {MLA[0].id}" in found["case-missing"]
    assert "records of 2 sources of mine" in found["two-sources"]
    assert "10 warm-ups and 10 runs, the rule asks for 10 and 100" in found["few-repeats"]


def test_other_devices_slices_and_rules_stand_apart(tables):
    apart = {str(t.where): t for t in tables[1:]}
    assert len(apart) == 3
    for name in ("other-card", "half-a-card"):
        (table,) = (t for t in tables[1:] if any(p.hand_in == name for p in t.places))
        assert [(p.hand_in, p.rank) for p in table.places] == [(name, 1)]
    (other,) = (t for t in tables[1:] if t.where.rule == "xpu-oj")
    assert not other.places and "timed under rule xpu-oj" in other.unranked[0].faults[0]


def test_ties_may_share_the_worse_rank():
    contest = ranking.Contest(rules.changed(RULE, ties="worse"), "mla", MLA, MLA)
    entries = [ranking.HandIn(n, tuple(TWELVE[n])) for n in ("first", "second", "also-second")]
    (table,) = ranking.rank(contest, entries)
    assert {p.hand_in: (p.rank, p.points) for p in table.places} == {
        "first": (1, 80), "second": (3, 76), "also-second": (3, 76),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ([s.record(MLA[0], "mine", s.CPU)], "computed on a CPU"),
        ([s.timed(c, 1.0, k) for c in MLA for k in ("a", "b")], "several kernels (a, b)"),
        ([s.timed(c, 1.0, "baseline") for c in MLA], "no record of a kernel but the baseline's"),
        (counted(records(1.0), mode="graph"), "timed as graph"),
        ([msgspec.structs.replace(r, dtype="bfloat16") for r in records(1.0)], "other parameters"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_further_ways_not_to_add_up(found, words):
    (table,) = ranking.rank(CONTEST, [ranking.HandIn("x", tuple(found))])
    assert not table.places and any(words in fault for fault in table.unranked[0].faults)


def test_checks_on_a_laptop_do_not_matter_beside_a_gpu():
    found = [*records(1.0), s.record(MLA[0], "mine", s.CPU)]
    (table,) = ranking.rank(CONTEST, [ranking.HandIn("x", tuple(found))])
    assert [p.rank for p in table.places] == [1] and not table.unranked


# --- files --------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    for name, found in TWELVE.items():
        s.write(tmp_path / "in" / name / "reports" / "gpu" / "journal.jsonl", *found)
    packed = tmp_path / "in" / "first"
    shutil.make_archive(str(packed), "zip", packed)
    shutil.rmtree(packed)
    return tmp_path / "in"


def rank(*arguments):
    return sandbox.run(sandbox.REPOSITORY, "rank", *map(str, arguments))


def test_the_command_ranks_folders_and_zips_and_writes_every_format(folder, tmp_path):
    files = [tmp_path / f"table.{end}" for end in ("md", "csv", "json")]
    done = rank(folder, *(word for file in files for word in ("--out", file)))
    assert done.returncode == 1, "some are not ranked"
    assert "also-second" in done.stdout and "not ranked" in done.stdout
    for text in RULE.ambiguities:
        assert f"open in the rule: {text}" in done.stdout
    assert "|      1 | first" in files[0].read_text()
    lines = {line["hand-in"]: line for line in csv.DictReader(io.StringIO(files[1].read_text()))}
    assert len(lines) == 12 and lines["fourth"]["points"] == "74"
    document = json.loads(files[2].read_text())["operators"][0]
    assert [p["rank"] for p in document["tables"][0]["places"]][:4] == [1, 2, 2, 4]


def test_the_source_handed_in_must_be_the_one_measured(tmp_path):
    kernels = tmp_path / "x" / "kernels"
    (kernels / "common").mkdir(parents=True)
    (kernels / "mla").mkdir()
    file = kernels / "mla" / "mine.py"
    file.write_text("def dense(): ...\n")
    sha = Kernel("mla", "mine", file).sha
    s.write(tmp_path / "x" / "journal.jsonl", *records(1.0, kernel_sha=sha))
    assert ranking.rank(CONTEST, handins.read([tmp_path / "x"]))[0].places[0].rank == 1
    file.write_text("def dense(): 'quite another'\n")
    (table,) = ranking.rank(CONTEST, handins.read([tmp_path / "x"]))
    assert "is not the one measured" in table.unranked[0].faults[0]


def test_a_damaged_line_keeps_a_hand_in_from_being_ranked(tmp_path):
    journal = s.write(tmp_path / "x" / "journal.jsonl", *records(1.0))
    journal.write_text(journal.read_text() + '{"schema": 2}\n')
    (table,) = ranking.rank(CONTEST, handins.read([tmp_path / "x"]))
    assert "damaged line" in table.unranked[0].faults[0]


def test_names_from_strangers_stay_text(tmp_path):
    s.write(tmp_path / "in" / "=1+1|x" / "journal.jsonl", *records(1.0))
    out = tmp_path / "t.csv", tmp_path / "t.md"
    assert rank(tmp_path / "in", "--out", out[0], "--out", out[1]).returncode == 0
    assert ",'=1+1|x," in out[0].read_text() and "=1+1\\|x" in out[1].read_text()


@pytest.mark.parametrize(
    ("name", "more", "words"),
    [
        ("nowhere", [], "no hand-in at"),
        ("empty", [], "holds no hand-in"),
        ("text.zip", [], "is not a readable zip"),
        ("escape.zip", [], "outside the folder"),
        ("good", ["--out", "t.docx"], "unknown format"),
        ("good", ["--ties", "both"], "ties"),
        ("good", ["--op", "mlaa"], "did you mean 'mla'?"),
        ("good", ["--suite", "functionall"], "did you mean 'functional'?"),
    ],
)
def test_bad_input_is_one_clear_message(tmp_path, name, more, words):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.zip").write_text("PK but not really")
    with zipfile.ZipFile(tmp_path / "escape.zip", "w") as archive:
        archive.writestr("../journal.jsonl", "{}")
    s.write(tmp_path / "good" / "journal.jsonl", *records(1.0))
    done = rank(tmp_path / name, *more)
    assert done.returncode == 2 and words in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and not done.stdout


def test_who_did_another_operator_is_missed_only_where_that_one_is_asked_for(tmp_path):
    s.write(tmp_path / "in" / "a" / "journal.jsonl", *records(1.0))
    moe = [s.timed(c, t, k) for c in s.cases("moe", "functional")
           for k, t in (("mine", 1.0), ("baseline", 2.0))]  # fmt: skip
    s.write(tmp_path / "in" / "b" / "journal.jsonl", *moe)
    assert rank(tmp_path / "in").returncode == 0
    done = rank(tmp_path / "in", "--op", "mla")
    assert done.returncode == 1 and "no record of mla" in done.stdout
