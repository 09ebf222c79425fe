"""Every portable kernel lowers for sm_80, sm_90a and a wave64 machine, on a machine without a GPU.

With TileLang before 0.1.11 (the contest's judge runs 0.1.9 to 0.1.10) only sm_80 is asked for: its
wheels hold neither the HIP code generator nor the later Hopper passes.
"""

from __future__ import annotations

import functools
import importlib.metadata
import itertools
import math
import re

import pytest

from mxbench import case as cases
from mxbench import kernel as kernels
from mxbench import workspace
from mxbench.ops import OPERATORS
from mxbench.runner.meta import arguments

from . import nvcc

WORKSPACE = workspace.bundled()
DIALECT = kernels.dialect(WORKSPACE.kernels)
VERSION = tuple(map(int, importlib.metadata.version("tilelang").split("+")[0].split(".")[:3]))
OLDEST = VERSION < (0, 1, 11)
TARGETS = {"sm_80": DIALECT.SM80, "sm_90a": DIALECT.SM90, "gfx942": DIALECT.WAVE64}
SHARED_LIMIT = {"sm_80": 163 << 10, "sm_90a": 227 << 10, "gfx942": 64 << 10}
"""Bytes of shared memory a block may ask for; gfx942 stands for the C500, which has 64 KiB."""
TILE_SIZE = re.compile("block(_[a-z])?$|.*threads|stages")
"""Static sizes that shape a program; `block_token`, for one, is only a divisor in it."""


def representative(op: str) -> list[cases.Case]:
    """Cases whose programs cover the kernels: the contest's, and every contract's real shapes."""
    found = []
    for suite in ("functional", "models"):
        found += cases.load_suite(WORKSPACE, op, suite).cases
    return found


@functools.cache
def programs(op: str, module: str, target: str) -> dict[str, tuple]:
    """Distinct (program, static sizes) that a kernel asks for on a target, by readable name."""
    loaded = kernels.load(kernels.find(WORKSPACE, op, module), WORKSPACE.kernels)
    DIALECT.use(TARGETS[target])
    with DIALECT.collect() as asked:
        for case in representative(op):
            tensors, options = arguments(case)
            kernels.function(loaded, case.spec)(*tensors, **options)
    DIALECT.use(DIALECT.CPU)
    return {
        f"{program.name.split('.', 1)[1]}{static}": (program, static) for program, static in asked
    }


def one_of_each_kind(found: dict[str, tuple]) -> dict[str, tuple]:
    """One program per builder and tile shape: other sizes differ only in loop counts.

    The oldest TileLang lowers one per builder: what it lacks is a word of the language, not a size.
    """
    kinds = {}
    for name, (program, static) in found.items():
        tiles = {} if OLDEST else {k: v for k, v in static.items() if TILE_SIZE.match(k)}
        kinds.setdefault(
            (program.name, str(sorted(tiles.items(), key=str))), (name, program, static)
        )
    return {name: (program, static) for name, program, static in kinds.values()}


def to_compile(found: dict[str, tuple], target: str) -> list[str]:
    """Which of them ptxas is to look at for spills, as it takes longer than all else here.

    On sm_90a `hopper` serves most calls, so there it is the largest tile of each builder.
    """
    if target != "sm_90a":
        return [*found]

    def tile(name):
        static = found[name][1]
        sizes = (v for k, v in static.items() if TILE_SIZE.match(k) and isinstance(v, int) and v)
        return math.prod(sizes), static.get("block_h", 0)  # of equal ones that with more rows

    builders = itertools.groupby(sorted(found), key=lambda name: found[name][0].name)
    return [max(names, key=tile) for _, names in builders]


@pytest.mark.parametrize("op", sorted(OPERATORS))
@pytest.mark.parametrize("target", sorted(TARGETS))
def test_portable_kernel_lowers_within_the_target_s_limits(op, target, tmp_path):
    if OLDEST and target != "sm_80":
        pytest.skip(f"TileLang {VERSION} has no {target} code generator")
    found = one_of_each_kind(programs(op, "portable", target))
    assert found, "the kernel asked for no program"
    sources = {}
    for name, (program, static) in found.items():
        lowered = program.lower(TARGETS[target], **static)
        assert lowered.shared_bytes <= SHARED_LIMIT[target], name
        assert lowered.threads <= 1024, name
        if target == "gfx942":
            assert lowered.threads % 64 == 0, name
        sources[name] = lowered.source
    if target != "gfx942" and nvcc.available() and not OLDEST:
        chosen = to_compile(found, target)
        compiled = nvcc.compile_resources([sources[name] for name in chosen], target, tmp_path)
        for name, resources in zip(chosen, compiled, strict=True):
            assert resources.spills == 0, f"{name}: {resources}"


@pytest.mark.parametrize("op", sorted(OPERATORS))
def test_baseline_lowers_for_ampere(op):
    for program, static in one_of_each_kind(programs(op, "baseline", "sm_80")).values():
        assert "__global__" in program.lower(DIALECT.SM80, **static).source


def test_nsa_functional_needs_few_compilations():
    loaded = kernels.load(kernels.find(WORKSPACE, "nsa", "portable"), WORKSPACE.kernels)
    with DIALECT.collect() as asked:
        for case in cases.load_suite(WORKSPACE, "nsa", "functional").cases:
            tensors, options = arguments(case)
            kernels.function(loaded, case.spec)(*tensors, **options)
    distinct = {(program.name, str(sorted(static.items()))) for program, static in asked}
    assert len(distinct) <= 25
