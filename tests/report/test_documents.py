"""PDF, one-page HTML and slides: what is in them, how they lie on the page, what is missing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mxbench import cli, report
from mxbench.errors import EXIT_ENVIRONMENT, MxbenchError
from mxbench.report import Options, figures, html_page, html_text, pdf, slide_setting, slides
from mxbench.report.texts import Texts

from . import synthetic as s

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
HAS_CJK = figures.chinese_font() is not None
LANGUAGE = "zh" if HAS_CJK else "en"
T = Texts(LANGUAGE)


def can_import(*modules):
    try:
        for name in modules:
            __import__(name)
    except (ImportError, OSError):
        return False
    return True


needs_weasyprint = pytest.mark.skipif(
    not can_import("weasyprint", "pypdf"),
    reason="the extra `pdf`, or Pango, is not installed",
)
needs_pptx = pytest.mark.skipif(
    not can_import("pptx"), reason="the extra `slides` is not installed"
)
needs_cjk = pytest.mark.skipif(not HAS_CJK, reason="no font with Chinese characters is installed")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


PEER = "flash_mla"  # timed for comparison, and slow


def records():
    nsa = s.cases("nsa", "performance")[:7]
    cases = [*s.cases("mla", "functional")[:4], *s.cases("moe", "performance"), *nsa]
    found = []
    for i, case in enumerate(cases):
        found.append(s.timed(case, 0.02 + i / 100, "hopper"))
        found.append(s.timed(case, 0.05 + i / 100, "baseline"))
    return [*found, s.timed(cases[0], 9.0, PEER)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A report with every document that can be made here."""
    folder = tmp_path_factory.mktemp("documents")
    journal = s.write(folder / "journal.jsonl", *records())
    options = Options(pdf=can_import("weasyprint", "pypdf"), html=True, slides=can_import("pptx"))
    report.write([journal], folder / "out", LANGUAGE, workspace=s.HERE, options=options,
                 notify=lambda _: None)  # fmt: skip
    return folder / "out"


# --- PDF ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def laid_out(made):
    """(name, WeasyPrint's pages) of each page."""
    if not can_import("weasyprint"):
        pytest.skip("the extra `pdf`, or Pango, is not installed")
    found = []
    for name in ("design", "performance"):
        document = pdf.document(made / "nvidia-h100" / f"{name}.md", T, "NVIDIA H100")
        found.append((name, document.render().pages))
    return found


def boxes(page, tag):
    return [b for b in page._page_box.descendants() if getattr(b, "element_tag", "") == tag]


@needs_weasyprint
def test_tables_and_code_stay_within_the_page(laid_out):
    for name, pages in laid_out:
        for number, page in enumerate(pages, 1):
            for box in boxes(page, "td") + boxes(page, "th") + boxes(page, "pre"):
                right = box.position_x + box.margin_width()
                assert right <= page.width - 20, f"{name} page {number}"
                words = [b for b in box.descendants() if hasattr(b, "text")]
                assert all(w.position_x + w.width <= page.width - 10 for w in words), (name, number)


@needs_weasyprint
def test_figures_take_at_most_a_third_of_a_page(laid_out):
    heights = [(box.height, page.height) for _, pages in laid_out for page in pages
               for box in boxes(page, "img")]  # fmt: skip
    assert len(heights) >= 8
    assert all(height <= page / 3 for height, page in heights)


@needs_weasyprint
def test_a_page_has_its_number_and_the_contents_lead_to_the_right_one(made):
    import pypdf

    reader = pypdf.PdfReader(made / "nvidia-h100" / "design.pdf")
    texts = [page.extract_text() for page in reader.pages]
    for number, text in enumerate(texts, 1):
        assert f"{number} / {len(texts)}" in text
    wanted = T("mla") if LANGUAGE == "en" else "MLA"
    listed = re.search(rf"{re.escape(wanted)}.*?(\d+)$", texts[0], re.MULTILINE)
    assert listed
    assert wanted in texts[int(listed[1]) - 1]


