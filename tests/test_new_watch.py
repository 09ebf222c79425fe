"""`new` makes a kernel that passes; `watch` checks it on save."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from mxbench import kernel as kernels
from mxbench import watching, workspace
from mxbench.ops import OPERATORS
from mxbench.ops import operator as find_operator

from . import sandbox


@pytest.fixture
def root(tmp_path: Path) -> Path:
    sandbox.make(tmp_path)
    shutil.copy(tmp_path / "kernels/mla/good.py", tmp_path / "kernels/mla/baseline.py")
    return tmp_path


@pytest.mark.parametrize("op", sorted(OPERATORS))
def test_a_new_kernel_has_the_baseline_s_contracts_and_body(op: str, tmp_path: Path) -> None:
    folder = tmp_path / "kernels" / op
    shutil.copytree(sandbox.REPOSITORY / "kernels" / op, folder)
    shutil.copytree(sandbox.REPOSITORY / "kernels/common", tmp_path / "kernels/common")
    shutil.copytree(sandbox.REPOSITORY / "cases", tmp_path / "cases")
    done = sandbox.run(tmp_path, "new", op, "mine")
    assert done.returncode == 0, done.stderr
    assert f"mxbench check {op} --kernel mine" in done.stdout
    mine = kernels.find(workspace.find(tmp_path), op, "mine")
    baseline = kernels.find(workspace.find(tmp_path), op, "baseline")
    assert mine.signatures == baseline.signatures and mine.summary.startswith("mine: begun")
    for name in find_operator(op).contracts:
        if name in baseline.signatures:
            mine.require(find_operator(op).contracts[name])


def test_it_passes_check(root: Path) -> None:
    assert sandbox.run(root, "new", "mla", "mine").returncode == 0
    done = sandbox.run(root, "check", "mla", "--suite", "tiny", "--kernel", "mine")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["mla", "good"], "is there already"),
        (["mla", "my-kernel"], "is no name for a kernel"),
        (["mla", "../mine"], "is no name for a kernel"),
        (["mla", "class"], "is no name for a kernel"),
        (["mla", "_mine"], "is reserved"),
        (["mla", "auto"], "is reserved"),
        (["mlaa", "mine"], "did you mean 'mla'?"),
        (["mla", "mine", "--from", "baselin"], "did you mean 'baseline'?"),
        (["mla", "mine", "--from", "empty"], "implements no contract"),
    ],
)
def test_bad_names_are_refused_and_nothing_is_written(
    root: Path, arguments: list[str], words: str
) -> None:
    before = sorted(p.name for p in (root / "kernels/mla").iterdir())
    done = sandbox.run(root, "new", *arguments)
    assert done.returncode == 2 and words in done.stderr, done.stderr
    assert sorted(p.name for p in (root / "kernels/mla").iterdir()) == before


def test_a_save_touches_the_kernels_that_import_the_file(root: Path) -> None:
    folder = root / "kernels" / "mla"
    (folder / "_shared.py").write_text("x = 1\n")
    (folder / "user.py").write_text("from . import _shared\ndef dense(): ...\n")
    here = workspace.find(root)

    def touched(name: str, wanted: str = "auto") -> list[str]:
        return watching.touched(here, "mla", [folder / name], wanted)

    assert touched("_shared.py") == ["user"] and touched("good.py") == ["good"]
    assert touched("good.py", "user") == [] and touched("_shared.py", "user") == ["user"]
    common = here.kernels / "common" / "dialect.py"
    assert watching.touched(here, "mla", [common], "auto") == ["auto"]
    assert watching.touched(here, "mla", [here.cases / "mla" / "tiny.json"], "good") == ["good"]


def test_watch_goes_from_save_to_verdict_and_survives_a_broken_file(root: Path) -> None:
    file = root / "kernels/mla/good.py"
    good = file.read_text()
    process = sandbox.start(
        root, "watch", "mla", "--kernel", "good", "--suite", "many", "--rounds", "4"
    )
    out = root / "out.txt"
    out.write_text("")
    assert process.stdout is not None

    def upto(words: str) -> None:
        for line in process.stdout:  # type: ignore[union-attr]
            out.write_text(out.read_text() + line)
            if words in line:
                return

    upto("good: PASSED  8 of 8 official")
    file.write_text(good + "\ndef (\n")
    upto("invalid syntax")
    file.write_text(good.replace("softmax_scale).softmax", "2 * softmax_scale).softmax"))
    upto("good: FAILED  0 of 8 official, 0 strict, 7 not run")
    assert "mxbench check mla --suite many --case B1-S16-H16" in out.read_text(), "smallest first"
    begin = time.monotonic()
    file.write_text(good)
    upto("good: PASSED  8 of 8")
    assert time.monotonic() - begin < 30, "torch is imported once, not at every save"
    assert process.wait(60) == 0
    assert not (root / ".mxbench" / "journal.jsonl").exists(), "records are not kept"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["all"], "one operator"),
        (["mla", "--kernel", "goood"], "did you mean 'good'?"),
        (["mla", "--suite", "tinyy"], "did you mean 'tiny'?"),
        (["mla", "--rounds", "-1"], "must not be negative"),
    ],
)
def test_watch_refuses_bad_input(root: Path, arguments: list[str], words: str) -> None:
    done = sandbox.run(root, "watch", "--target", "cpu", *arguments)
    assert done.returncode == 2 and words in done.stderr, done.stdout + done.stderr
