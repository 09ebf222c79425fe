from __future__ import annotations

import getpass
import os
import platform
from pathlib import Path

import msgspec
import pytest

from mxbench import record as records
from mxbench import runs
from mxbench.errors import MxbenchError
from mxbench.record import Environment, Journal, Record, WorkDone, read_journal, scrub
from mxbench.verdict import Errors, Status

# fmt: off
KEYS = [
    "schema", "run", "op", "contract", "suite", "case", "params", "dtype", "seed", "kernel",
    "kernel_sha", "schedule", "target", "device", "rule", "status", "strict", "errors", "timing",
    "work", "bound", "env", "reason",
]
# fmt: on


def make(case: str = "a", run: str = "r", **more: object) -> Record:
    fields: dict[str, object] = {
        "schema": 1,
        "run": run,
        "op": "mla",
        "contract": "dense",
        "suite": "smoke",
        "case": case,
        "params": {"batch": 1},
        "dtype": "float16",
        "seed": 0,
        "kernel": "good",
        "kernel_sha": "0" * 16,
        "target": "cpu",
        "device": "a CPU",
        "status": Status.PASSED,
        "strict": Status.PASSED,
        "work": WorkDone(1, 2),
        "env": Environment(python="3", torch="2", sms=1, memory=1, platform="Linux-x86_64"),
    }
    return Record(**(fields | more))  # type: ignore[arg-type]


def test_a_line_has_its_keys_in_order_and_leaves_absent_ones_out() -> None:
    errors = Errors(
        max_abs=1.0,
        max_rel=1.0,
        rms_ratio=1.0,
        worst_row_rms_ratio=1.0,
        cos_diff=0.0,
        matched=1.0,
        worst_index=[0],
    )
    full = make(errors=errors, reason="why", rule="xh", schedule={"p": {"block": 1}})
    keys = list(msgspec.json.decode(msgspec.json.encode(full)))
    assert [k for k in keys if k in KEYS] == [k for k in KEYS if k in keys]
    assert set(KEYS) - set(keys) == {"timing", "bound"}
    assert "rule" not in msgspec.json.decode(msgspec.json.encode(make()))


def test_what_is_appended_is_read_back(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "state")
    wanted = [make("a"), make("b", status=Status.CRASHED, strict=None, reason="died")]
    for one in wanted:
        journal.append(one)
    journal.close()
    assert read_journal(tmp_path / "state" / "journal.jsonl") == (wanted, [])


def test_a_torn_last_line_costs_itself_alone_and_the_next_append_starts_afresh(
    tmp_path: Path,
) -> None:
    journal = Journal(tmp_path)
    journal.append(make("a"))
    journal.close()
    with (tmp_path / "journal.jsonl").open("ab") as file:
        file.write(msgspec.json.encode(make("torn"))[:50])
    journal = Journal(tmp_path)
    journal.append(make("b"))
    journal.close()
    found, damaged = read_journal(tmp_path / "journal.jsonl")
    assert [r.case for r in found] == ["a", "b"]
    assert len(damaged) == 1 and damaged[0].startswith("journal.jsonl:2: damaged line skipped")


@pytest.mark.parametrize(
    "line", [b"\xff\xfe", b"{}", b'{"schema": 2}', b"[1, 2", b"null", b"\x00" * 20]
)
def test_any_damaged_line_is_named_and_the_rest_used(tmp_path: Path, line: bytes) -> None:
    good = msgspec.json.encode(make())
    path = tmp_path / "journal.jsonl"
    path.write_bytes(good + b"\n" + line + b"\n\n" + good + b"\n")
    found, damaged = read_journal(path)
    assert len(found) == 2
    assert [message.split(":")[1] for message in damaged] == ["2"]


def test_a_missing_journal_is_empty(tmp_path: Path) -> None:
    assert read_journal(tmp_path / "journal.jsonl") == ([], [])


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MxbenchError, match=r"cannot write results to .*file") as caught:
        Journal(tmp_path / "file" / "state")
    assert caught.value.exit_code == 2 and "--out" in caught.value.hint


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_named(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").symlink_to("/dev/full")
    journal = Journal(tmp_path)
    with pytest.raises(MxbenchError, match="No space left on device"):
        journal.append(make())
    journal.close()


# --- no names -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("in /home/alice/work/kernel.py:12", "in kernel.py:12"),
        ('File "/opt/x/y/z.py", line 3', 'File "z.py", line 3'),
        ("~/secret/x.bin is gone", "x.bin is gone"),
        ("a/b and 1/2 and x /y stay", "a/b and 1/2 and x /y stay"),
        ("see https://pytorch.org/get/started/", "see https://pytorch.org/get/started/"),
        ("out[batch 0, head 1] / 2", "out[batch 0, head 1] / 2"),
    ],
)
def test_absolute_folders_go_and_file_names_stay(text: str, left: str) -> None:
    assert scrub(text) == left


def test_home_host_and_user_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/srv/people/bo")
    monkeypatch.setattr(platform, "node", lambda: "gpu-box-7")
    monkeypatch.setattr(getpass, "getuser", lambda: "bobby")
    records._private_words.cache_clear()
    try:
        text = scrub("bobby on gpu-box-7 had /srv/people/bo/a/b.py; lobby and /srv/people/bo")
        assert text == "<user> on <host> had b.py; lobby and ~"
    finally:
        records._private_words.cache_clear()


# --- runs ---------------------------------------------------------------------------------------


def start(state: Path, run: str, plan: str = "p") -> runs.Run:
    return runs.start(state, runs.header(run, "check mla smoke", plan, 2, "cpu", "a CPU"))


def test_an_interrupted_run_of_the_same_plan_is_taken_over(tmp_path: Path) -> None:
    run = start(tmp_path, "20260101-000000-aaaa")
    run.journal.append(make("a", run=run.id))
    run.journal.append(make("b", run="another"))
    run.close()
    assert runs.resume(tmp_path, "another plan") is None
    again = runs.resume(tmp_path, "p")
    assert again is not None and again.id == run.id
    assert [r.case for r in again.resumed] == ["a"]
    again.finish(1, 0, 0)
    again.close()
    assert runs.resume(tmp_path, "p") is None
    header, footer = runs.read_run(tmp_path / "runs" / f"{run.id}.jsonl")
    assert header is not None and header.steps == 2
    assert footer is not None and footer.passed == 1


def test_a_run_in_progress_is_not_taken_over(tmp_path: Path) -> None:
    run = start(tmp_path, "20260101-000000-aaaa")
    assert runs.resume(tmp_path, "p") is None
    run.close()
    again = runs.resume(tmp_path, "p")
    assert again is not None
    again.close()


def test_a_torn_run_file_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "20260101-000000-aaaa.jsonl").write_bytes(b'{"run": "2026')
    (tmp_path / "runs" / "20260101-000000-bbbb.jsonl").write_bytes(b"")
    assert runs.resume(tmp_path, "p") is None
