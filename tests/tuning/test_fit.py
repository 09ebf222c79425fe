"""What cannot fit a device, and footprints that never claim more than a program really takes."""

from __future__ import annotations

import pytest

from mxbench import kernel as kernels
from mxbench import roofline, workspace
from mxbench.tuning.fit import Footprint, reason

C500, H100 = (roofline.profiles()[name].limits for name in ("c500", "h100"))


@pytest.mark.parametrize(
    ("footprint", "c500", "h100"),
    [
        ({"shared_bytes": 64 << 10, "threads": 256}, "", ""),
        ({"shared_bytes": 96 << 10, "threads": 256}, "at least 96 KiB, 64 KiB a block", ""),
        ({"shared_bytes": 240 << 10, "threads": 64}, "64 KiB", "227 KiB"),
        ({"threads": 32}, "no multiple of 64", ""),
        ({"threads": 2048}, "at most 1024", "at most 1024"),
        ({"threads": 128, "thread_registers": 300}, "256 in all", "255 in all"),
        ({"threads": 1024, "thread_registers": 96}, "", "96 x 1024 threads"),
    ],
    ids=str,
)
def test_a_reason_names_the_limit(footprint, c500, h100):
    for limits, words in ((C500, c500), (H100, h100)):
        found = reason(Footprint(**footprint), limits)
        assert words in found if words else found == ""


def grouped(**changes):
    """The moe up-projection of kernels/moe/_grouped.py under a schedule, as TileLang IR."""
    from mxbench.runner.footprint import footprint

    here = workspace.bundled()
    dialect = kernels.dialect(here.kernels)
    kernels.load(kernels.find(here, "moe", "portable"), here.kernels)
    import sys

    program = sys.modules[f"{kernels.PACKAGE}.moe._grouped"].gate_up
    static = {
        "d_hidden": 512, "d_expert": 256, "dtype": "float16", "block_token": 128, "gather": False,
        "block_m": 128, "block_n": 128, "block_k": 64, "threads": 256, "stages": 3, "panel": 8,
        "warps": "rows", **changes,
    }  # fmt: skip
    function = program.builder(dialect.Dialect(dialect.SM90), **static)
    return footprint(function, program.pass_configs), program, dialect, static


def test_a_pipelined_loop_needs_its_tiles_once_a_stage():
    tiles = 3 * 128 * 64 * 2  # x, gate and up, fp16
    for stages in (1, 2, 4):
        found, *_ = grouped(stages=stages)
        assert found.shared_bytes == stages * tiles
    assert found.threads == 256 and found.thread_registers == 2 * 128 * 128 // 256


def test_a_footprint_is_a_lower_bound_of_what_tilelang_makes_of_it():
    found, program, dialect, static = grouped()
    lowered = program.lower(dialect.SM90, **static)
    assert 0.9 * lowered.shared_bytes <= found.shared_bytes <= lowered.shared_bytes
    assert found.threads <= lowered.threads
