"""Whether a hand-in holds what the rule lists. Works on any folder, ours or somebody else's."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import extract

LOOKED_AT = 3  # pages of a PDF that tell what it is
SOURCES = {".py", ".cu", ".cpp", ".cc", ".h", ".hpp", ".maca"}
LOGS = {".log", ".jsonl", ".csv"}
VIDEOS = {".mp4", ".mov", ".mkv", ".avi", ".webm"}
SLIDES = {".pptx", ".ppt", ".odp", ".key"}


@dataclass(frozen=True)
class Item:
    """One thing the rule asks for."""

    name: str
    required: bool
    found: str
    """The file that has it; empty if none."""
    wanted: str
    """What to add."""

    @property
    def ok(self) -> bool:
        return bool(self.found) or not self.required


def inspect(folder: Path) -> list[Item]:
    """Every item of the rule's list, found or not."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    named = [(p.relative_to(folder).as_posix(), p) for p in files]
    pdfs = [(name, _words_of(name, p)) for name, p in named if p.suffix.lower() == ".pdf"]
    readmes = [(n, p) for n, p in named if re.fullmatch(r"readme(\.\w+)?", p.name, re.IGNORECASE)]
    return [
        _document("design report", pdfs, r"算法设计|设计报告|design report|algorithm design"),
        _document("functional test report", pdfs, r"功能测试|functional (?:test )?report"),
        _document("performance test report", pdfs, r"性能测试|performance (?:test )?report"),
        _any("journals and logs", named, _has(LOGS), "add the journal.jsonl and logs of the runs"),
        _any("source", named, _is_source, "add the kernels' source"),
        *(_command(what, pattern, readmes) for what, pattern in COMMANDS),
        _any("slides", named, _has(SLIDES), "", required=False),
        _any("video", named, _has(VIDEOS), "", required=False),
    ]


COMMANDS = (
    ("build", r"pip3? install|cmake|make\b|setup\.py|build\.sh|uv (?:sync|pip)|conda "),
    ("test", r"pytest|mxbench check|unittest|run_tests?|test\w*\.(?:py|sh)|make test|check\.sh"),
    ("benchmark", r"mxbench perf|bench\w*\.(?:py|sh)|perf\w*\.(?:py|sh)|make bench|benchmark"),
)
"""Commands that a README must tell: what each is for, and what it looks like."""


def _words_of(name: str, path: Path) -> str:
    """A PDF's name and the text of its first pages."""
    found = [name]
    for place, text in extract.words(name, path.read_bytes()):
        if place.startswith("page ") and int(place[5:]) > LOOKED_AT:
            break
        found.append(text)
    return "\n".join(found)


def _document(what: str, pdfs: Sequence[tuple[str, str]], pattern: str) -> Item:
    """The PDF whose name says what it is, else one whose first pages do."""
    by_name = [name for name, _ in pdfs if re.search(pattern, Path(name).name, re.IGNORECASE)]
    by_text = [name for name, text in pdfs if re.search(pattern, text, re.IGNORECASE)]
    found = (by_name or by_text or [""])[0]
    return Item(f"{what} (PDF)", True, found, "`mxbench report --pdf` makes it")


def _any(
    what: str,
    named: Sequence[tuple[str, Path]],
    fits: Callable[[str, Path], bool],
    wanted: str,
    required: bool = True,
) -> Item:
    found = next((name for name, path in named if fits(name, path)), "")
    return Item(what, required, found, wanted)


def _has(suffixes: set[str]) -> Callable[[str, Path], bool]:
    return lambda name, path: path.suffix.lower() in suffixes and path.stat().st_size > 0


def _is_source(name: str, path: Path) -> bool:
    return path.suffix in SOURCES and path.stat().st_size > 0 and "test" not in name.lower()


def _command(what: str, pattern: str, readmes: Sequence[tuple[str, Path]]) -> Item:
    found = ""
    for name, path in readmes:
        text = path.read_text(encoding="utf-8", errors="replace")
        blocks = re.findall(r"^(?:```|~~~).*?^(?:```|~~~)|^ {4}\S.*$|`[^`\n]+`", text,
                            re.MULTILINE | re.DOTALL)  # fmt: skip
        if any(re.search(pattern, block) for block in blocks):
            found = name
            break
    return Item(f"README with the {what} command", True, found, f"write down how to {what}")
