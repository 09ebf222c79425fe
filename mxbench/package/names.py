"""A hand-in's name, `unit－name－title－phone.zip`, which is kept nowhere else."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import MxbenchError

SEPARATOR = "－"
"""The rule's: a full-width hyphen."""
FIELDS = ("unit", "name", "title", "phone")
MOST_BYTES = 240  # of a file name, which common file systems limit to 255 with `.zip` and a suffix

_FORBIDDEN = re.compile(r'[/\\:*?"<>|\x00-\x1f\x7f]')


@dataclass(frozen=True)
class HandIn:
    """What the rule wants in the file's name."""

    unit: str
    name: str
    title: str
    phone: str

    def __post_init__(self) -> None:
        """MxbenchError for a part that is empty or cannot stand in a file's name."""
        for field in FIELDS:
            value = getattr(self, field)
            if not value.strip():
                raise MxbenchError(f"--{field} is empty", "the zip's name needs all four parts")
            wrong = _FORBIDDEN.search(value)
            if wrong:
                raise MxbenchError(
                    f"--{field} {value!r}: {wrong[0]!r} cannot stand in a file's name",
                    "leave it out, or write it in another way",
                )
            if SEPARATOR in value:
                raise MxbenchError(
                    f"--{field} {value!r}: {SEPARATOR} separates the parts of the zip's name",
                    "use an ordinary hyphen",
                )
        if not re.fullmatch(r"\+?[\d -]{5,20}", self.phone):
            raise MxbenchError(f"--phone {self.phone!r} is no phone number", "digits, 5 to 20")
        if len(self.file.encode()) > MOST_BYTES:
            raise MxbenchError("the zip's name is too long for a file system", "shorten --title")

    @property
    def file(self) -> str:
        parts = (getattr(self, field).strip() for field in FIELDS)
        return SEPARATOR.join(parts) + ".zip"

    @property
    def private(self) -> tuple[str, ...]:
        """What must stand nowhere inside: all but the title."""
        return (self.unit.strip(), self.name.strip(), self.phone.strip())


def parse(stem: str) -> HandIn | None:
    """The parts of a zip's name; None if it is not of the rule's form."""
    parts = stem.split(SEPARATOR)
    if len(parts) != len(FIELDS):
        return None
    try:
        return HandIn(*parts)
    except MxbenchError:
        return None
