"""A hand-in is built whole or not at all, repeats byte for byte, and runs when unpacked."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from pathlib import Path

import pytest

from mxbench import package
from mxbench.errors import MxbenchError
from mxbench.package import HandIn, Request, contents
from tests import sandbox
from tests.report import synthetic as s

from .conftest import installed, journal, make, needs_pdf, records

ME = HandIn("Star River Team", "Li Leiming", "Fast operators", "138" + "12345678")


def build(here, out, me=ME, **more):
    path = here.root / "reports" / "nvidia-h100" / "journal.jsonl"
    request = Request(journals=(path,), language="en", **{"smoke": False, **more})
    return package.build(request, me, out, here, lambda _: None)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """(workspace, zip) of a good hand-in with slides."""
    if not installed("weasyprint", "pypdf", "pptx"):
        pytest.skip("the extras `pdf` and `slides` are not installed")
    folder = tmp_path_factory.mktemp("built")
    here = make(folder / "work")
    journal(here)
    path, found = build(here, folder / "out", slides=True)
    assert found.ok, found
    return here, path


def test_the_zip_has_the_rule_s_name_and_all_parts(built):
    _, path = built
    assert path.name == "Star River Team－Li Leiming－Fast operators－" + "138" + "12345678.zip"
    names = set(zipfile.ZipFile(path).namelist())
    assert {
        "README.md", "MANIFEST.json", "design-report.pdf", "functional-report.pdf",
        "performance-report.pdf", "results/journal.jsonl", "presentation/slides.pptx",
        "source/kernels/mla/good.py", "source/cases/mla/functional.json", "source/LICENSE",
    } <= names  # fmt: skip


def test_names_stand_nowhere_inside(built):
    _, path = built
    with zipfile.ZipFile(path) as made:
        for name in made.namelist():
            data = made.read(name)
            for word in ME.private:
                assert word.encode() not in data, name


def test_two_builds_are_the_same_bytes(built, tmp_path):
    here, path = built
    again, _ = build(here, tmp_path, slides=True)
    assert again.read_bytes() == path.read_bytes()


def test_an_inspection_of_the_zip_finds_it_whole(built):
    here, path = built
    found = package.inspect(path, here)
    assert found.ok
    assert {i.name for i in found.items if not i.found} == {"video"}


def test_the_manifest_tells_a_changed_file(built, tmp_path):
    _, path = built
    zipfile.ZipFile(path).extractall(tmp_path)
    assert contents.damaged(tmp_path) == []
    (tmp_path / "README.md").write_text("other")
    (tmp_path / "source" / "LICENSE").unlink()
    assert contents.damaged(tmp_path) == [
        "README.md: changed since it was packed",
        "source/LICENSE: in the manifest, but not there",
    ]


@needs_pdf
def test_personal_information_is_refused_and_no_zip_written(here, tmp_path):
    journal(here)
    (here.kernels / "mla" / "notes.md").write_text("ok\ncall " + ME.phone + "\n")
    out = tmp_path / "out"
    _, found = build(here, out)
    assert not found.ok
    assert any(
        (f.file, f.place, f.kind) == ("source/kernels/mla/notes.md", "2", "name or unit given")
        for f in found.findings
    )
    assert list(out.iterdir()) == []


@needs_pdf
def test_a_zip_over_the_limit_is_refused(here, tmp_path):
    journal(here)
    with pytest.raises(MxbenchError, match=r"the zip has .* MiB, the limit is 0\.0 MiB") as raised:
        build(here, tmp_path / "out", size_limit=10_000)
    assert raised.value.exit_code == 2
    assert list((tmp_path / "out").iterdir()) == []


def no_journal(here):
    (here.root / "reports").mkdir()


def cpu_only(here):
    journal(here, *(s.record(r_case(here, i), "good", s.CPU) for i in range(3)))


def r_case(here, i):
    from mxbench.case import load_suite

    return load_suite(here, "mla", "functional").cases[i]


def incomplete(here):
    journal(here, *records(here)[:2])


def untimed(here):
    journal(here, *(s.record(r_case(here, i), "good") for i in range(3)))


def no_design(here):
    journal(here)
    (here.kernels / "mla" / "DESIGN.md").unlink()


def empty_design(here):
    journal(here)
    (here.kernels / "mla" / "DESIGN.md").write_text("# mla\n\n")


def unknown_table(here):
    journal(here)
    (here.kernels / "mla" / "DESIGN.md").write_text("# mla\n\ntext\n\n<!-- journal: flor -->\n")


def two_devices(here):
    more = [s.timed(r_case(here, i), 0.02, "good", device="NVIDIA H200") for i in range(3)]
    journal(here, *records(here), *more)


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (no_journal, "no journal at"),
        (cpu_only, "results of a CPU alone"),
        (incomplete, "mla/functional is incomplete: 2 of 3 cases have no result with kernel good"),
        (untimed, "no GPU timing under rule xh-202608"),
        (no_design, "no kernels/mla/DESIGN.md"),
        (empty_design, "kernels/mla/DESIGN.md is empty"),
        (unknown_table, "kernels/mla/DESIGN.md:5: no table of kind 'flor'"),
        (two_devices, "the journals are of several devices"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_missing_is_named_before_anything_is_written(here, tmp_path, prepare, message):
    if prepare in (empty_design, unknown_table) and not installed("weasyprint"):
        pytest.skip("the extra `pdf` is not installed")
    prepare(here)
    out = tmp_path / "out"
    with pytest.raises(MxbenchError, match=message) as raised:
        build(here, out)
    assert raised.value.exit_code == 2
    assert raised.value.hint
    assert not list(out.rglob("*"))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("title", "a/b", "'/' cannot stand in a file's name"),
        ("title", "a\nb", "cannot stand in a file's name"),
        ("unit", " ", "--unit is empty"),
        ("name", "a－b", "separates the parts"),
        ("phone", "call me", "is no phone number"),
        ("title", "长" * 90, "too long"),
    ],
)
def test_a_part_of_the_name_that_cannot_be_one_is_refused(field, value, message):
    parts = {"unit": "u", "name": "n", "title": "t", "phone": "12345"}
    with pytest.raises(MxbenchError, match=message) as raised:
        HandIn(**{**parts, field: value})
    assert raised.value.exit_code == 2


# --- the command --------------------------------------------------------------------------------

NAMES = ("--unit", ME.unit, "--name", ME.name, "--title", ME.title, "--phone", ME.phone)


@needs_pdf
def test_the_command_builds_verifies_by_running_and_prints_the_zip(here, tmp_path):
    journal(here)
    done = sandbox.run(here.root, "package", *NAMES, "--lang", "en", "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    made = Path(done.stdout.strip())
    assert zipfile.is_zipfile(made)
    assert "passes from the unpacked source" in done.stderr
    assert "complete, and no personal information found" in done.stderr
    checked = sandbox.run(here.root, "package", "--check", str(made))
    assert checked.returncode == 0, checked.stderr
    assert [p.name for p in (tmp_path / "out").iterdir()] == [made.name]


@needs_pdf
def test_source_that_does_not_run_when_unpacked_is_refused(here, tmp_path):
    journal(here)
    (here.root / ".gitignore").write_text("table.txt\n")
    kernel = here.kernels / "mla" / "good.py"
    kernel.write_text(kernel.read_text() + "\nopen(__file__[:-7] + 'table.txt').close()\n")
    (here.kernels / "mla" / "table.txt").write_text("")
    for words in (["init", "-q"], ["add", "-A"]):
        sandbox.subprocess.run(["git", *words], cwd=here.root, check=True)
    out = tmp_path / "out"
    done = sandbox.run(here.root, "package", *NAMES, "--lang", "en", "--out", str(out))
    assert done.returncode == 2, done.stderr
    assert "unpacked, `mxbench check mla" in done.stderr
    assert list(out.iterdir()) == []


def test_a_missing_part_of_the_name_is_asked_for_or_named(here):
    journal(here)
    done = sandbox.run(here.root, "package", *NAMES[2:])
    assert done.returncode == 2
    assert "error: --unit is missing" in done.stderr


@needs_pdf
def test_a_check_of_the_hand_in_to_be_writes_nothing(here):
    path = journal(here)
    (here.kernels / "mla" / "DESIGN.md").write_text(
        "# mla\n\nBy hand. Mail li" + "@" + "sample.cn\n"
    )
    kernel = here.kernels / "mla" / "good.py"
    kernel.write_text(kernel.read_text().replace("# lint: allow", "# once there was a reason:"))
    words = ("--check", "--lang", "en", "--journal", str(path))
    before = sorted(here.root.rglob("*"))
    done = sandbox.run(here.root, "package", *words)
    assert done.returncode == 1, done.stderr
    assert "PERSONAL source/kernels/mla/DESIGN.md:3: e-mail address: li" in done.stderr
    assert re.search(r"PERSONAL design-report\.pdf:page \d: e-mail address: li", done.stderr)
    assert "PERSONAL results/design.md:" in done.stderr
    assert "has no fenced block; the rule asks for pseudocode" in done.stderr
    assert "BANNED   mla/good: good.py:" in done.stderr
    assert "mla/good: 3 results are of another version of its source" in done.stderr
    assert re.search("refused: 0 missing, 3 personal, 0 damaged, 10 banned", done.stderr)
    assert sorted(here.root.rglob("*")) == before


@needs_pdf
def test_a_full_disk_leaves_nothing_behind(here, tmp_path):
    journal(here)
    out = tmp_path / "out"
    done = sandbox.run(
        here.root, "package", *NAMES, "--lang", "en", "--out", str(out), file_limit=60_000
    )
    assert done.returncode == 2, done.stderr
    assert "error: cannot write results to" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(out.iterdir()) == []


def test_names_are_kept_nowhere(built):
    here, _ = built
    for path in here.root.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert ME.name.encode() not in data and ME.phone.encode() not in data, path


def test_a_hand_in_made_by_hand_is_inspected_too(here, tmp_path):
    folder = tmp_path / "theirs"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "kernel.py").write_text("import tilelang\n")
    (folder / "readme.txt").write_text(
        "Run:\n    pip install -r requirements.txt\n    python test_all.py\n"
    )
    (folder / "run.log").write_text("ok\n")
    path = shutil.make_archive(str(tmp_path / "theirs"), "zip", folder)
    done = sandbox.run(here.root, "package", "--check", path)
    assert done.returncode == 1
    lines = [line.split("  ")[0].strip() for line in done.stderr.splitlines()]
    assert lines[:8] == ["MISSING"] * 3 + ["ok"] * 4 + ["MISSING"]
    assert "NAME     the zip's name is not unit－name－title－phone" in done.stderr


def test_a_manifest_that_is_none_is_told(tmp_path):
    (tmp_path / "MANIFEST.json").write_text(json.dumps([1]))
    assert contents.damaged(tmp_path) == ["MANIFEST.json: not a manifest"]
