"""What a chart shows: its timings by kernel, short case labels, title and caption. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from . import figures, numbers
from .figures import Pen
from .measured import Measured
from .parts import Context
from .texts import Texts


@dataclass(frozen=True)
class Look:
    """Colour and marker of a kernel, the same in all charts of a suite."""

    colour: str
    marker: str


@dataclass(frozen=True)
class Picture:
    """One chart to draw."""

    op: str
    suite: str
    kind: str
    """`latency`, `speedup` or `roofline`."""
    timed: tuple[Measured, ...]
    context: Context
    pen: Pen
    suite_timed: tuple[Measured, ...] = ()
    """All timings of the suite, where the chart shows a part: kernels look alike in all parts."""

    @cached_property
    def kernels(self) -> list[str]:
        """Kernels in order, the baseline last."""
        baseline = self.context.catalog.baseline
        timed = self.suite_timed or self.timed
        return sorted({m.record.kernel for m in timed}, key=lambda k: (k == baseline, k))

    def of(self, kernel: str) -> list[Measured]:
        return [m for m in self.timed if m.record.kernel == kernel]

    def look(self, kernel: str) -> Look:
        if kernel == self.context.catalog.baseline:
            return Look(figures.BASELINE_COLOUR, figures.BASELINE_MARKER)
        i = self.kernels.index(kernel) % len(figures.COLOURS)
        return Look(figures.COLOURS[i], figures.MARKERS[i])

    def handle(self, kernel: str, **style: Any) -> Any:
        """A kernel's entry in the legend."""
        from matplotlib.lines import Line2D

        look = self.look(kernel)
        plain = {"marker": look.marker, "linestyle": "none", "label": self.pen.safe(kernel)}
        return Line2D([], [], color=look.colour, **{**plain, **style})

    # --- words ---

    def title(self, t: Texts) -> str:
        name = t(self.op) if self.op in ("moe", "mla", "nsa") else self.op
        return t(
            f"chart_{self.kind}", op=name, suite=self.suite, baseline=self.context.catalog.baseline
        )

    def caption(self, t: Texts) -> list[str]:
        """Device and protocol, and on which peaks the floors stand."""
        found = [
            t(
                "caption",
                device=self.context.device.name,
                rule=self.context.catalog.rule.name,
                counts=self._counts(t),
                clock=self._clock(t),
            )
        ]
        peaks = dict.fromkeys(m.record.bound.peaks for m in self.timed if m.record.bound)
        if peaks and self.kind != "speedup":
            found.append(t("caption_peaks", peaks=t.listed([t.peaks(source) for source in peaks])))
        return found

    def _counts(self, t: Texts) -> str:
        warmups = sorted({m.timing.warmup for m in self.timed})
        repeats = sorted({m.timing.repeat for m in self.timed})
        return t(
            "caption_counts",
            warmup=numbers.span(str(warmups[0]), str(warmups[-1])),
            repeat=numbers.span(str(repeats[0]), str(repeats[-1])),
        )

    def _clock(self, t: Texts) -> str:
        modes = {m.timing.mode for m in self.timed}
        (mode,) = modes if len(modes) == 1 else ("mixed",)
        return t(f"caption_{mode}") if mode in ("eager", "graph", "mixed") else mode

    def sentence(self, t: Texts) -> str:
        """Title and caption in one, for the page."""
        return f"{self.title(t)} · {' · '.join(self.caption(t))}"

    def figure(self, width: float, height: float, more: Sequence[str] = ()) -> Any:
        """An empty figure with this picture's title and caption."""
        safe, t = self.pen.safe, self.pen.t
        lines = [safe(line) for line in (*self.caption(t), *more)]
        return figures.figure(safe(self.title(t)), lines, width, height)

    @property
    def caption_lines(self) -> int:
        return len(self.caption(self.pen.t))


# --- labels -------------------------------------------------------------------------------------


def short_labels(timed: Sequence[Measured]) -> tuple[dict[str, str], str]:
    """Case name -> what tells it apart from the other cases; and what all have in common.

    Names are words joined by `-`. A word that all cases of a contract have is left out.
    """
    names = {m.record.case: m.record.contract for m in timed}
    words = {name: re.split(r"-(?=[A-Za-z])", name) for name in names}
    labels = {}
    for name, contract in names.items():
        peers = [set(words[other]) for other, its in names.items() if its == contract]
        common = set.intersection(*peers) - {contract}
        label = " ".join(w for w in words[name] if w not in common) or name
        labels[name] = name if label == contract else label
    if len(set(labels.values())) < len(labels) or len(names) == 1:
        return {name: name for name in names}, ""
    everywhere = set.intersection(*(set(w) for w in words.values()))
    first = next(iter(words.values()))
    return labels, " ".join(word for word in first if word in everywhere)
