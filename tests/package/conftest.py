"""A small workspace with a journal of a GPU that could be handed in."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from mxbench.case import load_suite
from mxbench.workspace import Workspace
from tests import sandbox
from tests.report import synthetic as s

DESIGN = """# mla

Plain torch, so that it runs anywhere.

**1. One product.** Scores by einsum.

```
for each case: softmax(q k) v
```

<!-- journal: floor -->
"""


def make(root: Path) -> Workspace:
    """`sandbox.make` with a functional suite, a design text and a kernel that `auto` finds."""
    sandbox.make(root)
    (root / "kernels" / "common").unlink()
    common = root / "kernels" / "common"
    common.mkdir()
    for path in (sandbox.REPOSITORY / "kernels" / "common").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            target = common / path.relative_to(sandbox.REPOSITORY / "kernels" / "common")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    kernels = root / "kernels" / "mla"
    for name in ("broken", "empty", "moody", "rogue", "slow", "strange", "unparsable"):
        (kernels / f"{name}.py").unlink()
    (common / "dispatch.json").write_text(json.dumps({"mla": [{"kernel": "good"}]}))
    (kernels / "DESIGN.md").write_text(DESIGN)
    good = kernels / "good.py"
    waiver = "  # lint: allow torch-arithmetic because it stands for a kernel in tests"
    lines = good.read_text().splitlines()
    good.write_text("\n".join(x + waiver if "einsum" in x else x for x in lines) + "\n")
    (kernels / "baseline.py").write_text((kernels / "good.py").read_text())
    functional = sandbox.suite("functional", [1, 2, 64])
    (root / "cases" / "mla" / "functional.json").write_text(json.dumps(functional))
    rules = root / "cases" / "rules"
    rules.mkdir()
    for path in (sandbox.REPOSITORY / "cases" / "rules").iterdir():
        (rules / path.name).write_bytes(path.read_bytes())
    (root / "LICENSE").write_text("A licence.\n")
    return Workspace(root / "kernels", root / "cases", root)


@pytest.fixture
def here(tmp_path):
    return make(tmp_path / "work")


def records(here: Workspace):
    cases = load_suite(here, "mla", "functional").cases
    return [
        r for case in cases for r in (s.timed(case, 0.02, "good"), s.timed(case, 0.05, "baseline"))
    ]


def journal(here: Workspace, *found) -> Path:
    return s.write(here.root / "reports" / "nvidia-h100" / "journal.jsonl", *found or records(here))


def installed(*modules: str) -> bool:
    """Whether PDFs can be made and read here."""
    try:
        for name in modules:
            __import__(name)
    except (ImportError, OSError):
        return False
    return True


needs_pdf = pytest.mark.skipif(
    not installed("weasyprint", "pypdf") or sys.platform == "win32",
    reason="the extra `pdf`, or Pango, is not installed",
)
