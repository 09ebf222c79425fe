"""Compiling what a device's journal timed, and the table of what the compiler made of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from .. import resources
from ..errors import MxbenchError
from ..record import Record
from ..resources import Resources, Use
from ..workspace import Workspace
from . import numbers
from .catalog import Catalog
from .markdown import NUMBER, TEXT, escape, table
from .measured import Timings
from .texts import Texts


def refresh(
    found: Timings,
    catalog: Catalog,
    workspace: Workspace,
    folder: Path,
    notify: Callable[[str], None],
) -> Path | None:
    """Compile the programs behind a device's timings; the figures go to `folder`/resources.json.

    Returns:
        The file; None for a device that nvcc does not compile for, which `notify` hears.

    Raises:
        MxbenchError: exit code 3, there is no nvcc, or a program does not compile.
    """
    from ..runner import compiled

    timed = [m.record for m in found.all]
    arches = {r.env.arch for r in timed if r.target == "cuda" and r.env.arch}
    if len(arches) != 1 or resources.limits_of(next(iter(arches))) is None:
        notify("--resources: no compiler here reports registers for this device; left out")
        return None
    calls = _calls(timed, catalog)
    (arch,) = arches
    orders = [
        compiled.Order(
            kernels=str(workspace.kernels), root=str(workspace.root), arch=str(arch),
            sms=timed[0].env.sms, calls=group,
        )
        for group in calls
    ]  # fmt: skip
    made = compiled.read(orders)
    file = folder / resources.FILE
    file.write_bytes(msgspec.json.format(msgspec.json.encode(made), indent=1) + b"\n")
    return file


def _calls(timed: list[Record], catalog: Catalog) -> list[list[tuple[str, bytes]]]:
    """For each operator, each kernel and case once, as far as the workspace still has them.

    Not the baseline: it is compared with, not handed in.
    """
    calls: dict[str, dict[object, tuple[str, bytes]]] = {}
    for record in timed:
        case = catalog.case(record)
        if case is not None and record.kernel != catalog.baseline:
            key = (record.kernel, case.contract, case.dtype, str(case.params))
            calls.setdefault(case.op, {}).setdefault(key, (record.kernel, case.encode()))
    if not calls:
        raise MxbenchError(
            "--resources: the journal holds no timing of a case that this workspace has",
            "run it in the workspace that the journal was made in",
        )
    return [list(group.values()) for group in calls.values()]


def resource_table(op: str, known: Resources | None, t: Texts) -> list[str]:
    """The table of one operator's programs, or the sentence that says how to get it."""
    programs = [use for use in known.programs if use.op == op] if known else []
    if known is None or not programs:
        return [t("no_resources")]
    heads = [t(f"res_{name}") for name in ("program", "sizes", "threads", "registers", "shared")]
    heads += [t("res_spills"), t("res_blocks"), t("res_occupancy")]
    rows = [_row(use, known.arch) for use in programs]
    shas = {use.kernel: known.shas.get(f"{op}/{use.kernel}", "?") for use in programs}
    named = t.listed([f"{op}/{kernel} `{sha}`" for kernel, sha in shas.items()])
    note = t("res_note", arch=known.arch, compiler=known.compiler, shas=named)
    return [table(heads, rows, [TEXT, TEXT, *[NUMBER] * 6]), note]


def _row(use: Use, arch: str) -> list[str]:
    limits = resources.limits_of(arch)
    sizes = ", ".join(f"{k}={numbers.parameter(v)}" for k, v in use.sizes.items())
    blocks = occupied = numbers.ABSENT
    if limits:
        blocks = str(resources.blocks_per_sm(use, limits))
        occupied = numbers.percent(resources.occupancy(use, limits))
    return [
        f"`{use.kernel}: {escape(use.program)}`",
        escape(sizes) or numbers.ABSENT,
        str(use.threads),
        str(use.registers),
        f"{use.shared / 1024:.1f}",
        str(use.spills),
        blocks,
        occupied,
    ]
