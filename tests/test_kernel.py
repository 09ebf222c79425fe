"""Finding kernels, and what their hash covers."""

import shutil

import pytest

from mxbench import kernel, workspace
from mxbench.errors import MxbenchError


@pytest.fixture
def here(tmp_path):
    """A copy of the kernels, to change."""
    shutil.copytree(workspace.bundled().kernels, tmp_path / "kernels")
    (tmp_path / "cases").mkdir()
    return workspace.find(tmp_path)


def test_a_hash_covers_all_that_a_kernel_may_import(here):
    before = kernel.find(here, "mla", "portable").sha
    assert kernel.find(here, "mla", "portable").sha == before
    for changed in (
        "mla/_decode.py",
        "mla/portable.py",
        "common/dialect.py",
        "common/program.py",
        "common/schedules/cpu.json",
    ):
        file = here.kernels / changed
        text = file.read_text()
        file.write_text(text + "\n")
        assert kernel.find(here, "mla", "portable").sha != before, changed
        file.write_text(text)
    hopper = kernel.find(here, "mla", "hopper").sha
    portable = here.kernels / "mla" / "portable.py"
    text = portable.read_text()
    portable.write_text(text + "\n")
    assert kernel.find(here, "mla", "hopper").sha != hopper, "it falls back to portable"
    portable.write_text(text)
    baseline = here.kernels / "mla" / "baseline.py"
    baseline.write_text(baseline.read_text() + "\n")
    assert kernel.find(here, "mla", "portable").sha == before, "it does not import baseline"
    other = here.kernels / "nsa" / "_tile.py"
    other.write_text(other.read_text() + "\n")
    assert kernel.find(here, "mla", "portable").sha == before, "another operator's file"


def test_a_file_elsewhere_is_hashed_with_what_its_imports_lead_to(here, tmp_path):
    mine = tmp_path / "mine.py"
    shutil.copy(here.kernels / "mla" / "portable.py", mine)
    before = kernel.find(here, "mla", str(mine)).sha
    for changed in ("mla/_decode.py", "common/schedule.py"):
        file = here.kernels / changed
        text = file.read_text()
        file.write_text(text + "\n")
        assert kernel.find(here, "mla", str(mine)).sha != before, changed
        file.write_text(text)


def test_an_unknown_kernel_names_the_nearest(here):
    with pytest.raises(MxbenchError, match="no kernel 'portabel'") as caught:
        kernel.find(here, "mla", "portabel")
    assert "portable" in caught.value.hint
