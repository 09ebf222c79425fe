"""The hand-in: built from journals and source, inspected, verified by unpacking, written at once.

Nothing is left behind by a build that fails: the zip appears under its name as the last step.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .. import kernel as kernels
from .. import report, resources, rules
from ..errors import MxbenchError
from ..lint.tree import lint_kernels
from ..record import unwritable
from ..report import design_text, journals, measured
from ..report.catalog import Catalog
from ..report.design_text import path_of
from ..report.functional import results
from ..report.journals import Device
from ..report.parts import Context
from ..report.texts import LANGUAGES, Texts
from ..workspace import Workspace
from . import archive, complete, contents, names, scan, smoke
from .complete import Item
from .names import HandIn
from .scan import Finding

__all__ = ["HandIn", "Inspection", "Request", "build", "inspect"]

NAMED = 4  # cases that an error names


@dataclass(frozen=True)
class Request:
    """What to hand in."""

    journals: tuple[Path, ...]
    device: str = ""
    """Folder name of the device, such as `nvidia-h100`; may be empty if there is one GPU only."""
    ops: tuple[str, ...] = ()
    """Operators to hand in; empty for all that were timed."""
    rule: str = rules.DEFAULT_RULE
    language: str = "zh"
    logs: tuple[Path, ...] = ()
    video: tuple[Path, ...] = ()
    slides: bool = False
    size_limit: int = 0
    """Bytes that the zip may have; 0 for no limit."""
    smoke: bool = True
    """Whether to run a check from the unpacked source."""


@dataclass(frozen=True)
class Inspection:
    """What was found in a hand-in."""

    items: tuple[Item, ...]
    findings: tuple[Finding, ...]
    damaged: tuple[str, ...]
    name: str
    """What is wrong with the zip's name; empty if nothing is, or if there is no zip."""
    banned: tuple[str, ...] = ()
    """What the contest bans in the kernels' sources; of a hand-in that is built here alone."""

    @property
    def ok(self) -> bool:
        wrong = self.findings or self.damaged or self.name or self.banned
        return not wrong and all(i.ok for i in self.items)


Handed = dict[str, tuple[str, ...]]
"""Operator -> the kernels that its results are of."""


Notify = Callable[[str], None]


def build(
    request: Request, hand_in: HandIn, out: Path, workspace: Workspace, notify: Notify
) -> tuple[Path, Inspection]:
    """Make `out`/unit－name－title－phone.zip.

    Returns:
        The zip and what was found in it. If that is not all right, no zip was written.

    Raises:
        MxbenchError: exit code 2; a journal, a suite's results, a design text or source is missing,
            `out` cannot be written, the zip exceeds the limit, or does not run when unpacked.
    """
    target = out / hand_in.file
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out, prefix=".handin-") as work:
            staged = Path(work) / "staged"
            handed = stage(request, hand_in.title, staged, workspace, notify)
            found = inspect_staged(staged, handed, workspace, hand_in)
            if not found.ok:
                return target, found
            packed = Path(work) / "packed.zip"
            archive.pack(staged, packed)
            _within_limit(packed, request.size_limit)
            ops = tuple(handed) if request.smoke else ()
            _verify(packed, Path(work) / "unpacked", ops, notify)
            os.replace(packed, target)
            return target, found
    except OSError as error:
        raise unwritable(out, error) from error


def _within_limit(packed: Path, limit: int) -> None:
    size = packed.stat().st_size
    if limit and size > limit:
        raise MxbenchError(
            f"the zip has {size / 2**20:.1f} MiB, the limit is {limit / 2**20:.1f} MiB",
            "leave out --video, or make it smaller",
        )


def _verify(packed: Path, into: Path, ops: Sequence[str], notify: Notify) -> None:
    """Unpack, compare with the manifest, run."""
    into.mkdir()
    archive.unpack(packed, into)
    wrong = contents.damaged(into)
    if wrong:
        raise MxbenchError(f"unpacked, {wrong[0]}", "is the disk sound?")
    for sentence in smoke.check(into / contents.SOURCE, ops):
        notify(sentence)


