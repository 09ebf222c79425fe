"""Arguments and options that commands share, and what the shell completes them to."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from ..errors import MxbenchError

TARGETS = ("auto", "cuda", "maca", "cpu")


def _complete_op(incomplete: str) -> list[str]:
    from ..plan import ALL, OPERATORS

    return [name for name in (*OPERATORS, ALL) if name.startswith(incomplete)]


def _complete_suite(incomplete: str) -> list[str]:
    from .. import workspace
    from ..case import suite_names
    from ..ops import OPERATORS

    here = workspace.find()
    names = dict.fromkeys(name for op in OPERATORS for name in suite_names(here, op))
    return [name for name in names if name.startswith(incomplete)]


def _complete_kernel(incomplete: str) -> list[str]:
    from .. import kernel, workspace
    from ..ops import OPERATORS

    here = workspace.find()
    names = dict.fromkeys(k.name for op in OPERATORS for k in kernel.find_all(here, op))
    files = [str(path) for path in Path().glob(f"{incomplete}*.py")]
    return [name for name in ("auto", *names) if name.startswith(incomplete)] + files


def _complete_contract(incomplete: str) -> list[str]:
    from ..ops import OPERATORS

    names = [name for op in OPERATORS.values() for name in op.contracts]
    return [name for name in names if name.startswith(incomplete)]


def _complete_target(incomplete: str) -> list[str]:
    return [name for name in TARGETS if name.startswith(incomplete)]


def check_target(target: str) -> str:
    """The target if it is one; MxbenchError with the nearest if not."""
    if target not in TARGETS:
        raise MxbenchError(f"unknown target {target!r}", f"use one of {', '.join(TARGETS)}")
    return target


def check_timeout(timeout: float | None) -> float | None:
    """The timeout if it is a positive number, or None; MxbenchError if not."""
    if timeout is not None and not 0 < timeout < math.inf:
        raise MxbenchError(f"--timeout must be a positive number, not {timeout:g}")
    return timeout


Op = Annotated[
    str, typer.Argument(metavar="OP", help="moe, mla, nsa or all.", autocompletion=_complete_op)
]
Suites = Annotated[
    list[str] | None,
    typer.Option(
        "--suite",
        help="Suite, several if repeated or separated by commas. "
        "Default: smoke on a CPU, functional on a GPU.",
        autocompletion=_complete_suite,
    ),
]
Glob = Annotated[
    str | None, typer.Option("--case", metavar="GLOB", help="Only cases whose name or id matches.")
]
ContractName = Annotated[
    str | None,
    typer.Option("--contract", help="Only this contract.", autocompletion=_complete_contract),
]
KernelName = Annotated[
    str,
    typer.Option(
        "--kernel",
        metavar="auto|NAME|FILE.py",
        help="Who computes: auto picks a module by target and contract.",
        autocompletion=_complete_kernel,
    ),
]
Target = Annotated[
    str,
    typer.Option(
        "--target",
        metavar="auto|cuda|maca|cpu",
        help="Where: auto takes the GPU if there is one.",
        autocompletion=_complete_target,
    ),
]
Devices = Annotated[
    str | None,
    typer.Option(
        metavar="all|0,1,...", help="A worker on each of these GPUs, the work spread over them."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="Where journal and logs go. Default: .mxbench/."),
]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed of the inputs, instead of the case's.")]
Timeout = Annotated[
    float | None,
    typer.Option(
        help="Seconds a kernel may take, compiling apart. Default: 60 on a CPU, 300 on a GPU."
    ),
]
Seqlen = Annotated[int | None, typer.Option(help="Override the sequence length (mla: kv_ctx).")]
Batch = Annotated[int | None, typer.Option(help="Override the batch size.")]
Tokens = Annotated[
    int | None, typer.Option(help="Override the tokens of moe (batch 1, this seqlen).")
]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a parameter, dtype or inputs.FIELD."),
]
Rule = Annotated[
    str | None,
    typer.Option("--rule", metavar="NAME", help="Rule of cases/rules/. Default: the contest's."),
]
Quick = Annotated[bool, typer.Option("--quick", help="Headline and per-call samples only.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Do not continue an interrupted run.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only failures and the summary.")]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Say more about what happens, on stderr.")
]
