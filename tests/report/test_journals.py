"""Reading journals: what is wrong with them is named, and the newest result counts."""

from __future__ import annotations

import dataclasses
import json

import msgspec
import pytest

from mxbench.errors import EXIT_USAGE, MxbenchError
from mxbench.report import journals
from mxbench.report.journals import case_key, devices, newest, read, slug

from . import synthetic as s

CASE, OTHER = s.cases("mla", "functional")[:2]


def refused(path):
    with pytest.raises(MxbenchError) as raised:
        read([path])
    assert raised.value.exit_code == EXIT_USAGE
    assert raised.value.hint
    return raised.value


def test_a_missing_journal_is_named(tmp_path):
    assert str(tmp_path / "none.jsonl") in refused(tmp_path / "none.jsonl").message


def test_a_folder_stands_for_the_journal_in_it(tmp_path):
    s.write(tmp_path / "journal.jsonl", s.record(CASE))
    (source,) = read([tmp_path])
    assert source.path == tmp_path / "journal.jsonl"
    (tmp_path / "empty").mkdir()
    assert "empty/journal.jsonl" in refused(tmp_path / "empty").message


def test_an_empty_journal_is_an_error(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_text("\n\n")
    assert f"{path} is empty" in refused(path).message


def test_a_journal_of_another_schema_names_both_schemas(tmp_path):
    path = tmp_path / "journal.jsonl"
    line = json.loads(msgspec.json.encode(s.record(CASE)))
    path.write_text(json.dumps({**line, "schema": 2}) + "\n")
    assert "has schema 2; this mxbench reads schema 1" in refused(path).message


def test_a_file_that_is_no_journal_says_what_is_wrong_with_it(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b"hello\n\xff\xfe\n[1]\n")
    error = refused(path)
    assert "none of its 3 lines is a record" in error.message
    assert "journal.jsonl:1" in error.hint


def test_an_unreadable_journal_says_why(tmp_path, monkeypatch):
    path = s.write(tmp_path / "journal.jsonl", s.record(CASE))

    def deny(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.read_bytes", deny)
    assert "Permission denied" in refused(path).message


def test_damaged_lines_are_reported_and_the_rest_is_used(tmp_path):
    path = s.write(tmp_path / "run" / "journal.jsonl", s.record(CASE))
    with path.open("ab") as file:
        file.write(b'{"schema": 1, "run": "tru\n')
        file.write(msgspec.json.encode(s.record(OTHER)) + b"\n")
    (source,) = read([path])
    assert [r.case for r in source.records] == [CASE.name, OTHER.name]
    (message,) = source.damaged
    assert message.startswith("run/journal.jsonl:2: ")


def test_a_journal_named_twice_is_read_once(tmp_path):
    path = s.write(tmp_path / "journal.jsonl", s.record(CASE))
    assert len(read([path, tmp_path / "." / "journal.jsonl", tmp_path])) == 1


def test_default_journals_are_the_devices_and_the_user_s_own(tmp_path):
    here = dataclasses.replace(s.HERE, root=tmp_path)
    with pytest.raises(MxbenchError, match="no journal") as raised:
        journals.default_paths(here, tmp_path / "reports")
    assert "--journal" in raised.value.hint
    own = s.write(here.state / "journal.jsonl", s.record(CASE))
    theirs = s.write(tmp_path / "reports" / "nvidia-h100" / "journal.jsonl", s.record(CASE))
    assert journals.default_paths(here, tmp_path / "reports") == [theirs, own]


# --- which record counts ------------------------------------------------------------------------


def test_the_last_record_of_a_journal_counts():
    old, new = s.record(CASE), s.failed(CASE, "wrong")
    found, superseded = newest([[old, s.record(OTHER), new]], case_key)
    assert found == [new, s.record(OTHER)]
    assert superseded == 1


def test_another_seed_is_the_same_case_but_other_parameters_are_not():
    changed = s.record(CASE, params={**s.record(CASE).params, "batch": 9})
    found, superseded = newest([[s.record(CASE), s.record(CASE, seed=7), changed]], case_key)
    assert [r.seed for r in found] == [7, 0]
    assert superseded == 1


def test_between_journals_the_later_run_counts():
    old = s.record(CASE, run="20250101-000000-aaaa")
    new = s.failed(CASE, "wrong", run="20250202-000000-aaaa")
    for order in ([old], [new]), ([new], [old]):
        assert newest(order, case_key) == ([new], 1)


def test_a_copied_record_supersedes_nothing():
    assert newest([[s.record(CASE)], [s.record(CASE)]], case_key) == ([s.record(CASE)], 0)


# --- devices ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("NVIDIA H100 80GB HBM3", "nvidia-h100"),
        ("NVIDIA H200", "nvidia-h200"),
        ("NVIDIA H100 PCIe", "nvidia-h100-pcie"),
        ("NVIDIA A100-SXM4-80GB", "nvidia-a100"),
        ("MetaX C500", "metax-c500"),
        ("Intel(R) Xeon(R) Platinum 8480+", "intel-xeon-platinum-8480"),
        ("Intel(R) Core(TM) i7-9750H CPU @ 2.60GHz", "intel-core-i7-9750h"),
        ("80GB", "80gb"),
        ("../..", "device"),
    ],
)
def test_a_device_s_folder_is_its_words(name, folder):
    assert slug(name) == folder


def test_devices_are_kept_apart_gpus_first(tmp_path):
    records = [s.record(CASE, device=d) for d in (s.CPU, s.H100, "NVIDIA H200", s.H100)]
    found = devices([journals.Source(tmp_path, tuple(records), ())])
    assert [d.slug for d in found] == ["nvidia-h100", "nvidia-h200", "intel-xeon-platinum-8480"]
    for device in found:
        assert {r.device for group in device.journals for r in group} == {device.name}
    assert [d.is_cpu for d in found] == [False, False, True]


def test_devices_that_would_share_a_folder_get_all_their_words(tmp_path):
    names = ("NVIDIA A100-SXM4-40GB", "NVIDIA A100-SXM4-80GB", "NVIDIA A100 SXM4 80GB")
    records = tuple(s.record(CASE, device=name) for name in names)
    folders = [d.slug for d in devices([journals.Source(tmp_path, records, ())])]
    assert folders == ["nvidia-a100-sxm4-40gb", "nvidia-a100-sxm4-80gb", "nvidia-a100-sxm4-80gb-2"]
