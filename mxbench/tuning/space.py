"""A program's search space, from the schedules that are written for it anywhere. Pure.

A schedule is a dict of parameters (tile sizes, threads, stages, ...). What a parameter may be is
read off the files: every value it has in any entry of the program, for any device class of the
same sort, and the neighbours of the value in use. So a new program has a space as soon as it has
one schedule, and a value that no author would write is not tried unless asked for with --try.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..errors import MxbenchError, nearest

Schedule = dict[str, Any]
Values = dict[str, list[Any]]
Tables = Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]
"""Device class -> program -> entries."""

SMALL = 16  # a count up to here has neighbours one more and one less; above, half and twice


def values(tables: Tables, device_class: str, program: str, default: Schedule) -> Values:
    """The values of each parameter of `default`, its own first."""
    cpu = device_class == "cpu"
    entries = [
        entry["use"]
        for name, table in tables.items()
        if (name == "cpu") == cpu
        for entry in table.get(program, ())
    ]
    found: Values = {}
    for key, value in default.items():
        seen = [value, *_neighbours(key, value), *(use[key] for use in entries if key in use)]
        found[key] = _distinct(v for v in seen if type(v) is type(value) or _numbers(v, value))
    return found


def _neighbours(key: str, value: Any) -> list[Any]:
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, float):
        return [value / 2, value * 2]
    if not isinstance(value, int):
        return []
    if key == "threads":  # of a CPU there is one
        return [value // 2, value * 2] if value > 1 else []
    doubled = [value // 2, value * 2]
    if key == "stages" or (value < SMALL and not _power_of_two(value)):
        doubled += [value - 1, value + 1]
    return sorted(v for v in doubled if v > 0)


def _power_of_two(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


def _numbers(*found: Any) -> bool:
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in found)


def _distinct(found: Iterable[Any]) -> list[Any]:
    return list({json.dumps(v): v for v in found}.values())


def narrowed(found: Values, wanted: Mapping[str, list[Any]], program: str) -> Values:
    """`found` with the values that the user gave instead.

    Raises:
        MxbenchError: the program has no such parameter.
    """
    for key in wanted:
        if key not in found:
            raise MxbenchError(f"--try: {program} has no parameter {key!r}", nearest(key, found))
    # The default stays in: a winner must beat it.
    return {k: _distinct([v[0], *wanted[k]]) if k in wanted else v for k, v in found.items()}


def parse_wanted(texts: Sequence[str]) -> dict[str, list[Any]]:
    """`["stages=1,2", "warps=rows"]` as values by parameter.

    Raises:
        MxbenchError: one is not PARAMETER=VALUE,...
    """
    found = {}
    for text in texts:
        key, equals, listed = text.partition("=")
        if not equals or not key.strip() or not listed.strip():
            raise MxbenchError(f"--try {text!r} is not PARAMETER=VALUE,...", "like stages=1,2,3")
        found[key.strip()] = [_value(word.strip()) for word in listed.split(",")]
    return found


def _value(word: str) -> Any:
    try:
        value = json.loads(word)
    except ValueError:
        return word
    return value if isinstance(value, int | float) and math.isfinite(value) else word


def size(found: Values) -> int:
    """How many schedules the space has, the default included."""
    return math.prod(len(v) for v in found.values())


def candidates(found: Values, limit: int) -> list[Schedule]:
    """Up to `limit` schedules beside the default: every single change, then pairs of changes.

    Pairs come in an order that is always the same but favours no parameter.
    """
    default = {key: options[0] for key, options in found.items()}
    singles = list(_changed(default, found, 1))
    pairs = sorted(_changed(default, found, 2), key=_shuffled)
    return [*singles, *pairs][:limit]


def _changed(default: Schedule, found: Values, count: int) -> Iterator[Schedule]:
    for keys in itertools.combinations(found, count):
        for chosen in itertools.product(*(found[key][1:] for key in keys)):
            yield {**default, **dict(zip(keys, chosen, strict=True))}


def _shuffled(schedule: Schedule) -> str:
    return hashlib.sha256(key(schedule).encode()).hexdigest()


def key(schedule: Schedule) -> str:
    """A schedule's identity as text."""
    return json.dumps(schedule, sort_keys=True)


def combined(default: Schedule, better: Sequence[Schedule], known: Iterable[str]) -> list[Schedule]:
    """Schedules that join the changes of two that paid, best pair first; none that is known.

    Where both change the same parameter the first of the pair has its way.
    """
    seen = set(known)
    found = []
    for first, second in itertools.combinations(better, 2):
        changes = {k: v for one in (second, first) for k, v in one.items() if v != default[k]}
        joined = {**default, **changes}
        if key(joined) not in seen:
            seen.add(key(joined))
            found.append(joined)
    return found


def describe(schedule: Schedule, default: Schedule) -> str:
    """What a schedule changes, as `stages=3 threads=128`."""
    changes = [f"{k}={v}" for k, v in schedule.items() if v != default.get(k)]
    return " ".join(changes) or "default"
