"""Calls without data: what compiling ahead and telling compile errors apart rest on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mxbench import reference, workspace
from mxbench.case import Case, load_suite
from mxbench.device import DeviceInfo
from mxbench.kernel import Kernel, find
from mxbench.record import Environment
from mxbench.runner import ahead, faults
from mxbench.runner.meta import arguments
from mxbench.runs import Step
from mxbench.verdict import Status

SMOKE = [c for op in ("moe", "mla", "nsa") for c in load_suite(workspace.find(), op, "smoke").cases]


@pytest.mark.parametrize("case", SMOKE, ids=lambda case: case.id)
def test_tensors_without_data_have_the_form_of_the_real_ones(case: Case) -> None:
    inputs = reference.make_inputs(case, "cpu")
    real = inputs | reference.make_outputs(case, inputs, "cpu")
    tensors, options = arguments(case)
    assert options == {name: inputs[name] for name in case.spec.options}
    for name, tensor in zip(case.spec.tensors, tensors, strict=True):
        assert tensor.is_meta and tensor.dtype == real[name].dtype, name
        # The drawn routing decides how many rows a padded layout has; without it, the most.
        exact = getattr(case.params, "layout", "compact") == "compact" or tensor.dim() != 2
        assert tensor.shape[exact is False :] == real[name].shape[exact is False :], name
        assert tensor.shape[0] >= real[name].shape[0], name


COUNTING = """
from ..common.dialect import program


@program(writes=("out",))
def fill(D, *, width):
    import tilelang.language as T

    n = T.dynamic("n")

    @T.prim_func
    def main(out: T.Tensor((n, width), D.dtype("float16"))):
        with D.kernel(n, threads=64) as row:
            for j in D.parallel(width):
                out[row, j] = 0

    return main


def dense(q, q_pe, kv, k_pe, out, *, softmax_scale):
    flat = out.view(-1, 512)
    fill.get(width=512)(flat)
    if q.shape[0] > 1:
        fill.get(width=512 // q.shape[0])(out.view(-1, 512 // q.shape[0]))
"""


def cpu() -> DeviceInfo:
    env = Environment(python="3", torch="2", sms=2, memory=1, platform="Linux-x86_64")
    return DeviceInfo(
        kind="cpu",
        name="it",
        torch_device="cpu",
        arch="",
        schedules="cpu",
        sms=2,
        memory=1,
        free=1,
        env=env,
    )


def test_each_program_is_compiled_once_by_one_of_the_processes(
    workspace_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead.os, "sched_getaffinity", lambda _: {0, 1})
    path = workspace_root / "kernels" / "mla" / "counting.py"
    path.write_text(COUNTING)
    kernel = Kernel("mla", "counting", path)
    plain = load_suite(workspace.find(workspace_root), "mla", "tiny").cases[0]
    from mxbench.case import override

    cases = [
        override(plain, {"heads": heads, "batch": batch})
        for heads in (8, 16)
        for batch in (1, 2, 4)
    ]
    steps = [Step(case, kernel) for case in cases]
    shares: list[float] = []
    programs = ahead.compile_ahead(
        steps,
        workspace_root / "kernels",
        cpu(),
        "forkserver",
        workspace_root / "ahead.log",
        lambda share, _: shares.append(share),
    )
    log = (workspace_root / "ahead.log").read_text()
    assert programs == 3, log  # widths 512, 256 and 128, whatever the heads
    assert shares == sorted(shares) and shares[-1] == 1


def test_kernels_that_stand_alone_are_not_called_ahead(workspace_root: Path) -> None:
    here = workspace.find(workspace_root)
    steps = [Step(c, find(here, "mla", "rogue")) for c in load_suite(here, "mla", "faults").cases]
    log = workspace_root / "none.log"
    done = ahead.compile_ahead(steps, here.kernels, cpu(), "forkserver", log, lambda *_: None)
    assert done == 0 and not log.exists()


def raised(source: str, name: str) -> BaseException:
    """The exception that running `source`, as a file of that name, ends in."""
    try:
        exec(compile(source, name, "exec"), {"torch": torch})
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(
    ("source", "name", "status"),
    [
        ("raise ValueError('x')", "k.py", Status.RUNTIME_ERROR),
        ("raise NotImplementedError('x')", "k.py", Status.NOT_IMPLEMENTED),
        ("raise torch.OutOfMemoryError('x')", "k.py", Status.OUT_OF_MEMORY),
        ("raise MemoryError", "k.py", Status.OUT_OF_MEMORY),
        (
            "def _compile(): raise NotImplementedError('x')\n_compile()",
            "/w/kernels/common/program.py",
            Status.COMPILE_ERROR,
        ),
        (
            "def lower(): raise ValueError('x')\nlower()",
            str(faults.TILELANG / "engine/lower.py"),
            Status.COMPILE_ERROR,
        ),
        (
            "def __call__(): raise ValueError('wrong shape')\n__call__()",
            str(faults.TILELANG / "jit/adapter/x.py"),
            Status.RUNTIME_ERROR,
        ),
    ],
)
def test_an_exception_becomes_the_status_it_stands_for(
    source: str, name: str, status: Status
) -> None:
    assert faults.classify(raised(source, name)) is status


def test_a_compilers_long_message_is_cut_to_the_line_that_tells() -> None:
    text = "\n".join(["Traceback", "  0: frame", "  1: frame", "Check failed: no layout", "  end"])
    assert faults.gist(text) == "Check failed: no layout"
    assert faults.gist("a\nb") == "a | b"
    assert len(faults.gist("x" * 1000)) == faults.REASON_LENGTH
