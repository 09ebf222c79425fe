"""The contest's reported bans, looked for in a kernel's source by syntax tree and resolved names.

Nothing is imported and nothing runs. A finding may be waived, for a whole file with `--allow` or
for a line with the comment `# lint: allow RULE because TEXT` on it or right above it; what is
waived is shown with its reason.
"""

from __future__ import annotations

import io
import re
import tempfile
import tokenize
from collections.abc import Mapping
from pathlib import Path

from ..errors import MxbenchError, nearest
from .callpath import ENTRY, CallPath
from .checks import Checker
from .findings import Finding, Report
from .sources import Source, Sources
from .words import RULES

__all__ = ["RULES", "Finding", "Report", "lint", "lint_text", "parse_allowed"]

_WAIVER = re.compile(r"#\s*lint:\s*allow\s+(?P<rule>[\w-]+)\s+because\s+(?P<because>\S.*)")


def lint(
    path: Path,
    home: Path | None = None,
    sizes: frozenset[int] = frozenset(),
    allowed: Mapping[str, str] | None = None,
) -> Report:
    """All findings in a kernel file and in the files of its folder that it imports.

    Args:
        home: the folder in which its relative imports start, `kernels/<op>/`.
        sizes: the sizes that tell the contest's test cases apart.
        allowed: rules waived for the whole kernel, with the reason.

    Raises:
        MxbenchError: exit code 2; a file cannot be read or parsed, an import leads nowhere, or
            the file defines neither `run_kernel` nor a contract.
    """
    sources = Sources(path, home)
    calls = CallPath(sources)
    if not calls.entries:
        raise MxbenchError(
            f"{path.name} defines neither {ENTRY} nor a contract of any operator",
            "lint a kernel or a submission; what no call reaches is not judged",
        )
    found = Checker(sources, calls, sizes).run()
    waivers = {s.path: _waivers(s) for s in sources.files.values()}
    return Report(
        path=path,
        files=tuple(s.path.name for s in sources.files.values()),
        findings=tuple(_waived(f, waivers[f.path], allowed or {}) for f in found),
    )


def lint_text(
    text: str,
    name: str,
    sizes: frozenset[int] = frozenset(),
    allowed: Mapping[str, str] | None = None,
) -> Report:
    """The same for the text of a file that stands alone and is not written yet."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_text(text, encoding="utf-8")
        return lint(path, None, sizes, allowed)


def _waived(
    finding: Finding, waivers: Mapping[tuple[int, str], str], allowed: Mapping[str, str]
) -> Finding:
    because = allowed.get(finding.rule)
    for line in (finding.line, finding.line - 1):
        because = because or waivers.get((line, finding.rule))
    return finding if because is None else finding.waived(because)


def _waivers(source: Source) -> dict[tuple[int, str], str]:
    """(line, rule) -> reason, of a file's comments; MxbenchError for a rule that there is not."""
    found = {}
    for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
        match = _WAIVER.search(token.string) if token.type == tokenize.COMMENT else None
        if match is not None:
            rule = match["rule"]
            if rule not in RULES:
                raise MxbenchError(
                    f"{source.path.name}:{token.start[0]}: there is no lint rule {rule!r}",
                    nearest(rule, RULES),
                )
            found[token.start[0], rule] = match["because"].strip()
    return found


def parse_allowed(rules: list[str], because: list[str]) -> dict[str, str]:
    """`--allow RULE --because TEXT`, in pairs, as a mapping.

    Raises:
        MxbenchError: no such rule, or not a reason for each.
    """
    for rule in rules:
        if rule not in RULES:
            raise MxbenchError(f"there is no lint rule {rule!r}", nearest(rule, RULES))
    if len(rules) != len(because) or not all(text.strip() for text in because):
        raise MxbenchError(
            f"{len(rules)} --allow and {len(because)} --because",
            "give a reason for each: --allow RULE --because TEXT",
        )
    return dict(zip(rules, because, strict=True))
