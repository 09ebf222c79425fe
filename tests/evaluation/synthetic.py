"""A contest of synthetic hand-ins: what measuring each will come to travels inside it."""

from __future__ import annotations

import json
import random
import zipfile
from pathlib import Path

import msgspec

from mxbench import rules, workspace
from mxbench.case import load_suite
from mxbench.device import DeviceInfo
from mxbench.evaluation import setting
from mxbench.evaluation.board import Policy
from mxbench.workspace import Workspace

from .. import sandbox
from ..report import synthetic as s

STUB = "tests.evaluation.stub"
KEYS = [64, 128, 256]
DEVICE = DeviceInfo(
    kind="cuda", name=s.H100, torch_device="cuda", arch="sm_90a", schedules="cuda-sm90", sms=132,
    memory=85 << 30, free=80 << 30, env=s.GPU_ENV,
)  # fmt: skip
KINDS = ("good", "slow", "wrong", "crashing", "hanging", "malformed")


def contest(root: Path) -> Workspace:
    """An organiser's workspace with one operator of three small cases."""
    sandbox.make(root)
    (root / "cases" / "rules").symlink_to(sandbox.REPOSITORY / "cases" / "rules")
    text = json.dumps(sandbox.suite("functional", KEYS))
    (root / "cases" / "mla" / "functional.json").write_text(text)
    (root / "kernels" / "mla" / "baseline.py").write_text(sandbox.sleeping(0.002))
    return workspace.find(root)


def wish(here: Workspace, **changes: object) -> setting.Wish:
    """What the organiser asks for."""
    fields = {
        "law": rules.load(here), "ops": ("mla",), "target": "cuda", "inner": STUB, "limit": 2.0,
        "patience": 60.0, "policy": Policy(),
    }  # fmt: skip
    return setting.Wish(**{**fields, **changes})  # type: ignore[arg-type]


def records(here: Workspace, mean: float, *, wrong: bool = False) -> list[s.Record]:
    """What `perf --baseline baseline` writes of a hand-in, case by case."""
    found = []
    for case in load_suite(here, "mla", "functional").cases:
        mine = s.failed(case, "wrong", "mine") if wrong else s.timed(case, mean, "mine")
        found += [mine, s.timed(case, 4.0, "baseline")]
    return found


def pack(path: Path, here: Workspace, kind: str, mean: float = 1.0, seconds: float = 0.0) -> Path:
    """One hand-in as a zip."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "malformed":
        path.write_bytes(b"PK, said the file")
        return path
    lines = [msgspec.json.encode(r).decode() for r in records(here, mean, wrong=kind == "wrong")]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        head = json.dumps({"kind": kind, "seconds": seconds})
        archive.writestr("kernels/mla/mine.py", f"# {head}\ndef dense(): ...\n")
        archive.writestr("kernels/records.jsonl", "\n".join(lines))
    return path


def many(
    folder: Path, here: Workspace, count: int, seconds: float, seed: int = 1, *, good: bool = False
) -> Path:
    """`count` hand-ins of every kind, two thirds of them good."""
    rng = random.Random(seed)
    for number in range(count):
        kind = "good" if good or number % 3 else rng.choice(KINDS)
        mean = rng.uniform(0.5, 3.5)
        time = seconds * (5 if kind == "slow" else 1)
        pack(folder / f"team-{number:05d}.zip", here, kind, mean, time)
    return folder
