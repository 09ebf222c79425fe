"""Occupancy by hand counts, ptxas's report as it stands, and a file that is damaged."""

from __future__ import annotations

import msgspec
import pytest

from mxbench import resources
from mxbench.errors import MxbenchError
from mxbench.resources import LIMITS, Resources, Use, blocks_per_sm, occupancy
from mxbench.runner.compiled import ptxas

PTXAS = """\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'main_kernel' for 'sm_90a'
ptxas info    : Function properties for main_kernel
    8 bytes stack frame, 12 bytes spill stores, 16 bytes spill loads
ptxas info    : Used 168 registers, used 16 barriers, 1024 bytes smem
ptxas info    : Compiling entry function 'main_kernel_1' for 'sm_90a'
ptxas info    : Function properties for main_kernel_1
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 32 registers, used 1 barriers
"""


def use(threads, registers, shared):
    return Use(op="mla", kernel="k", program="p", sizes={}, threads=threads, registers=registers,
               shared=shared, spills=0)  # fmt: skip


@pytest.mark.parametrize(
    ("threads", "registers", "shared", "blocks"),
    [
        (128, 32, 0, 16),  # 2048 threads
        (32, 16, 0, 32),  # 32 blocks
        (256, 128, 0, 2),  # 65536 registers
        (128, 40, 100 << 10, 2),  # 228 KiB of shared memory, 1 KiB more a block
        (128, 40, 113 << 10, 2),
        (128, 40, (113 << 10) + 1, 1),
        (160, 100, 0, 3),  # 100 registers go as 104: 5 warps take 16640
        (384, 168, 225 << 10, 1),
    ],
)
def test_blocks_of_a_multiprocessor(threads, registers, shared, blocks):
    assert blocks_per_sm(use(threads, registers, shared), LIMITS["sm_90"]) == blocks


def test_occupancy_is_resident_warps_of_64():
    assert occupancy(use(384, 168, 225 << 10), LIMITS["sm_90"]) == 12 / 64


def test_limits_are_found_by_architecture():
    assert resources.limits_of("sm_90a") is LIMITS["sm_90"]
    assert resources.limits_of("gfx942") is None


def test_every_kernel_of_a_ptxas_report_is_read():
    assert ptxas(PTXAS) == [(168, 28, 1024), (32, 0, 0)]


def test_the_file_comes_back_as_it_was(tmp_path):
    known = Resources(schema=1, arch="sm_90a", compiler="nvcc 13.0", shas={"mla/k": "ab"},
                      programs=(use(128, 32, 0),))  # fmt: skip
    path = tmp_path / resources.FILE
    path.write_bytes(msgspec.json.encode(known))
    assert resources.load(path) == known
    assert resources.load(tmp_path / "none.json") is None


def test_a_damaged_file_is_named_with_the_place(tmp_path):
    path = tmp_path / resources.FILE
    path.write_text('{"schema": 1, "arch": 90, "compiler": "x", "shas": {}, "programs": []}')
    with pytest.raises(MxbenchError, match=r"resources\.json: \$\.arch"):
        resources.load(path)
