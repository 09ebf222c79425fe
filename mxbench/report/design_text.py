"""The words of a design report: `kernels/<op>/DESIGN.md`, its headings, its places for tables.

A table that a journal fills stands between two comments, so that the file reads well by itself and
the report shows the figures of its own device:

    <!-- journal: floor -->
    (whatever stands here is replaced)
    <!-- end journal -->

The kinds are `floor`, `ablation`, `errors` and `resources`; the second comment may be left out
where there is nothing to replace.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from ..errors import MxbenchError, nearest
from ..workspace import Workspace

FILE, CHINESE_FILE = "DESIGN.md", "DESIGN.zh.md"
KINDS = ("floor", "ablation", "errors", "resources")

_MARK = re.compile(
    r"^<!-- journal: *(?P<kind>\S*?) *-->[ \t]*$"
    r"(?:(?:(?!^<!-- journal:).)*?^<!-- end journal -->[ \t]*$)?",
    re.MULTILINE | re.DOTALL,
)
_FENCE = re.compile(r"^(```|~~~).*?^\1[ \t]*$", re.MULTILINE | re.DOTALL)


def path_of(workspace: Workspace, op: str, language: str) -> Path | None:
    """The design text of an operator in the language, else in English; None without any."""
    names = (CHINESE_FILE, FILE) if language == "zh" else (FILE,)
    found = (workspace.kernels / op / name for name in names)
    return next((path for path in found if path.is_file()), None)


def read(path: Path) -> str:
    """The text without its title.

    Raises:
        MxbenchError: exit code 2; it cannot be read, is empty, or asks for an unknown table.
    """
    shown = f"kernels/{path.parent.name}/{path.name}"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MxbenchError(f"cannot read {shown}: {error}", "save it as UTF-8") from error
    body = re.sub(r"\A\s*# [^\n]*\n", "", text).strip()
    if not body:
        raise MxbenchError(f"{shown} is empty", "describe the algorithm there, step by step")
    for mark in _MARK.finditer(text):
        if mark["kind"] not in KINDS:
            line = text.count("\n", 0, mark.start()) + 1
            raise MxbenchError(
                f"{shown}:{line}: no table of kind {mark['kind']!r}", nearest(mark["kind"], KINDS)
            )
    return body


def marked(text: str) -> set[str]:
    """The kinds of tables that the text has places for."""
    return {mark["kind"] for mark in _MARK.finditer(text)}


def fill(text: str, tables: Mapping[str, str]) -> str:
    """The text with a journal's tables in their places."""
    return _MARK.sub(lambda mark: tables[mark["kind"]], text)


def demote(text: str, levels: int) -> str:
    """Headings so many levels further down, at most six; code is left alone."""
    parts, at = [], 0
    for fence in _FENCE.finditer(text):
        parts += [_demote(text[at : fence.start()], levels), fence[0]]
        at = fence.end()
    return "".join([*parts, _demote(text[at:], levels)])


def _demote(text: str, levels: int) -> str:
    return re.sub(
        r"^(#{1,6})(?= )", lambda m: "#" * min(6, len(m[1]) + levels), text, flags=re.MULTILINE
    )


def pseudocode(text: str) -> list[str]:
    """The fenced blocks, without their fences."""
    blocks = (m[0].split("\n") for m in _FENCE.finditer(text))
    return ["\n".join(lines[1:-1]) for lines in blocks]


def leads(text: str) -> list[tuple[str, str]]:
    """(bold words, what follows) of each paragraph or list item that begins with bold words."""
    blocks = re.split(r"\n\s*\n", re.sub(r"\n(?=\s*(?:[-*] |\d+\. |\*\*))", "\n\n",
                      _FENCE.sub("", _MARK.sub("", text))))  # fmt: skip
    found = []
    for block in blocks:
        begun = re.match(r"\s*(?:[-*] |\d+\. )?\*\*(?P<bold>.+?)\*\*(?P<rest>.*)", block, re.DOTALL)
        if begun:
            rest = re.sub(r"\s*\n\s*", " ", begun["rest"]).strip()
            found.append((re.sub(r"^\d+\.\s*", "", begun["bold"]).rstrip(".:：。"), rest))
    return found


def paragraphs(text: str) -> list[str]:
    """The running text: no headings, tables, lists, quotes or code; each as one line."""
    plain = _FENCE.sub("", _MARK.sub("", text))
    found = []
    for block in re.split(r"\n\s*\n", plain):
        block = block.strip()
        if block and not re.match(r"[#|>]|[-*] |\d+\. |<!--", block):
            found.append(re.sub(r"\s*\n\s*", " ", block))
    return found
