"""Exported files stand alone, hold nothing banned, and compute what the kernel does."""

from __future__ import annotations

import ast

import pytest

from mxbench import lint, workspace
from mxbench.export import export
from mxbench.lint.sizes import case_sizes
from mxbench.verdict import Status

from .publicjudge.conftest import driver, submission  # noqa: F401  # fixtures
from .publicjudge.test_ours import small

HERE = workspace.bundled()
EXPORTED = [(op, kernel) for op in ("moe", "mla", "nsa") for kernel in ("portable", "baseline")]


@pytest.mark.parametrize(("op", "kernel"), EXPORTED)
def test_an_exported_file_imports_only_torch_tilelang_and_the_standard_library(op, kernel):
    tree = ast.parse(export(HERE, op, kernel).text)
    imported = {
        (node.module or "" if isinstance(node, ast.ImportFrom) else node.names[0].name).split(".")[
            0
        ]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert imported & {"torch", "tilelang"} == {"torch", "tilelang"}
    assert imported <= {"torch", "tilelang", "functools", "hashlib", "json", "math", "os",
                        "collections", "dataclasses", "typing", "contextlib"}  # fmt: skip


@pytest.mark.parametrize(("op", "kernel"), EXPORTED)
def test_an_exported_file_holds_nothing_banned(op, kernel):
    report = lint.lint_text(export(HERE, op, kernel).text, "x.py", case_sizes(HERE, op))
    assert report.offences == []
    assert {f.because for f in report.waivers} == {
        "this runs on a CPU only, where no contest is held"
    }


def test_an_exported_file_leaves_out_what_the_judge_does_not_call():
    made = export(HERE, "mla", "portable")
    names = {n.name for n in ast.walk(ast.parse(made.text)) if isinstance(n, ast.FunctionDef)}
    assert {"run_kernel", "dense", "dense_parts"} <= names
    assert not names & {"paged", "paged_parts", "compile_only"}
    assert made.left_out == ("paged",)
    assert '"mla/portable/dense"' in made.text and "mla/portable/paged" not in made.text
    assert "mla/baseline" not in made.text and "nsa/" not in made.text


@pytest.mark.parametrize("op", ["moe", "mla", "nsa"])
def test_export_lint_judge_round_trip_on_a_cpu(driver, submission, tmp_path, op):  # noqa: F811
    mine = submission(export(HERE, op, "portable").text)
    problem = small(op, tmp_path)
    driver.open(problem, mine)
    before, driver.timeout = driver.timeout, 300.0  # it compiles
    outcome = driver.run(problem, mine, 1, budget=2.0, timed=True)
    driver.timeout = before
    assert (outcome.status, outcome.strict) == (Status.PASSED, Status.PASSED), outcome.reason
    assert outcome.known.op == op and outcome.timing.mean > 0
