"""Races on a GPU: graph replays of kernels and of candidate schedules, in turns."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from .. import sandbox

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA or MetaX GPU"),
]
CASE = ("--suite", "smoke", "--case", "dense-B1-S64-H16")


@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_a_kernel_against_itself_takes_the_same_time(mode: str) -> None:
    more = ["--mode", mode, "--json", "--tolerance", "20"]
    arguments = ["compare", "mla", "portable", "portable", *CASE, *more]
    done = sandbox.run(sandbox.REPOSITORY, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    (case,) = json.loads(done.stdout)["cases"]
    assert case["mode"] == mode and case["comparisons"][0]["ratio"] == pytest.approx(1, abs=0.1)


def test_a_search_races_what_compiles_and_writes_to_a_folder_of_the_user_s(tmp_path: Path) -> None:
    for name in ("kernels", "cases"):
        shutil.copytree(sandbox.REPOSITORY / name, tmp_path / name)
    more = ["--program", "mla/portable/splits", "--most", "3", "--budget", "30", "--json"]
    arguments = ["tune", "mla", "--kernel", "portable", *CASE, *more, "--out", "mine"]
    done = sandbox.run(tmp_path, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    (one,) = json.loads(done.stdout)["classes"]
    assert {t["fate"] for t in one["trials"]} <= {"slow", "raced"}
    assert all(t["ratio"] > 0 for t in one["trials"])
