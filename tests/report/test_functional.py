"""The functional report: pass rates over whole suites, every parameter, every failure."""

from __future__ import annotations

import json
import shutil

import pytest

from mxbench.case import override
from mxbench.workspace import Workspace

from . import synthetic as s

MLA = s.cases("mla", "functional")


def test_a_whole_suite_meets_the_gate(pages, row):
    page = pages.functional(*map(s.record, MLA))
    cells = row(page, "mla", "functional", "portable")
    assert cells[3:] == ["31", "31", "0", "0", "0", "100.0 %", "yes", "31"]
    assert "Incomplete" not in page
    assert "Every case that ran passed both verdicts." in page
    assert "at least 99.0 %" in page


def test_skips_failures_and_missing_cases_stay_in_the_denominator(pages, row):
    page = pages.functional(
        *map(s.record, MLA[:28]), s.skipped(MLA[28], "needs 90 GiB"), s.failed(MLA[29], "token 3")
    )
    cells = row(page, "mla", "functional", "portable")
    assert cells[3:] == ["31", "28", "1", "1", "1", "90.3 %", "**no**", "28"]
    top = page.split("\n## ")[0]
    assert "**Incomplete**" in top
    assert "mla/functional, kernel `portable`: missing 1 of 31 cases" in top
    assert MLA[30].name in top


def test_cases_of_a_contract_that_a_kernel_has_not_are_not_missing(pages, row):
    paged = [case for case in s.cases("mla", "peers") if case.contract == "paged"]
    page = pages.functional(*(s.record(case, "flash_mla") for case in paged))
    assert row(page, "mla", "peers", "flash_mla")[3:9] == ["4", "4", "0", "0", "0", "100.0 %"]
    assert "Incomplete" not in page
    page = pages.functional(*(s.record(case, "flash_mla") for case in paged[1:]))
    assert "kernel `flash_mla`: missing 1 of 4 cases" in page
    had = next(case for case in s.cases("mla", "peers") if case.contract == "dense")
    page = pages.functional(*(s.record(case, "flash_mla") for case in [*paged, had]))
    assert row(page, "mla", "peers", "flash_mla")[3:5] == ["5", "5"], "as an older version had it"
    page = pages.functional(*(s.record(case, "hopper") for case in paged))
    assert "kernel `hopper`: missing 5 of 9 cases" in page


def test_a_pass_rate_is_never_rounded_up_to_the_gate(pages, row):
    nsa = s.cases("nsa", "functional")
    page = pages.functional(*map(s.record, nsa[:108]), s.failed(nsa[108], "token 3"))
    assert row(page, "nsa", "functional", "portable")[8:10] == ["99.0 %", "yes"]
    page = pages.functional(*map(s.record, nsa[:107]), *[s.failed(c, "x") for c in nsa[107:]])
    assert row(page, "nsa", "functional", "portable")[8:10] == ["98.1 %", "**no**"]


def test_the_gate_is_the_rule_s(pages, row):
    nsa = s.cases("nsa", "functional")
    records = [*map(s.record, nsa[:108]), s.failed(nsa[108], "token 3")]
    page = pages.functional(*records, rule="xpu-oj")
    assert row(page, "nsa", "functional", "portable")[9] == "**no**"


def test_every_case_shows_parameters_figures_and_verdicts(pages, row):
    page = pages.functional(*map(s.record, MLA))
    heads = row(page, "case")
    cells = row(page, f"`{MLA[7].name}`")
    shown = dict(zip(heads, cells, strict=True))
    assert shown == {
        "case": "`B2-S8192-H16`", "batch": "2", "kv_ctx": "8192", "dtype": "float16", "seed": "0",
        "kernel": "portable", "official": "PASSED", "strict": "PASSED", "max_abs": "3.10e-05",
        "rms": "2.30e-04", "worst row": "3.40e-04", "cos": "4.10e-08", "within": "100 %",
    }  # fmt: skip
    assert "Parameters that all cases share: `heads = 16`, `kv_heads = 1`" in page
    assert "Official tolerance: `atol = 0.0001`, `rtol = 0.0002`" in page
    assert "Strict tolerance: `rms_ratio = 0.001`, `row_rms_ratio = 0.0011`" in page


def test_inputs_that_tell_cases_apart_are_columns(pages, row):
    page = pages.functional(*map(s.record, s.cases("nsa", "performance")))
    assert "inputs.pattern" in row(page, "case")
    assert "clustered" in row(page, "`selected-B1-T65536-H1-HQ16-D64-S16-block64-clustered`")


def test_failures_come_with_their_reasons(pages, row):
    page = pages.functional(
        s.failed(MLA[0], "out[0, 3, 17] is 0.5, expected 0.25 | worst\nsecond line"),
        s.record(MLA[1], strict=s.Status.MISMATCH, reason="row 7 is off by 3 %"),
        s.skipped(MLA[2], "needs <90> GiB"),
    )
    cells = row(page, f"`{MLA[0].id}`")
    assert cells[2:4] == ["MISMATCH", "MISMATCH"]
    assert "expected 0.25 \\" in cells[4]  # the pipe is escaped, so that it ends no cell
    assert "second line" in page.split("expected 0.25")[1].split("\n")[0]
    assert row(page, f"`{MLA[1].id}`")[2:] == ["PASSED", "MISMATCH", "row 7 is off by 3 %"]
    assert row(page, f"`{MLA[2].id}`")[3:] == ["–", "needs &lt;90&gt; GiB"]


