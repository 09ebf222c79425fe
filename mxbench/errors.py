"""The one exception the command line turns into a clean message and an exit code."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_ENVIRONMENT = 3
EXIT_INTERRUPTED = 130

_MANY = 12  # names are not all listed in a hint
_FEW = 3  # of them are, then


class MxbenchError(Exception):
    """Something the user can fix: what is wrong, where, and what to do about it.

    `message` names the place and the fault, `hint` the fix. `exit_code` is 2 for bad usage or
    input and 3 for an environment that lacks something (a GPU, a compiler, disk space).
    """

    def __init__(self, message: str, hint: str = "", exit_code: int = EXIT_USAGE) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint for a misspelt name: the closest known one if there is any, else the first few."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    if len(names) > _MANY:
        names = [*names[:_FEW], f"and {len(names) - _FEW} more"]
    return f"known: {', '.join(names)}" if names else "there are none"