@needs_weasyprint
@needs_cjk
def test_chinese_is_text_of_an_embedded_font(made):
    import pypdf

    reader = pypdf.PdfReader(made / "nvidia-h100" / "performance.pdf")
    assert "性能测试报告" in reader.pages[0].extract_text()
    fonts: set[str] = set()
    for page in reader.pages:
        fonts |= {str(f.get_object()["/BaseFont"]) for f in page["/Resources"]["/Font"].values()}
    assert any(re.sub(r"\W", "", figures.chinese_font()) in re.sub(r"\W", "", f) for f in fonts)
    assert "\N{REPLACEMENT CHARACTER}" not in reader.pages[0].extract_text()


@needs_weasyprint
def test_a_missing_font_is_an_error_that_names_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "_installed", list)
    journal = s.write(tmp_path / "journal.jsonl", *records()[:2])
    with pytest.raises(MxbenchError, match="no font with Chinese characters") as raised:
        report.write([journal], tmp_path / "out", workspace=s.HERE, options=Options(pdf=True))
    assert "fonts-noto-cjk" in raised.value.hint
    assert raised.value.exit_code == EXIT_ENVIRONMENT
    assert not (tmp_path / "out").exists()


@needs_weasyprint
@needs_cjk
@pytest.mark.parametrize("found", ["libharfbuzz-subset.so.0", None])
def test_it_is_said_what_makes_pdfs_slow(monkeypatch, found):
    monkeypatch.setattr("ctypes.util.find_library", lambda name: found)
    notes: list[str] = []
    pdf.require(Texts("zh"), notes.append)
    assert notes == ([] if found else [pdf.SLOW])


@pytest.mark.parametrize(
    ("module", "option", "package"),
    [("weasyprint", "--pdf", "mxbench[pdf]"), ("pptx", "--slides", "mxbench[slides]")],
)
def test_a_missing_extra_is_named_before_any_work(tmp_path, monkeypatch, module, option, package):
    monkeypatch.setitem(sys.modules, module, None)
    journal = s.write(tmp_path / "journal.jsonl", *records()[:2])
    words = ["report", "--journal", str(journal), "--out", str(tmp_path / "out"), option]
    result = CliRunner().invoke(cli.app, words)
    assert isinstance(result.exception, MxbenchError)
    assert package in result.exception.hint
    assert not (tmp_path / "out").exists()


# --- HTML ---------------------------------------------------------------------------------------


def test_the_page_needs_nothing_from_outside(made):
    page = (made / report.HTML).read_text()
    asked = re.findall(r'(?:src|href)="([^"#][^"]*)"|url\(([^)]+)\)|@import', page)
    assert {a or b for a, b in asked} <= {
        x for x in (a or b for a, b in asked) if x.startswith(("data:", "#"))
    }
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page)
    assert page.count("<svg ") >= 10


def test_links_within_the_page_lead_somewhere(made):
    page = (made / report.HTML).read_text()
    anchors = set(re.findall(r' id="([^"]+)"', page))
    menu = re.findall(r'<a href="#([^"]+)"', page)
    assert len(menu) > 20
    assert set(menu) <= anchors


def test_charts_take_the_page_s_colours():
    svg = (
        '<?xml version="1.0"?>\n<svg width="5pt" height="4pt" viewBox="0 0 5 4"><!-- x -->'
        '<path style="fill: #ffffff; stroke: #222222" d="M 1.23456 2"/>'
        '<g transform="scale(0.015625)"/></svg>'
    )
    assert html_page.themed(svg) == (
        '<svg viewBox="0 0 5 4"><path style="fill: var(--paper); stroke: var(--ink)" d="M 1.23 2"/>'
        '<g transform="scale(0.015625)"/></svg>'
    )


def test_html_in_a_record_is_shown_as_text():
    body = html_text.render(
        "# t\n\n<script>alert(1)</script>\n\n<!-- gone -->\n", "x", lambda *_: ""
    )
    assert "<script>" not in body.html
    assert "gone" not in body.html


