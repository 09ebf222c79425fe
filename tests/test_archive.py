"""Zips from strangers: what is unpacked, and what is refused with nothing left behind."""

from __future__ import annotations

import stat
import zipfile

import pytest

from mxbench.archive import Limits, opened, unpack
from mxbench.errors import MxbenchError


def packed(path, entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return path


def test_files_and_folders_come_out_as_they_went_in(tmp_path):
    path = packed(tmp_path / "x.zip", [("a/", ""), ("a/b.txt", "one"), ("报告.md", "two")])
    with opened(path) as folder:
        assert (folder / "a" / "b.txt").read_text() == "one"
        assert (folder / "报告.md").read_text() == "two"
    assert not folder.exists()


def test_a_folder_is_its_own_folder(tmp_path):
    with opened(tmp_path) as folder:
        assert folder == tmp_path


def link():
    entry = zipfile.ZipInfo("link")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([("../x", "")], "outside the folder"),
        ([("a/../../x", "")], "outside the folder"),
        ([("/etc/x", "")], "outside the folder"),
        ([("C:/x", "")], "outside the folder"),
        ([("a\\..\\x", "")], "backslash"),
        ([("a\nb", "")], "control character"),
        ([(link(), "/etc/passwd")], "is a link"),
        ([("A", "1"), ("a", "2")], "twice"),
        ([("zeros", bytes(8 << 20))], "a bomb"),
        ([("a", b"x" * 600), ("b", b"y" * 600)], "unpacks to"),
        ([(str(i), "") for i in range(11)], "11 entries"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_refused_leaves_nothing_behind(tmp_path, entries, words):
    path = packed(tmp_path / "x.zip", [("first.txt", "fine"), *entries][-11:])
    limits = Limits(bytes=1000 if "unpacks" in words else 1 << 30, files=10)
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(MxbenchError, match=words) as caught:
        unpack(path, out, limits)
    assert "x.zip" in caught.value.message and not list(out.iterdir())
