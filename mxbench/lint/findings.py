"""What the lint found."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from .words import RULES


@dataclass(frozen=True)
class Finding:
    """One place that a ban speaks of."""

    rule: str
    path: Path
    line: int
    what: str
    """What stands there."""
    because: str | None = None
    """Why it is allowed; None if it is not."""

    @property
    def why(self) -> str:
        """What is banned."""
        return RULES[self.rule]

    def waived(self, because: str) -> Finding:
        return replace(self, because=because)

    def __str__(self) -> str:
        text = f"{self.path.name}:{self.line}: {self.rule}: {self.what}"
        return text if self.because is None else f"{text}; allowed because {self.because}"


@dataclass(frozen=True)
class Report:
    """All findings of one kernel."""

    path: Path
    files: tuple[str, ...]
    """The files that were read."""
    findings: tuple[Finding, ...]

    @property
    def offences(self) -> list[Finding]:
        """What nobody allowed."""
        return [f for f in self.findings if f.because is None]

    @property
    def waivers(self) -> list[Finding]:
        """What somebody allowed, with the reason."""
        return [f for f in self.findings if f.because is not None]