# --- what is in it ------------------------------------------------------------------------------


def stage(
    request: Request, title: str, folder: Path, workspace: Workspace, notify: Notify
) -> Handed:
    """Put the hand-in together in a new folder; returns its operators and their kernels."""
    if request.language not in LANGUAGES:
        raise MxbenchError(f"unknown language {request.language!r}", "zh or en")
    catalog = Catalog(workspace, rules.load(workspace, request.rule))
    device = choose_device(journals.devices(journals.read(request.journals)), request.device)
    t = Texts("zh" if request.language == "zh" else "en")
    handed = _complete_ops(Context(t, catalog, device, ""), request.ops)
    _compare_sources(device, handed, workspace, notify)
    for op in handed:
        path = path_of(workspace, op, request.language)
        if path is None:
            raise MxbenchError(
                f"no kernels/{op}/{design_text.FILE}: the design report has nothing to say of {op}",
                "write it: floor, algorithm step by step, pseudocode, what was tried",
            )
        if not design_text.pseudocode(design_text.read(path)):
            notify(f"kernels/{op}/{path.name} has no fenced block; the rule asks for pseudocode")
    folder.mkdir(parents=True)
    _reports(request, device, folder, workspace, notify)
    contents.copy_source(workspace, folder / contents.SOURCE)
    contents.copy_named(request.logs, folder / contents.LOGS, "--log")
    contents.copy_named(request.video, folder / contents.EXTRA, "--video")
    own = (folder / contents.SOURCE / "mxbench").is_dir()
    contents.write_readme(folder, title, device.name, tuple(handed), own)
    contents.write_manifest(folder, device.name)
    return handed


def _compare_sources(device: Device, handed: Handed, workspace: Workspace, notify: Notify) -> None:
    """Tell of results that are of other sources than those handed in.

    Raises:
        MxbenchError: exit code 2; a kernel with results is not in the workspace.
    """
    newest, _ = device.newest(journals.case_key)
    for op, names_of in handed.items():
        for name in names_of:
            sha = kernels.find(workspace, op, name).sha
            other = sum((r.op, r.kernel) == (op, name) and r.kernel_sha != sha for r in newest)
            if other:
                notify(f"{op}/{name}: {other} results are of another version of its source")


def choose_device(devices: Sequence[Device], wanted: str) -> Device:
    """The device whose results are handed in.

    Raises:
        MxbenchError: exit code 2; only a CPU's are there, or several GPUs' and none is named.
    """
    gpus = [d for d in devices if not d.is_cpu]
    if not gpus:
        raise MxbenchError(
            "the journals hold results of a CPU alone, which are no performance results",
            "run `mxbench perf` on a GPU and name its journal with --journal",
        )
    fitting = [d for d in gpus if d.slug == wanted] if wanted else gpus
    if len(fitting) != 1:
        known = ", ".join(d.slug for d in gpus)
        problem = f"no device {wanted!r}" if wanted else "the journals are of several devices"
        raise MxbenchError(problem, f"name one with --device: {known}")
    return fitting[0]


def _complete_ops(context: Context, wanted: Sequence[str]) -> Handed:
    """The operators to hand in, each with its functional suite done and something timed."""
    found = measured.timings(context.device, context.catalog)
    timed = dict.fromkeys(m.record.op for m in found.all)
    if not timed:
        raise MxbenchError(
            f"the journals hold no GPU timing under rule {context.catalog.rule.name}",
            "run `mxbench perf` for every operator that you hand in",
        )
    baseline = context.catalog.baseline
    handed: Handed = {}
    for op in wanted or timed:
        lines = [c for c in results(context)[0] if (c.op, c.suite) == (op, "functional")]
        own = [c for c in lines if c.kernel != baseline]
        if op not in timed or not own:
            raise MxbenchError(
                f"{op}: no {'timing' if own else 'functional results'} in the journals",
                f"run `mxbench check {op} --suite functional` and `mxbench perf {op}`",
            )
        best = min(own, key=lambda c: len(c.missing))
        if best.missing:
            cases = ", ".join(best.missing[:NAMED])
            more = ", ..." if len(best.missing) > NAMED else ""
            raise MxbenchError(
                f"{op}/functional is incomplete: {len(best.missing)} of {best.tally.total} cases "
                f"have no result with kernel {best.kernel}: {cases}{more}",
                f"run `mxbench check {op} --suite functional --kernel {best.kernel}`",
            )
        handed[op] = best.parts or (best.kernel,)
    return handed


