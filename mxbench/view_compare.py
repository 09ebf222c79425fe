"""A comparison on the terminal. Computes nothing but what `versus` gives it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.text import Text

from . import versus
from .device import DeviceInfo
from .duel import Compared
from .versus import Ratio, Verdict
from .view import plain_table
from .view_perf import milliseconds

_STYLES = {Verdict.FASTER: "green", Verdict.SLOWER: "red", Verdict.UNDECIDED: "yellow"}


def blocks(
    done: Sequence[Compared], labels: tuple[str, str], device: DeviceInfo, resolution: float
) -> Iterator[RenderableType]:
    """The cases' ratios, why others have none, and the geometric mean."""
    a, b = labels
    timed = [one for one in done if one.ratios]
    if timed:
        numbers = (f"{a} ms", f"{b} ms", "ratio", "95 %", "blocks x calls")
        made = plain_table(
            "case", *numbers, "verdict", numbers=numbers,
            title=f"{b} against {a} on {device.name} ({device.kind}), {timed[0].mode}",
        )  # fmt: skip
        for one in timed:
            made.add_row(one.case.id, *_cells(one), _verdict(one.ratios[-1], resolution))
        yield made
    for one in done:
        if one.problem:
            head = Text("SKIPPED" if one.skipped else "FAILED", "yellow" if one.skipped else "red")
            yield head.append(f"  {one.case.id}  {one.problem}", "default not bold")
    for note in dict.fromkeys(note for one in timed for note in one.notes):
        yield Text(f"note: {note}", "dim")
    if timed and len(timed[0].ratios) > 1:
        yield from _repeated(timed, resolution)
    elif timed:
        yield _mean(timed, b, resolution)
    if timed and device.kind == "cpu":
        yield Text("CPU timings: they say nothing about a GPU", "dim")


def _cells(one: Compared) -> tuple[str, ...]:
    found = one.ratios[-1]
    a, b = one.means
    return (
        milliseconds(a),
        milliseconds(b),
        f"{found.ratio:.4f}",
        f"{found.low:.4f}..{found.high:.4f}",
        f"{found.samples} x {one.calls}",
    )


def _verdict(found: Ratio, resolution: float) -> Text:
    verdict = found.verdict(resolution)
    return Text(verdict.value, _STYLES[verdict])


def _mean(timed: Sequence[Compared], label: str, resolution: float) -> Text:
    found = versus.geometric_mean([one.blocks for one in timed])
    verdict = found.verdict(resolution)
    line = Text(f"{label}: {verdict.value}", f"bold {_STYLES[verdict]}")
    change = f"{found.ratio - 1:+.2%}".replace("%", " %")
    return line.append(
        f"; time {change} ({found.low:.4f}..{found.high:.4f}), geometric mean of "
        f"{len(timed)} case{'s' if len(timed) > 1 else ''}; less than "
        f"{100 * resolution:g} % is never called a difference",
        "default not bold",
    )


def _repeated(timed: Sequence[Compared], resolution: float) -> Iterator[RenderableType]:
    """How often each verdict came when the whole comparison was repeated."""
    made = plain_table(
        "case", "comparisons", *(v.value for v in Verdict), "ratios",
        numbers=("comparisons", *(v.value for v in Verdict)),
    )  # fmt: skip
    for one in timed:
        counts = Counter(r.verdict(resolution) for r in one.ratios)
        found = sorted(r.ratio for r in one.ratios)
        spread = f"{found[0]:.4f}..{found[-1]:.4f}, median {found[len(found) // 2]:.4f}"
        made.add_row(one.case.id, str(len(found)), *(str(counts[v]) for v in Verdict), spread)
    yield made
