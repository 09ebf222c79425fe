"""A small workspace with kernels in plain torch, for tests of processes and the command line."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]

GOOD = """
def attend(q, q_pe, kv, k_pe, out, softmax_scale):
    scores = torch.einsum("bhd,bsgd->bhs", q.float(), kv.float())
    scores += torch.einsum("bhd,bsgd->bhs", q_pe.float(), k_pe.float())
    out.copy_(torch.einsum("bhs,bsgd->bhd", (scores * softmax_scale).softmax(-1), kv.float()))
"""


def sleeping(seconds: float) -> str:
    """A kernel that is right, after so long in every call."""
    return f'''"""Correct, after a while."""
import time
import torch
{GOOD.replace("def attend", "def _attend")}

def dense(q, q_pe, kv, k_pe, out, *, softmax_scale):
    time.sleep({seconds})
    _attend(q, q_pe, kv, k_pe, out, softmax_scale)
'''


KERNELS = {
    "good": f'''"""The golden formula in plain torch."""
import torch
{GOOD.replace("def attend", "def _attend")}

def dense(q, q_pe, kv, k_pe, out, *, softmax_scale):
    _attend(q, q_pe, kv, k_pe, out, softmax_scale)
''',
    # What it does wrong depends on the number of keys, so that one run shows many faults.
    "rogue": f'''"""Misbehaves in a way of its own for each kv_ctx."""
import ctypes, os, signal, sys, time
import torch
{GOOD.replace("def attend", "def _attend")}

def dense(q, q_pe, kv, k_pe, out, *, softmax_scale):
    print("garbage on stdout", flush=True)
    fault = kv.shape[1]
    if fault == 2: os.kill(os.getpid(), signal.SIGKILL)
    if fault == 3: time.sleep(1000)
    if fault == 5: raise ValueError("no room in " + os.path.expanduser("~/secret/x.bin"))
    if fault == 6: os._exit(3)
    if fault == 7: ctypes.string_at(0)
    if fault == 8: return torch.zeros_like(out)
    if fault == 9: raise NotImplementedError("9 keys")
    if fault == 10: out.resize_(1, 2, 3); return
    if fault == 11: sys.exit(0)
    if fault == 12: out.data = torch.zeros_like(out); return
    if fault == 13: torch.empty(1 << 50)
    _attend(q, q_pe, kv, k_pe, out, softmax_scale)
    if fault == 4: out[0, 3, 7] = float("nan")
    if fault == 14: kv[0, 5] = kv[0, 6]
    if fault == 15: out[0, 11] *= 1.5
''',
    "slow": sleeping(0.5),
    "moody": f'''"""Correct, and never twice the same."""
import torch
{GOOD.replace("def attend", "def _attend")}

CALLS = []

def dense(q, q_pe, kv, k_pe, out, *, softmax_scale):
    _attend(q, q_pe, kv, k_pe, out, softmax_scale)
    CALLS.append(1)
    out[0, 3, 7] += 1e-3 * len(CALLS)
''',
    "broken": "import no_such_module\ndef dense(q, q_pe, kv, k_pe, out, *, softmax_scale): ...\n",
    "strange": "def dense(q, kv, out): ...\n",
    "empty": "x = 1\n",
    "unparsable": "def dense(\n",
}


def suite(name: str, contexts: list[int], **more: Any) -> dict[str, Any]:
    """A suite of mla `dense` with one small case for each number of keys."""
    cases = [{"params": {"batch": 1, "heads": 16, "kv_ctx": n}} for n in contexts]
    return {
        "schema": 1,
        "op": "mla",
        "suite": name,
        "source": "a test",
        "defaults": {"contract": "dense", "tolerance": {"atol": 0.01, "rtol": 0.01}},
        "cases": cases,
        **more,
    }


SUITES = {
    "smoke": suite("smoke", [1, 2]),
    "tiny": suite("tiny", [1]),
    "faults": suite("faults", list(range(1, 16))),
    "many": suite("many", list(range(16, 24))),
    "big": suite("big", [1])
    | {
        "cases": [
            {"params": {"batch": 1, "heads": 16, "kv_ctx": 1}},
            {"params": {"batch": 4096, "heads": 16, "kv_ctx": 1 << 20}},
            {"params": {"batch": 16, "heads": 1 << 20, "kv_ctx": 64}, "name": "slow"},
        ]
    },
}


def make(root: Path) -> Path:
    """A workspace in `root`: the repository's kernels/common, our kernels and suites."""
    (root / "kernels" / "mla").mkdir(parents=True)
    (root / "cases" / "mla").mkdir(parents=True)
    (root / "kernels" / "common").symlink_to(REPOSITORY / "kernels" / "common")
    for name, source in KERNELS.items():
        (root / "kernels" / "mla" / f"{name}.py").write_text(source)
    for name, content in SUITES.items():
        (root / "cases" / "mla" / f"{name}.json").write_text(json.dumps(content))
    return root


def environment(**more: str) -> dict[str, str]:
    """The environment of a command line started by a test."""
    path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, **more}


def command(*arguments: str) -> list[str]:
    code = "import sys; sys.argv[0] = 'mxbench'; from mxbench.cli import main; main()"
    return [sys.executable, "-c", code, *arguments]


def run(
    folder: Path, *arguments: str, file_limit: int | None = None, **more: str
) -> subprocess.CompletedProcess[str]:
    """`mxbench` with `arguments` in `folder`; keyword arguments are environment variables.

    file_limit: bytes that a file may have; more fails to be written, as on a full disk.
    """

    def limit() -> None:
        if file_limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))

    return subprocess.run(
        command(*arguments),
        cwd=folder,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        preexec_fn=limit,
    )


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """`mxbench` with `arguments` in `folder`, in a process group of its own, to be interrupted."""

    def hear_ctrl_c() -> None:
        # A shell's background jobs, and so the tests in one, ignore SIGINT and pass that on.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    return subprocess.Popen(
        command(*arguments),
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=hear_ctrl_c,
    )
