"""Thirty planted items of every kind are found with file and line, and our own tree is clean."""

from __future__ import annotations

import io
import json
import subprocess
import zipfile

import pytest

from mxbench import workspace
from mxbench.package import contents, scan
from mxbench.package.patterns import Scanner
from tests.sandbox import REPOSITORY

# Put together here, so that this file itself holds no phone number and no school.
MOBILE, LANDLINE = "138" + "12345678", "010-" + "62751234"
MAIL = "li.lei" + "@" + "mail.sample-lab.cn"
SCHOOL, ENGLISH_SCHOOL = "东湖理工" + "大学", "East Lake " + "University"
NAME, UNIT = "李雷" + "明", "星河" + "算子队"
WORDS = [("name or unit given", NAME), ("name or unit given", UNIT), ("host name", "node-" + "a17"),
         ("git author", "Han " + "Meimei")]  # fmt: skip


def identity(first17="11010119900307123"):
    total = sum(int(d) * (2 ** (17 - i) % 11) for i, d in enumerate(first17))
    return first17 + "10X98765432"[total % 11]


def notebook(text):
    cell = {"cell_type": "code", "source": ["x = 1\n", text], "metadata": {}, "outputs": []}
    return json.dumps({"cells": [cell], "nbformat": 4}, ensure_ascii=False, indent=1)


TEXTS = [  # (file, content, line, kind)
    ("a.md", f"# 报告\n\n联系 {MOBILE}\n", "3", "phone number"),
    ("b.txt", f"电话 +86 {MOBILE[:3]} {MOBILE[3:7]} {MOBILE[7:]}", "1", "phone number"),
    ("c.txt", f"tel {MOBILE[:3]}-{MOBILE[3:7]}-{MOBILE[7:]}", "1", "phone number"),
    ("d.rst", f"Office: {LANDLINE}", "1", "phone number"),
    ("e.py", f"x = 1\n# mail {MAIL}\n", "2", "e-mail address"),
    ("pyproject.toml", f'authors = [{{email = "{MAIL}"}}]', "1", "e-mail address"),
    ("f.json", json.dumps({"phone": int(MOBILE)}), "1", "phone number"),
    ("g.jsonl", "{}\n" + json.dumps({"note": MAIL}) + "\n", "2", "e-mail address"),
    ("h.csv", f"id\n{identity()}\n", "2", "identity number"),
    ("i.md", f"{SCHOOL}计算机系", "1", "school"),
    ("j.md", f"We are from {ENGLISH_SCHOOL}.", "1", "school"),
    ("k.py", f'PATH = "/home/{"hanmm"}/run"', "1", "home folder"),
    ("l.log", "x\ny\n/Users/" + "lilei/src/a.py:3: error", "3", "home folder"),
    ("m.log", "C:\\Users\\" + "lilei\\a.py", "1", "home folder"),
    ("n.py", '"""Kernels.\n\nAuthor: ' + 'Li Lei\n"""', "3", "labelled person"),
    ("o.md", "指导教师：" + "王老师", "1", "labelled person"),
    ("p.md", "学号: " + "2023010203", "1", "labelled person"),
    ("q.md", f"作品由{NAME}完成", "1", "name or unit given"),
    ("r.cu", f"// {UNIT}", "1", "name or unit given"),
    ("s.log", "running on node-" + "a17 with 8 GPUs", "1", "host name"),
    ("t.txt", "Signed-off-by: Han " + "Meimei", "1", "git author"),
    ("u.md", "QQ：" + "123456789", "1", "messenger account"),
    ("v.ipynb", notebook(f"# {MAIL}"), None, "e-mail address"),
    ("w.html", f"<p>{MOBILE}</p>", "1", "phone number"),
]


def gbk(folder):
    (folder / "gbk.txt").write_bytes(f"第一行\n{SCHOOL}\n".encode("gb18030"))
    return "gbk.txt", "2", "school"


def binary(folder):
    (folder / "kernel.so").write_bytes(b"\x7fELF\0\0" + b"/home/" + b"hanmm/build/x.cu\0\xff\xfe")
    return "kernel.so", None, "home folder"


def image(folder):
    from PIL import Image, PngImagePlugin

    info = PngImagePlugin.PngInfo()
    info.add_text("Author", "Somebody Real")
    Image.new("RGB", (2, 2)).save(folder / "chart.png", pnginfo=info)
    return "chart.png", "metadata", "labelled person"


def photo(folder):
    from PIL import Image

    image = Image.new("RGB", (2, 2))
    exif = image.getexif()
    exif[0x013B] = "Somebody Real"  # Artist
    image.save(folder / "photo.jpg", exif=exif)
    return "photo.jpg", "metadata", "labelled person"


