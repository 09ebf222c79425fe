"""Somebody else's zip cannot write outside its folder, link, explode, or crash the tool."""

from __future__ import annotations

import stat
import zipfile

import pytest

from mxbench.errors import MxbenchError
from mxbench.package import archive


def made(tmp_path, *members):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for entry, data in members:
            target.writestr(entry, data)
    return path


def link():
    entry = zipfile.ZipInfo("link")
    entry.create_system = 3
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("../evil.txt", "x")], "leads out of the zip"),
        ([("/etc/evil", "x")], "leads out of the zip"),
        ([("a\\..\\..\\evil", "x")], "leads out of the zip"),
        ([("C:/evil", "x")], "leads out of the zip"),
        ([(link(), "/etc/passwd")], "is a link"),
        ([("bomb", b"\0" * (65 << 20))], "looks like|would unpack to"),
    ],
    ids=["up", "absolute", "backslash", "drive", "link", "bomb"],
)
def test_a_harmful_zip_is_refused(tmp_path, members, message):
    out = tmp_path / "into"
    out.mkdir()
    with pytest.raises(MxbenchError, match=message) as raised:
        archive.unpack(made(tmp_path, *members), out)
    assert raised.value.exit_code == 2
    assert list(out.iterdir()) == []


def test_a_name_that_is_no_text_is_named(tmp_path):
    path = made(tmp_path, ("é.txt", "x"))
    path.write_bytes(path.read_bytes().replace("é".encode(), b"\xff\xff"))
    with pytest.raises(MxbenchError, match=r"x\.zip is damaged"):
        archive.unpack(path, tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 cut"])
def test_what_is_no_zip_is_named(tmp_path, content):
    path = tmp_path / "x.zip"
    path.write_bytes(content)
    with pytest.raises(MxbenchError, match=r"x\.zip is not a zip"):
        archive.unpack(path, tmp_path)


def test_a_missing_zip_is_named(tmp_path):
    with pytest.raises(MxbenchError, match="no file"):
        archive.unpack(tmp_path / "none.zip", tmp_path)


def test_chinese_names_from_windows_are_read(tmp_path):
    entry = zipfile.ZipInfo("报告.txt".encode("gbk").decode("cp437"))
    path = made(tmp_path, (entry, "x"))
    data = path.read_bytes()
    # Python marks such a name as UTF-8; Windows' own zips have GBK bytes and no mark.
    utf8, gbk = entry.filename.encode("utf-8"), "报告.txt".encode("gbk")
    assert utf8 in data
    raw = bytearray(data.replace(utf8, gbk.ljust(len(utf8), b"_")))
    raw[7] &= ~8  # the mark in the local header, and in the central directory
    raw[raw.index(b"PK\x01\x02") + 9] &= ~8
    path.write_bytes(raw)
    out = tmp_path / "into"
    out.mkdir()
    archive.unpack(path, out)
    assert [p.name[:6] for p in out.iterdir()] == ["报告.txt"]


def test_a_round_trip_keeps_bytes_names_and_execution(tmp_path):
    folder, out = tmp_path / "a", tmp_path / "b"
    folder.mkdir()
    out.mkdir()
    (folder / "中文.txt").write_text("x")
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    archive.pack(folder, tmp_path / "x.zip")
    archive.unpack(tmp_path / "x.zip", out)
    assert (out / "中文.txt").read_text() == "x"
    assert (out / "run.sh").stat().st_mode & stat.S_IXUSR
    assert not (out / "中文.txt").stat().st_mode & stat.S_IXUSR


def test_times_do_not_show_in_the_bytes(tmp_path):
    import os

    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "x").write_text("x")
    archive.pack(folder, tmp_path / "1.zip")
    os.utime(folder / "x", (0, 0))
    archive.pack(folder, tmp_path / "2.zip")
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()