def browse(folder, page, script, width, dark=False):
    """Run a script in the page in a frame of that width; returns (its answer, a screenshot)."""
    copy = folder / f"page-{width}-{dark}.html"
    answer = f"JSON.stringify((() => {{{script}}})())"
    tell = f"addEventListener('load', () => parent.postMessage({answer}, '*'));"
    copy.write_text(f"{page.read_text()}<script>{tell}</script>")
    frame = folder / f"frame-{width}-{dark}.html"
    frame.write_text(
        '<meta charset="utf-8"><body style="margin:0">'
        f'<iframe src="{copy.name}" width="{width}" height="900" style="border:0"></iframe>'
        '<script>addEventListener("message", (e) => '
        "document.body.setAttribute('data-answer', e.data))</script>"
    )
    shot = folder / f"shot-{width}-{dark}.png"
    command = [
        CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
        f"--window-size={max(width, 500)},900", "--virtual-time-budget=6000",
        f"--user-data-dir={folder / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND",
    ]  # fmt: skip
    command += ["--blink-settings=preferredColorScheme=0"] if dark else []
    url = frame.as_uri()
    done = subprocess.run(
        [*command, "--dump-dom", url], capture_output=True, text=True, timeout=120
    )
    subprocess.run([*command, f"--screenshot={shot}", url], capture_output=True, timeout=120)
    answer = re.search(r'data-answer="([^"]*)"', done.stdout)
    assert answer, done.stderr[-500:]
    return answer[1].replace("&quot;", '"').replace("&amp;", "&"), shot


LOOK = """
const style = getComputedStyle(document.body);
return [document.documentElement.scrollWidth <= innerWidth, style.backgroundColor,
        getComputedStyle(document.getElementById('menu')).display !== 'none'];
"""


@needs_chromium
@pytest.mark.parametrize(
    ("width", "dark", "answer", "corner"),
    [
        (1400, False, '[true,"rgb(255, 255, 255)",false]', (255, 255, 255)),
        (1400, True, '[true,"rgb(20, 24, 30)",false]', (20, 24, 30)),
        (390, False, '[true,"rgb(255, 255, 255)",true]', (255, 255, 255)),
        (390, True, '[true,"rgb(20, 24, 30)",true]', (20, 24, 30)),
    ],
)
def test_desktop_and_phone_light_and_dark(made, tmp_path, width, dark, answer, corner):
    from PIL import Image

    said, shot = browse(tmp_path, made / report.HTML, LOOK, width, dark)
    assert said == answer
    with Image.open(shot) as image:
        assert image.convert("RGB").getpixel((width - 3, 880)) == corner
        colours = image.convert("RGB").crop((0, 0, width, 900)).getcolors(1 << 20)
    assert len(colours) > 30  # a page with text, not an empty one
    keep = os.environ.get("MXBENCH_SCREENSHOTS")
    if keep:
        Path(keep).mkdir(parents=True, exist_ok=True)
        shutil.copy(shot, keep)


SORT = """
const table = [...document.querySelectorAll('table')].find((t) => t.tBodies[0].rows.length > 12);
const heads = [...table.tHead.rows[0].cells];
const column = heads.findIndex((c) => /case|用例/.test(c.textContent));
const read = () => [...table.tBodies[0].rows].map((r) => r.cells[column].textContent);
const before = read(), button = table.tHead.rows[0].cells[column].querySelector('button');
button.click(); const up = read();
button.click(); const down = read();
const input = table.closest('div.table').querySelector('input');
const word = table.tBodies[0].rows[0].cells[column].textContent.trim();
input.value = word; input.dispatchEvent(new Event('input'));
const shown = [...table.tBodies[0].rows].filter((r) => !r.hidden);
return [up.length === before.length, String(up) !== String(down),
        new Set(up).size < up.length || up.join() === [...down].reverse().join(),
        shown.length > 0 && shown.length < up.length,
        shown.every((r) => r.textContent.includes(word))];
"""