def test_the_newest_result_counts_whatever_rule_it_ran_under(pages, row):
    page = pages.functional(s.failed(MLA[0], "wrong"), s.timed(MLA[0], 0.01))
    assert row(page, "mla", "functional", "portable")[4:6] == ["1", "0"]
    assert "same case, kernel and device: 1." in page


def test_kernels_are_tallied_apart_the_baseline_last(pages):
    page = pages.functional(*[s.record(c, k) for c in MLA for k in ("baseline", "portable")])
    rates = [line for line in page.splitlines() if line.startswith("| mla")]
    assert ["portable" in rates[0], "baseline" in rates[1]] == [True, True]


def test_a_changed_case_is_listed_but_not_in_the_pass_rate(pages, row):
    changed = override(MLA[0], {"kv_ctx": "3000"})
    page = pages.functional(*map(s.record, MLA), s.failed(changed, "wrong"))
    assert row(page, "mla", "functional", "portable")[3:6] == ["31", "31", "0"]
    assert "is newer): 1. They are listed" in page
    assert row(page, f"`{changed.name}`")[2] == "3000"
    assert f"--case {MLA[0].name} --set kv_ctx=3000 --kernel portable" in page


def test_a_case_that_has_changed_in_its_file_since_is_not_counted(pages, row):
    stale = s.record(MLA[0], params={**s.record(MLA[0]).params, "heads": 128})
    page = pages.functional(stale, *map(s.record, MLA[1:]))
    assert row(page, "mla", "functional", "portable")[3:5] == ["31", "30"]
    assert "missing 1 of 31 cases" in page


def test_a_suite_the_workspace_lacks_is_said_to_be_unchecked(pages, row):
    page = pages.functional(s.record(MLA[0], suite="mine"))
    assert "This workspace has no suite mla/mine" in page
    assert row(page, "mla", "mine", "portable")[3] == "1"


def test_results_of_several_versions_of_a_kernel_are_pointed_out(pages):
    page = pages.functional(s.record(MLA[0], kernel_sha="a" * 16), *map(s.record, MLA[1:]))
    assert "come from 2 versions of its source (`aaaaaaaa`, `port0000`)" in page


def test_environments_stand_side_by_side(pages, row):
    newer = s.msgspec.structs.replace(s.GPU_ENV, torch="2.12.0")
    page = pages.functional(
        *map(s.record, MLA), s.record(s.cases("moe", "functional")[0], env=newer)
    )
    assert row(page, "PyTorch")[1:] == ["2.12.0", "2.11.0+cu130"]
    assert row(page, "suites")[1:] == ["moe/functional", "mla/functional"]


def test_commands_repeat_the_report(pages):
    page = pages.functional(*map(s.record, MLA), s.record(MLA[0], "mine"))
    assert "mxbench check mla --suite functional --kernel portable --target cuda\n" in page
    assert "mxbench check mla --suite functional --kernel mine --target cuda\n" in page


@pytest.fixture
def dispatching(tmp_path):
    """A workspace whose `auto` takes `dense_one` for mla dense and `paged_one` for mla paged."""
    (tmp_path / "kernels" / "common").mkdir(parents=True)
    shutil.copytree(s.HERE.cases, tmp_path / "cases")
    rules = {"mla": [{"kernel": "dense_one", "contract": "dense"}, {"kernel": "paged_one"}]}
    (tmp_path / "kernels" / "common" / "dispatch.json").write_text(json.dumps(rules))
    return Workspace(tmp_path / "kernels", tmp_path / "cases", tmp_path)


def test_kernels_that_auto_puts_together_are_whole_together(pages, row, dispatching):
    records = [s.record(c, f"{c.contract}_one") for c in s.cases("mla", "smoke")]
    page = pages.functional(*records, here=dispatching)
    cells = row(page, "mla", "smoke", "auto (dense_one + paged_one)")
    assert cells[4] == cells[3] == str(len(records))
    assert "**Incomplete**" not in page


def test_auto_with_a_case_missing_is_incomplete(pages, dispatching):
    records = [s.record(c, f"{c.contract}_one") for c in s.cases("mla", "smoke")[1:]]
    page = pages.functional(*records, here=dispatching)
    assert "kernel `auto`: missing 1 of 16 cases" in page


def test_chinese_is_complete_and_aligned(pages):
    from wcwidth import wcswidth

    page = pages.functional(*map(s.record, MLA[:3]), s.failed(MLA[3], "token 3"), language="zh")
    assert "# 功能测试报告：NVIDIA H100 80GB HBM3" in page
    assert "31 个用例中缺 27 个" in page
    tables = [block for block in page.split("\n\n") if block.startswith("|")]
    assert len(tables) >= 4
    for block in tables:
        assert len({wcswidth(line) for line in block.splitlines()}) == 1
