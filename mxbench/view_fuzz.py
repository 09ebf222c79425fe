"""What fuzzing tells on the terminal. Computes nothing."""

from __future__ import annotations

from rich.text import Text

from .fuzzing.campaign import Finding, Tally


def summary(op: str, kernels: str, shapes: int, tally: Tally, found: list[Finding]) -> Text:
    """`mla: 300 cases (dense 140, paged 160) of 12 static shapes: 298 passed, ...`."""
    parts = ", ".join(f"{name} {count}" for name, count in sorted(tally.contracts.items()))
    line = Text(f"{op} ", "bold").append(f"[{kernels}]: ", "not bold")
    line.append(f"{tally.runs} cases ({parts}) of {shapes} static shapes: ", "not bold")
    line.append(f"{tally.passed} passed", "not bold")
    for count, words in (
        (tally.not_served, "not implemented by the kernel"),
        (tally.undrawable, "without possible inputs"),
        (tally.skipped, "too large for the device"),
        (tally.golden, "off from the fp32 golden but not from the fp64 one"),
        (tally.known, "failed like one that was found before"),
    ):
        if count:
            line.append(f", {count} {words}", "not bold")
    if tally.interrupted:
        line.append("; interrupted", "yellow not bold")
    if found:
        return line.append(f"; {len(found)} faults found", "bold red")
    return line.append("; nothing found", "green")


def finding(one: Finding, command: str) -> Text:
    """A fault, the smallest case that shows it, and how to see it again."""
    outcome = one.outcome
    status = outcome.strict or outcome.status
    text = Text(status.value, "bold red").append(f"  {one.case.id}", "bold")
    text.append(f"\n  {outcome.reason}", "not bold")
    text.append(f"\n  {one.case.params.label()} {one.case.dtype} seed {one.case.seed}", "not bold")
    if one.first != one.case:
        was = one.first.params.label()
        text.append(f", shrunk from {was} in {one.shrinks} tries", "not bold")
    if not one.steady:
        text.append("\n  it did not fail again when it was run again", "yellow not bold")
    return text.append(f"\n  {command}", "cyan not bold")