@needs_chromium
def test_tables_sort_and_filter(made, tmp_path):
    said, _ = browse(tmp_path, made / report.HTML, SORT, 1400)
    assert said == "[true,true,true,true,true]"


# --- slides -------------------------------------------------------------------------------------


def deck(made):
    from pptx import Presentation

    return Presentation(str(made / "nvidia-h100" / report.SLIDES))


@needs_pptx
def test_about_ten_slides_with_titles_charts_and_notes(made):
    pages = list(deck(made).slides)
    assert 9 <= len(pages) <= 13
    for page in pages:
        assert page.notes_slide.notes_text_frame.text.strip()
    pictures = [s for page in pages for s in page.shapes if s.shape_type == 13]
    tables = [s for page in pages for s in page.shapes if s.has_table]
    assert len(pictures) >= 6
    assert len(tables) >= 3


@needs_pptx
def test_slides_speak_of_what_is_handed_in_of_every_operator(made):
    pages = list(deck(made).slides)
    tables = [sh.table for page in pages for sh in page.shapes if sh.has_table]
    rows = [[cell.text for cell in row.cells] for table in tables for row in table.rows]
    results = [(row[0], row[2]) for row in rows if row[2] == "hopper"]
    assert [op for op, _ in results] == ["moe", "mla", "nsa"]
    said = [sh.text_frame.text for page in pages for sh in page.shapes if sh.has_text_frame]
    assert not any(PEER in text or "9 ms" in text for text in said)
    assert not any(PEER in cell for row in rows for cell in row)


def test_bullets_get_smaller_until_they_fit():
    lines = ["字" * 40] * 7
    assert slide_setting._fitting(lines[:1], 5.0, 5.5, 15) == 15
    size = slide_setting._fitting(lines, 3.0, 5.5, 15)
    assert slide_setting.SMALLEST < size < 15
    assert slide_setting._fitting(lines * 9, 3.0, 5.5, 15) == slide_setting.SMALLEST


@needs_pptx
def test_nothing_lies_outside_a_slide(made):
    shown = deck(made)
    for number, page in enumerate(shown.slides, 1):
        for shape in page.shapes:
            assert shape.left >= 0 and shape.top >= 0, number
            assert shape.left + shape.width <= shown.slide_width, number
            assert shape.top + shape.height <= shown.slide_height, number


@needs_pptx
def test_slides_name_nobody_and_repeat(made, tmp_path):
    assert deck(made).core_properties.author == ""
    with zipfile.ZipFile(made / "nvidia-h100" / report.SLIDES) as inside:
        assert {m.date_time for m in inside.infolist()} == {(1980, 1, 1, 0, 0, 0)}


@needs_pptx
def test_a_cpu_s_results_make_no_slides(tmp_path):
    journal = s.write(
        tmp_path / "journal.jsonl", s.record(s.cases("mla", "functional")[0], device=s.CPU)
    )
    with pytest.raises(MxbenchError, match="no timing of a GPU") as raised:
        report.write(
            [journal], tmp_path / "out", "en", workspace=s.HERE, options=Options(slides=True)
        )
    assert raised.value.exit_code == 2


def test_without_a_font_list_of_today_new_fonts_are_found(monkeypatch, tmp_path):
    """matplotlib keeps its list of fonts on disk: one installed since must be found too."""
    from matplotlib import font_manager

    path = font_manager.findfont(figures.LATIN)
    newer = tmp_path / "SomethingCJK.ttf"
    newer.write_bytes(Path(path).read_bytes())
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [str(newer)])
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [])
    assert figures._just_installed() == {figures.LATIN}


def test_the_slide_s_bullets_are_short():
    assert slides._lead("One", "First. Second.") == "One: First."
    assert len(slides._lead("x", "y" * 300)) == slides.LONGEST
