"""The lint catches each ban in each disguise, and lets honest kernels be."""

from __future__ import annotations

import pytest

from mxbench import kernel, lint, workspace
from mxbench.errors import MxbenchError
from mxbench.lint.sizes import case_sizes

from .offenders import DENSE, HEAD, HONEST, OFFENDERS

HERE = workspace.bundled()
SIZES = case_sizes(HERE, "mla")
PEERS = {
    "torch_grouped": {"torch-arithmetic"},
    "fla": {"other-library", "torch-arithmetic"},
    "flash_mla": {"other-library", "torch-arithmetic"},
}
"""Kernels of the tree that are there to compare with, and are no hand-in."""


def rules(report: lint.Report) -> set[str]:
    return {finding.rule for finding in report.offences}


@pytest.mark.parametrize("name", OFFENDERS)
def test_a_planted_ban_is_found(name):
    rule, source = OFFENDERS[name]
    report = lint.lint_text(HEAD + source, "planted.py", SIZES)
    assert rule in rules(report)
    first = next(f for f in report.offences if f.rule == rule)
    assert 1 <= first.line <= len((HEAD + source).splitlines())
    assert first.what and first.why


def test_every_rule_has_a_planted_ban():
    assert {rule for rule, _ in OFFENDERS.values()} == set(lint.RULES)


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_kernel_is_let_be(name):
    report = lint.lint_text(HEAD + HONEST[name], "honest.py", SIZES)
    assert [str(finding) for finding in report.findings] == []


@pytest.mark.parametrize("op", ["moe", "mla", "nsa"])
def test_the_kernels_of_the_tree_hold_nothing_banned(op):
    for found in kernel.find_all(HERE, op):
        report = lint.lint(found.path, found.path.parent, case_sizes(HERE, op))
        assert rules(report) == PEERS.get(found.name, set()), [str(f) for f in report.offences]


def test_a_ban_in_an_imported_sibling_is_found_with_its_file(tmp_path):
    home = tmp_path / "mla"
    home.mkdir()
    (home / "_helper.py").write_text("import torch\n\ndef work(q):\n    return torch.exp(q)\n")
    (home / "mine.py").write_text("from . import _helper\n" + DENSE + "    _helper.work(q)\n")
    (offence,) = lint.lint(home / "mine.py", home).offences
    assert str(offence) == "_helper.py:4: torch-arithmetic: torch.exp"


def test_a_waiver_needs_a_reason_and_shows_it():
    source = (
        HEAD + DENSE + "    # lint: allow data-ptr because the log wants it\n    q.data_ptr()\n"
    )
    report = lint.lint_text(source, "waived.py")
    assert report.offences == []
    assert [f.because for f in report.waivers] == ["the log wants it"]
    bare = lint.lint_text(source.replace(" because the log wants it", ""), "bare.py")
    assert rules(bare) == {"data-ptr"}


def test_a_waiver_is_for_its_line_and_rule_only():
    source = HEAD + DENSE + "    q.data_ptr()  # lint: allow data-ptr because of a log\n\n"
    source += "    kv.data_ptr()\n    q.item()  # lint: allow data-ptr because of a log\n"
    found = lint.lint_text(source, "waived.py")
    assert [(f.rule, f.what) for f in found.offences] == [
        ("data-ptr", "data_ptr"),
        ("host-device", ".item"),
    ]


def test_a_waiver_of_a_rule_that_there_is_not_is_an_error():
    source = HEAD + DENSE + "    q.data_ptr()  # lint: allow data-pointer because of a log\n"
    with pytest.raises(MxbenchError) as caught:
        lint.lint_text(source, "waived.py")
    assert "no lint rule 'data-pointer'" in caught.value.message
    assert "data-ptr" in caught.value.hint


def test_allowed_rules_pass_with_their_reason():
    source = HEAD + DENSE + "    q.data_ptr()\n"
    report = lint.lint_text(source, "x.py", allowed=lint.parse_allowed(["data-ptr"], ["a log"]))
    assert report.offences == [] and str(report.waivers[0]).endswith("allowed because a log")
