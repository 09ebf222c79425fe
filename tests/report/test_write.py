"""The whole report: its files, its charts, and the command that writes it."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from mxbench import cli, report
from mxbench.errors import MxbenchError
from mxbench.report import figures

from . import synthetic as s

MOE, MLA = s.cases("moe", "performance"), s.cases("mla", "performance")
PNG = b"\x89PNG\r\n\x1a\n"


def pair(case, fast, slow):
    return [s.timed(case, fast), s.timed(case, slow, "baseline")]


def write(tmp_path, *records, language="en", folder="out", **more):
    journal = s.write(tmp_path / "run" / "journal.jsonl", *records)
    notes = []
    out = tmp_path / folder
    report.write([journal], out, language, workspace=s.HERE, notify=notes.append, **more)
    return out, notes


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A report with each kind of chart: rows, curves, and bands."""
    folder = tmp_path_factory.mktemp("drawn")
    nsa = s.cases("nsa", "functional")[:60]
    records = [r for case in (*MOE, *MLA[:11], *nsa) for r in pair(case, 0.02, 0.05)]
    return write(folder, *records, s.record(MLA[0], device=s.CPU))[0]


def svg_text(path):
    """The words of a chart: glyphs are paths, and matplotlib leaves their text as comments."""
    builder = ElementTree.TreeBuilder(insert_comments=True)
    root = ElementTree.parse(path, ElementTree.XMLParser(target=builder)).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    return "\n".join(e.text for e in root.iter(ElementTree.Comment))


def test_every_device_has_its_pages_and_the_summary_links_them(drawn):
    summary = (drawn / "summary.md").read_text()
    for folder in ("nvidia-h100", "intel-xeon-platinum-8480"):
        for page in ("functional.md", "performance.md"):
            assert (drawn / folder / page).is_file()
            assert f"({folder}/{page})" in summary
    assert not (drawn / "intel-xeon-platinum-8480" / "charts").exists()


def test_every_chart_is_a_picture_and_stands_in_the_page(drawn):
    page = (drawn / "nvidia-h100" / "performance.md").read_text()
    for suite in ("moe-performance", "mla-performance", "nsa-functional"):
        for kind in ("latency", "speedup", "roofline"):
            stem = drawn / "nvidia-h100" / "charts" / f"{suite}-{kind}"
            assert stem.with_suffix(".png").read_bytes().startswith(PNG)
            words = svg_text(stem.with_suffix(".svg"))
            assert "NVIDIA H100 80GB HBM3 · rule xh-202608 · mean of 100 calls" in words
            assert f"(charts/{stem.name}.svg)" in page


def test_charts_say_what_they_show(drawn):
    charts = drawn / "nvidia-h100" / "charts"
    rows = svg_text(charts / "moe-performance-latency.svg")
    assert "E8 H7168 I2048 B4 T8192 K4" in rows
    assert "20.00 µs" in rows
    curves = svg_text(charts / "mla-performance-latency.svg")
    assert "batch 2" in curves
    assert "KV length (tokens)" in curves
    bands = svg_text(charts / "nsa-functional-latency.svg")
    assert "line: median; band: least to most" in bands
    assert "B1" not in bands  # sixty cases have no room for labels
    assert "portable: geometric mean 2.50×" in svg_text(charts / "mla-performance-speedup.svg")
    roofs = svg_text(charts / "moe-performance-roofline.svg")
    assert "756.0 TFLOP/s, 3010 GB/s" in roofs


def test_the_same_journal_gives_the_same_bytes(tmp_path):
    records = [r for case in MOE for r in pair(case, 2.0, 5.0)]
    first, _ = write(tmp_path, *records, folder="a")
    second, _ = write(tmp_path, *records, folder="b")
    files = sorted(p.relative_to(first) for p in first.rglob("*") if p.is_file())
    assert len(files) == 14
    for file in files:
        assert (first / file).read_bytes() == (second / file).read_bytes(), file


def test_no_baseline_no_speedup_chart_and_no_bound_no_roofline(tmp_path):
    out, _ = write(tmp_path, s.timed(MOE[0], 18.0, bound=None))
    names = {p.name for p in (out / "nvidia-h100" / "charts").iterdir()}
    assert names == {"moe-performance-latency.svg", "moe-performance-latency.png"}


def test_no_chart_of_an_earlier_journal_stays(tmp_path):
    write(tmp_path, *pair(MOE[0], 18.0, 50.0))
    out, _ = write(tmp_path, s.timed(MOE[0], 18.0, bound=None))
    names = {p.name for p in (out / "nvidia-h100" / "charts").iterdir()}
    assert names == {"moe-performance-latency.svg", "moe-performance-latency.png"}


def test_a_slower_kernel_and_names_no_font_has_are_drawn(tmp_path):
    records = [s.timed(MOE[0], 60.0, "快核"), s.timed(MOE[0], 50.0, "baseline")]
    out, _ = write(tmp_path, *records)
    words = svg_text(out / "nvidia-h100" / "charts" / "moe-performance-speedup.svg")
    assert "0.833×" in words
    assert "??: geometric mean" in words


def test_a_suite_s_name_cannot_leave_the_folder(tmp_path):
    out, _ = write(tmp_path, s.timed(MOE[0], 18.0, suite="../../evil"))
    assert not list(tmp_path.rglob("evil*"))
    assert (out / "nvidia-h100" / "charts" / "moe-______evil-latency.svg").is_file()


