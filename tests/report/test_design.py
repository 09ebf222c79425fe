"""The design report: words from DESIGN.md, figures from the journal and the compiler."""

from __future__ import annotations

import msgspec
import pytest

from mxbench import report, resources
from mxbench.errors import MxbenchError
from mxbench.record import Record
from mxbench.report import ablation, design_text, measured
from mxbench.report.design_text import KINDS
from mxbench.workspace import Workspace

from . import synthetic as s

MLA = s.cases("mla", "functional")
USE = resources.Use(
    op="mla", kernel="hopper", program="_turned.attend", sizes={"block_n": 64}, threads=160,
    registers=128, shared=165 << 10, spills=0,
)  # fmt: skip


def test_marks_are_filled_and_what_stood_there_is_replaced():
    first = "a\n\n<!-- journal: floor -->\n| old |\n<!-- end journal -->\n\n"
    text = first + "b\n\n<!-- journal: errors -->\n\nc"
    assert design_text.marked(text) == {"floor", "errors"}
    filled = design_text.fill(text, {"floor": "| new |", "errors": "picture"})
    assert filled == "a\n\n| new |\n\nb\n\npicture\n\nc"


def test_headings_go_down_but_not_in_code():
    text = "## A\n\n```\n# comment\n```\n\n##### B\n"
    assert design_text.demote(text, 2) == "#### A\n\n```\n# comment\n```\n\n###### B\n"


def test_leads_paragraphs_and_pseudocode_are_told_apart():
    text = "Say.\nMore.\n\n1. **One.** First\n   line.\n2. **Two** rest\n\n"
    text += "```\ncode\n```\n\n| a |\n|---|\n"
    assert design_text.leads(text) == [("One", "First line."), ("Two", "rest")]
    assert design_text.paragraphs(text) == ["Say. More."]
    assert design_text.pseudocode(text) == ["code"]


def write(tmp_path, *records, workspace=s.HERE, language="en", known=None):
    out = tmp_path / "out"
    journal = s.write(tmp_path / "journal.jsonl", *records)
    if known is not None:
        (out / "nvidia-h100").mkdir(parents=True)
        (out / "nvidia-h100" / resources.FILE).write_bytes(msgspec.json.encode(known))
    notes: list[str] = []
    report.write([journal], out, language, workspace=workspace, notify=notes.append)
    page = out / "nvidia-h100" / "design.md"
    return (page.read_text() if page.exists() else ""), notes


def pairs(count=3, **more) -> list[Record]:
    found = []
    for case in MLA[:count]:
        found += [s.timed(case, 0.02, "hopper", **more), s.timed(case, 0.05, "baseline")]
    return found


def test_the_page_has_floor_steps_errors_and_the_design_s_words(tmp_path, row):
    page, _ = write(tmp_path, *pairs())
    assert page.startswith("# Algorithm design report: NVIDIA H100 80GB HBM3\n")
    assert "A tile is loaded once and used twice" in page
    cells = row(page, f"`{MLA[0].name}`", "71.3 M")
    assert cells[4] == "launch" and cells[6] == "hopper" and cells[-1] == "2.50×"
    assert "50.00 µs (1.00×)" in page and "20.00 µs (2.50×)" in page
    assert "](charts/mla-ablation.svg)" in page and "](charts/mla-errors.svg)" in page
    assert "mxbench report --resources" in page


def test_the_chinese_text_is_taken_where_there_is_one(tmp_path):
    page, _ = write(tmp_path, *pairs(), language="zh")
    assert "一次装载，两次使用" in page
    assert "<!-- journal" not in page
    for kind in ("逐步改进", "正确性与误差", "资源占用", "伪代码"):
        assert kind in page


def test_resources_beside_the_journal_are_shown(tmp_path, row):
    known = resources.Resources(
        schema=1, arch="sm_90a", compiler="nvcc 13.0", shas={"mla/hopper": "ab12"},
        programs=(USE,),
    )  # fmt: skip
    page, _ = write(tmp_path, *pairs(), known=known)
    cells = row(page, "`hopper: _turned.attend`")
    assert cells[1:] == ["block_n=64", "160", "128", "165.0", "0", "1", "7.8 %"]
    assert "Read from nvcc 13.0 for sm_90a" in page and "mla/hopper `ab12`" in page


def test_versions_of_a_kernel_are_steps_in_the_order_of_their_runs(tmp_path):
    old = [
        s.timed(c, 0.04, "hopper", kernel_sha="1" * 16, run="20240101-000000-aaaa") for c in MLA[:2]
    ]
    page, _ = write(tmp_path, *old, *pairs(2, kernel_sha="2" * 16))
    head = next(line for line in page.splitlines() if "hopper@11111111" in line and "|" in line)
    assert head.index("baseline") < head.index("hopper@11111111") < head.index("hopper@22222222")
    assert "40.00 µs (1.25×)" in page


def test_many_cases_are_thinned_from_the_smallest_to_the_largest(pages):
    records = [r for c in MLA for r in (s.timed(c, 0.02, "hopper"), s.timed(c, 0.05, "baseline"))]
    context = pages.context(*records)
    found = measured.timings(context.device, context.catalog)
    made = ablation.ablation("mla", context, found)
    assert made is not None
    assert len(made.cases) == ablation.MOST_CASES
    floors = [made.floors[case] for case in made.cases]
    assert floors == sorted(floors)
    assert floors[-1] == max(m.floor for m in found.all)


def test_what_auto_takes_is_the_last_step_and_a_peer_is_none(pages):
    names = ("torch_grouped", "hopper", "portable", "baseline")
    case = s.cases("moe", "judge")[0]
    context = pages.context(*(s.timed(case, 1 + i, name) for i, name in enumerate(names)))
    made = ablation.ablation("moe", context, measured.timings(context.device, context.catalog))
    assert made is not None
    steps = [kernel for kernel, _ in made.steps]
    assert steps == ["baseline", "portable", "hopper"]


def test_one_kernel_alone_has_no_steps(tmp_path):
    page, _ = write(tmp_path, s.timed(MLA[0], 0.02))
    assert "No case of the journal was timed under two kernels" in page


def test_an_operator_without_a_design_text_is_left_out_and_told(tmp_path):
    here = Workspace(tmp_path / "kernels", s.HERE.cases, tmp_path)
    (tmp_path / "kernels" / "mla").mkdir(parents=True)
    (tmp_path / "kernels" / "common").symlink_to(s.HERE.kernels / "common")
    page, notes = write(tmp_path, *pairs(), workspace=here)
    assert page == ""
    assert "no kernels/mla/DESIGN.md: the design report leaves mla out" in notes


@pytest.mark.parametrize("op", ["moe", "mla", "nsa"])
@pytest.mark.parametrize("language", ["zh", "en"])
def test_our_own_design_texts_can_be_read(op, language):
    path = design_text.path_of(s.HERE, op, language)
    assert path is not None
    text = design_text.read(path)
    assert design_text.leads(text)
    if language == "zh":
        assert design_text.marked(text) == set(KINDS)
        assert design_text.pseudocode(text)


def test_a_text_that_is_not_utf8_is_named(tmp_path):
    path = tmp_path / "mla" / "DESIGN.md"
    path.parent.mkdir()
    path.write_bytes(b"# x\n\n\xff\xfe")
    with pytest.raises(MxbenchError, match=r"cannot read kernels/mla/DESIGN\.md"):
        design_text.read(path)