def _reports(
    request: Request, device: Device, folder: Path, workspace: Workspace, notify: Notify
) -> None:
    """Reports as PDF, charts and journals of the device, under names of the rule's language."""
    made = folder / "made"
    place = made / device.slug
    place.mkdir(parents=True)
    for path in request.journals:  # the compiler's figures lie beside a journal
        known = (path if path.is_dir() else path.parent) / resources.FILE
        if known.is_file() and (path.parent.name == device.slug or len(request.journals) == 1):
            shutil.copy(known, place / resources.FILE)
    single = _journal_of(device, place / journals.FILE)
    options = report.Options(pdf=True, slides=request.slides)
    report.write([single], made, request.language, workspace=workspace, rule=request.rule,
                 options=options, notify=notify)  # fmt: skip
    column = LANGUAGES.index(request.language)
    for name, both in contents.PDF_NAMES.items():
        shutil.move(place / name, folder / both[column])
    slides = place / report.SLIDES
    if slides.is_file():
        (folder / contents.EXTRA).mkdir()
        shutil.move(slides, folder / contents.EXTRA / report.SLIDES)
    shutil.move(place, folder / contents.RESULTS)
    shutil.rmtree(made)


def _journal_of(device: Device, out: Path) -> Path:
    """All records of the device as one journal."""
    import msgspec

    lines = dict.fromkeys(msgspec.json.encode(r) for journal in device.journals for r in journal)
    out.write_bytes(b"".join(line + b"\n" for line in lines))
    return out


# --- inspection ---------------------------------------------------------------------------------


def inspect(path: Path, workspace: Workspace) -> Inspection:
    """Look into a zip or a folder, ours or somebody else's; changes nothing.

    Raises:
        MxbenchError: exit code 2; it is neither, or cannot be unpacked safely.
    """
    if path.is_dir():
        return inspect_folder(path, workspace, None)
    hand_in = names.parse(path.stem)
    with tempfile.TemporaryDirectory(prefix="handin-") as work:
        archive.unpack(path, Path(work))
        found = inspect_folder(Path(work), workspace, hand_in)
    wrong = "" if hand_in else f"the zip's name is not unit{names.SEPARATOR}name{names.SEPARATOR}"
    wrong += "" if hand_in else f"title{names.SEPARATOR}phone"
    return Inspection(found.items, found.findings, found.damaged, wrong)


def inspect_staged(
    folder: Path, handed: Handed, workspace: Workspace, hand_in: HandIn | None
) -> Inspection:
    """What is in a hand-in that was put together here, its kernels' sources read for bans too."""
    source = folder / contents.SOURCE
    here = Workspace(source / "kernels", source / "cases", source)
    packed = [kernels.find(here, op, name) for op, names_of in handed.items() for name in names_of]
    banned = [f"{name}: {offence}" for name, read in lint_kernels(here, packed)
              for offence in read.offences]  # fmt: skip
    found = inspect_folder(folder, workspace, hand_in)
    return replace(found, banned=tuple(banned))


def inspect_folder(folder: Path, workspace: Workspace, hand_in: HandIn | None) -> Inspection:
    """What is in an unpacked hand-in."""
    words = scan.private_words(workspace.root, hand_in.private if hand_in else ())
    return Inspection(
        tuple(complete.inspect(folder)),
        tuple(scan.scan(folder, words)),
        tuple(contents.damaged(folder)),
        "",
    )