def test_without_a_chinese_font_charts_are_english_and_say_so(tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "_installed", list)
    out, notes = write(tmp_path, s.timed(MOE[0], 18.0), language="zh")
    assert notes == [figures.NO_FONT]
    words = svg_text(out / "nvidia-h100" / "charts" / "moe-performance-latency.svg")
    assert "mean time (ms)" in words
    assert "性能测试报告" in (out / "nvidia-h100" / "performance.md").read_text()


def test_a_font_that_lacks_a_character_is_not_taken(monkeypatch):
    monkeypatch.setattr(figures, "_installed", lambda: [figures.LATIN])
    assert figures._fonts({ord("算")}) is None
    assert figures._fonts({ord("×")}) == [figures.LATIN]


def test_damaged_lines_are_told_and_stand_in_the_summary(tmp_path):
    journal = s.write(tmp_path / "run" / "journal.jsonl", s.record(MLA[0]))
    journal.write_bytes(journal.read_bytes() + b'{"schema"\n')
    notes = []
    report.write([journal], tmp_path / "out", workspace=s.HERE, notify=notes.append)
    assert notes[0].startswith("run/journal.jsonl:2: ")
    assert "run/journal.jsonl:2" in (tmp_path / "out" / "summary.md").read_text()


def test_pages_hold_no_path_of_this_machine(tmp_path):
    out, _ = write(tmp_path, s.record(MLA[0]))
    for page in out.rglob("*.md"):
        assert str(tmp_path) not in page.read_text()


def test_the_title_goes_before_every_title(tmp_path):
    out, _ = write(tmp_path, s.record(MLA[0]), title="Team 7")
    for page in out.rglob("*.md"):
        assert page.read_text().startswith("# Team 7 ")


@pytest.mark.parametrize("blocked", ["out", "out/nvidia-h100"])
def test_a_folder_that_cannot_be_written_is_named(tmp_path, blocked):
    (tmp_path / blocked).parent.mkdir(exist_ok=True)
    (tmp_path / blocked).write_text("a file, no folder")
    with pytest.raises(MxbenchError, match="cannot write results to") as raised:
        write(tmp_path, s.record(MLA[0]))
    assert raised.value.exit_code == 2


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"language": "fr"}, "unknown language 'fr'"),
        ({"rule": "xh-2026"}, "unknown rule 'xh-2026'"),
    ],
)
def test_an_unknown_language_or_rule_is_an_error(tmp_path, more, message):
    with pytest.raises(MxbenchError, match=message) as raised:
        write(tmp_path, s.record(MLA[0]), **more)
    assert raised.value.hint
    assert not (tmp_path / "out").exists()


# --- the command --------------------------------------------------------------------------------


def test_the_command_prints_what_it_wrote(tmp_path):
    journal = s.write(tmp_path / "journal.jsonl", s.record(MLA[0]))
    out = tmp_path / "reports"
    result = CliRunner().invoke(
        cli.app, ["report", "--out", str(out), "--journal", str(journal), "--lang", "en"]
    )
    assert result.exit_code == 0, result.output
    paths = [Path(line) for line in result.stdout.splitlines()]
    assert paths[0] == out / "summary.md"
    assert all(path.is_file() for path in paths)
    assert "Functional test report" in (out / "nvidia-h100" / "functional.md").read_text()


def test_by_default_the_journals_under_out_are_taken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    s.write(tmp_path / "reports" / "nvidia-h100" / "journal.jsonl", s.record(MLA[0]))
    assert CliRunner().invoke(cli.app, ["report", "--out", "reports"]).exit_code == 0
    assert "功能测试报告" in Path("reports/nvidia-h100/functional.md").read_text()


def test_no_journal_ends_with_exit_code_2_and_a_hint(tmp_path):
    env = {**os.environ, "PYTHONPATH": str(Path(report.__file__).parents[2])}
    result = subprocess.run(
        [sys.executable, "-m", "mxbench", "report", "--out", "reports"],
        cwd=tmp_path, env=env, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 2
    assert result.stderr.startswith("error: no journal")
    assert "hint: run `mxbench check`" in result.stderr
    assert "Traceback" not in result.stderr


def test_rendering_imports_neither_torch_nor_tilelang(tmp_path):
    journal = s.write(tmp_path / "journal.jsonl", s.timed(MOE[0], 18.0))
    code = (
        "import sys\nfrom pathlib import Path\nfrom mxbench import report, workspace\n"
        f"report.write([Path({str(journal)!r})], Path({str(tmp_path / 'out')!r}), "
        "workspace=workspace.bundled())\n"
        "print(*(m for m in ('torch', 'tilelang', 'numpy.testing') if m in sys.modules))"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(report.__file__).parents[2])}
    result = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == ""


def test_the_journal_of_an_interrupted_run_is_rendered_as_far_as_it_goes(tmp_path):
    journal = s.write(tmp_path / "journal.jsonl", *map(s.record, MLA[:3]))
    journal.write_bytes(journal.read_bytes() + msgspec.json.encode(s.record(MLA[3]))[:200])
    report.write([journal], tmp_path / "out", "en", workspace=s.HERE, notify=lambda _: None)
    page = (tmp_path / "out" / "nvidia-h100" / "functional.md").read_text()
    assert "missing 28 of 31 cases" in page
