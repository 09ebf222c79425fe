"""Every sentence of the reports, in both languages: `phrase key -> (Chinese, English)`."""

from __future__ import annotations

import re
from typing import Literal, get_args

from . import analysis, charts, common, design, functional, performance, slides

Language = Literal["zh", "en"]
LANGUAGES: tuple[str, ...] = get_args(Language)

PHRASES: dict[str, tuple[str, str]] = {
    **common.PHRASES,
    **functional.PHRASES,
    **performance.PHRASES,
    **analysis.PHRASES,
    **charts.PHRASES,
    **design.PHRASES,
    **slides.PHRASES,
}


class Texts:
    """The phrases of one language."""

    def __init__(self, language: Language) -> None:
        self.language = language
        self._column = LANGUAGES.index(language)

    def __call__(self, key: str, **values: object) -> str:
        """The phrase `key` with `values` in its places."""
        return PHRASES[key][self._column].format(**values)

    def listed(self, items: list[str]) -> str:
        """The items as an enumeration."""
        return ("、" if self.language == "zh" else ", ").join(items)

    def joined(self, sentences: list[str]) -> str:
        """Sentences as a paragraph: Chinese has no space between them."""
        return ("" if self.language == "zh" else " ").join(sentences)

    def ambiguity(self, english: str) -> str:
        """A rule's open point, translated where a translation is known."""
        if self.language == "zh":
            return performance.AMBIGUITIES.get(english, english)
        return english

    def peaks(self, source: str) -> str:
        """Where a bound's peaks come from, as the record says it in English."""
        for key in ("peaks_here", "peaks_elsewhere", "peaks_sheet"):
            pattern = re.escape(PHRASES[key][1]).replace(r"\{name\}", r"(?P<name>.+)")
            if match := re.fullmatch(pattern, source):
                return self(key, **match.groupdict())
        return source

    def alphabet(self) -> set[str]:
        """Every character the charts may need beyond ASCII."""
        text = "".join(pair[self._column] for pair in (charts.PHRASES | common.PHRASES).values())
        return {char for char in text if ord(char) > 127}