def document(folder):
    with zipfile.ZipFile(folder / "slides.pptx", "w") as made:
        ns = 'xmlns:a="urn:a"'
        runs = f"<a:r><a:t>{SCHOOL[:2]}</a:t></a:r><a:r><a:t>{SCHOOL[2:]}</a:t></a:r>"
        made.writestr("ppt/slides/slide1.xml", f"<s {ns}><a:p>{runs}</a:p></s>")
    return "slides.pptx", "ppt/slides/slide1.xml: text", "school"


def properties(folder):
    with zipfile.ZipFile(folder / "old.docx", "w") as made:
        made.writestr("docProps/core.xml", "<c><creator>Somebody Real</creator></c>")
    return "old.docx", "docProps/core.xml: creator", "labelled person"


def nested(folder):
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as made:
        made.writestr("notes.txt", f"one\n{MAIL}")
    (folder / "more.zip").write_bytes(inner.getvalue())
    return "more.zip", "notes.txt: 2", "e-mail address"


def file_name(folder):
    (folder / f"{NAME}.md").write_text("nothing here")
    return f"{NAME}.md", "file name", "name or unit given"


def pdf(folder):
    pypdf = pytest.importorskip("pypdf", reason="the extra `pdf` is not installed")
    writer = pypdf.PdfWriter()
    writer.add_blank_page(100, 100)
    writer.add_metadata({"/Author": "Somebody Real"})
    writer.write(folder / "report.pdf")
    return "report.pdf", "metadata", "labelled person"


MADE = [gbk, binary, image, photo, document, properties, nested, file_name, pdf]


def has(findings, file, place, kind):
    return any(
        f.file == file and f.kind == kind and (place is None or f.place == place) for f in findings
    )


@pytest.mark.parametrize(("file", "content", "line", "kind"), TEXTS, ids=[t[0] for t in TEXTS])
def test_text_is_found_with_file_and_line(tmp_path, file, content, line, kind):
    (tmp_path / file).write_text(content, encoding="utf-8")
    found = scan.scan(tmp_path, WORDS)
    assert has(found, file, line, kind), found


@pytest.mark.parametrize("make", MADE, ids=[m.__name__ for m in MADE])
def test_other_files_are_found_with_their_place(tmp_path, make):
    file, place, kind = make(tmp_path)
    found = scan.scan(tmp_path, WORDS)
    assert has(found, file, place, kind), found


def test_more_than_thirty_kinds_of_places_are_planted():
    assert len(TEXTS) + len(MADE) >= 30


@pytest.mark.parametrize(
    "text",
    [
        "flops 13690208256 17179869184 2886218022912",
        "| 130 134 4180 1319 | 192 5843 1184 22 |",
        "sha256 8f13812345678abc", "1.3812345678e-05", "user@example.com", "/home/user/x",
        "@app.command",
        "x = 'a\\n@functools.lru_cache'",
        "某大学的学生", "大学生", "Student's t", "110101199003071230 is no identity number",
        "float16 661.4, 3032.2 GB/s", "T.alloc_fragment([block_M, block_N])", "2025-01-01 00:00:00",
    ],
)  # fmt: skip
def test_ordinary_text_raises_no_alarm(text):
    assert list(Scanner(WORDS).find(text)) == []


def test_numbers_of_a_journal_raise_no_alarm(tmp_path):
    (tmp_path / "journal.jsonl").write_text(
        json.dumps({"flops": int(MOBILE), "x": [int("186" + "12345678")]})
    )
    assert scan.scan(tmp_path, WORDS) == []


def test_a_line_that_a_person_has_looked_at_is_passed_over():
    assert list(Scanner().find(f"{MAIL}  # personal-data: none")) == []


def test_words_are_private_only_as_a_whole():
    scanner = Scanner([("user name", "lei")])
    assert [m.text for m in scanner.find("lei, sleigh, LEI")] == ["lei", "LEI"]


def test_git_authors_are_private(tmp_path):
    author = ["-c", "user.name=Wei" + " Hua", "-c", "user.email=" + MAIL]
    run = lambda *words: subprocess.run(["git", *words], cwd=tmp_path, check=True)  # noqa: E731
    run("init", "-q")
    run(*author, "commit", "-q", "--allow-empty", "-m", "x")
    words = scan.private_words(tmp_path, [NAME])
    assert {("git author", "Wei" + " Hua"), ("git author", MAIL)} <= set(words)
    assert ("name or unit given", NAME) in words


def test_our_own_source_raises_no_alarm(tmp_path):
    contents.copy_source(workspace.find(REPOSITORY), tmp_path / "source")
    assert scan.scan(tmp_path, scan.private_words(REPOSITORY)) == []
