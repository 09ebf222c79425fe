"""Journals in, records out: which files, what is wrong with them, and which record counts."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import MxbenchError
from ..record import SCHEMA, Record, read_journal
from ..workspace import Workspace

FILE = "journal.jsonl"


@dataclass(frozen=True)
class Source:
    """A journal that was read."""

    path: Path
    records: tuple[Record, ...]
    damaged: tuple[str, ...]
    """One message for each line that is not a record."""


@dataclass(frozen=True)
class Device:
    """All that the journals say of one device."""

    name: str
    slug: str
    """Name of its folder."""
    is_cpu: bool
    journals: tuple[tuple[Record, ...], ...]
    """Its records, journal by journal, oldest first."""

    def newest(
        self, key: Callable[[Record], Hashable], keep: Callable[[Record], bool] = lambda _: True
    ) -> tuple[list[Record], int]:
        """The newest of the kept records of each key, and how many others it supersedes."""
        kept = [[r for r in records if keep(r)] for records in self.journals]
        return newest(kept, key)


def case_key(record: Record) -> Hashable:
    """What must be equal for two records to be results of the same thing on one device.

    Not the seed: another one is the same case with other numbers.
    """
    params = json.dumps(record.params, sort_keys=True)
    return (record.id, record.contract, params, record.dtype, record.kernel)


def newest(
    journals: Sequence[Sequence[Record]], key: Callable[[Record], Hashable]
) -> tuple[list[Record], int]:
    """The newest record of each key in order of first appearance, and the number superseded.

    Within a journal the last one counts; between journals the one with the later run id, which
    begins with the time. A record that stands in two journals supersedes nothing.
    """
    found: dict[Hashable, Record] = {}
    superseded = 0
    for records in journals:
        latest: dict[Hashable, Record] = {}
        for record in records:
            superseded += key(record) in latest
            latest[key(record)] = record
        for place, record in latest.items():
            other = found.get(place)
            superseded += other is not None and other != record
            if other is None or record.run >= other.run:
                found[place] = record
    return list(found.values()), superseded


# --- finding and reading ------------------------------------------------------------------------


def default_paths(workspace: Workspace, out: Path) -> list[Path]:
    """The journals of the devices under `out`, then the workspace's own.

    Raises:
        MxbenchError: there is none.
    """
    places = [*sorted(out.glob(f"*/{FILE}")), workspace.state / FILE]
    found = [path for path in places if path.is_file()]
    if not found:
        raise MxbenchError(
            f"no journal: neither {workspace.state / FILE} nor {out / '*' / FILE} is there",
            "run `mxbench check` or `mxbench perf` first, or name a journal with --journal",
        )
    return found


def read(paths: Iterable[Path]) -> list[Source]:
    """Every journal once, however often it is named; a folder stands for the journal in it.

    Raises:
        MxbenchError: exit code 2; one is missing, unreadable, empty or of another schema.
    """
    files = [path / FILE if path.is_dir() else path for path in paths]
    unique = {path.resolve(): path for path in files}
    return [_read_one(path) for path in unique.values()]


def _read_one(path: Path) -> Source:
    if not path.exists():
        raise MxbenchError(f"no journal at {path}", "check --journal; `mxbench check` writes one")
    try:
        lines = [line for line in path.read_bytes().split(b"\n") if line.strip()]
    except OSError as error:
        raise MxbenchError(
            f"cannot read journal {path}: {error.strerror or error}", "check its permissions"
        ) from error
    if not lines:
        raise MxbenchError(
            f"journal {path} is empty", "run `mxbench check` or `mxbench perf` to fill it"
        )
    records, damaged = read_journal(path)
    if not records:
        raise _no_record(path, lines, damaged)
    folder = f"{path.parent.name}/" if path.parent.name else ""
    return Source(path, tuple(records), tuple(folder + message for message in damaged))


def _no_record(path: Path, lines: Sequence[bytes], damaged: Sequence[str]) -> MxbenchError:
    """The error for a journal without a single good line."""
    schemas = Counter(_schema(line) for line in lines)
    other = [s for s in schemas if isinstance(s, int) and s != SCHEMA]
    if other:
        return MxbenchError(
            f"journal {path} has schema {other[0]}; this mxbench reads schema {SCHEMA}",
            "render it with the mxbench that wrote it, or run the cases again",
        )
    return MxbenchError(
        f"{path} is not a journal: none of its {len(lines)} lines is a record",
        f"the first fault: {damaged[0]}",
    )


def _schema(line: bytes) -> object:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value.get("schema") if isinstance(value, dict) else None


# --- devices ------------------------------------------------------------------------------------


def devices(sources: Sequence[Source]) -> list[Device]:
    """The devices of all journals, GPUs first, each with its records alone."""
    names: dict[str, bool] = {}
    for record in (r for source in sources for r in source.records):
        names[record.device] = names.get(record.device, True) and is_cpu(record)
    slugs = _slugs(names)
    found = [
        Device(
            name=name,
            slug=slugs[name],
            is_cpu=cpu,
            journals=tuple(tuple(r for r in s.records if r.device == name) for s in sources),
        )
        for name, cpu in names.items()
    ]
    return sorted(found, key=lambda device: (device.is_cpu, device.slug))


def is_cpu(record: Record) -> bool:
    """Whether a CPU computed it: its times are no performance claim."""
    return record.target == "cpu" or (record.timing is not None and record.timing.mode == "cpu")


# Words of a device's name that do not tell models apart for a reader of folder names.
_MINOR = re.compile(r"\d+gi?b|hbm\d*e?|sxm\d*|cpu|processor|r|tm|\d+(\.\d+)?ghz")


def slug(device: str) -> str:
    """The words of a device's name that make its folder: `nvidia-h100`."""
    words = [w for w in _words(device) if not _MINOR.fullmatch(w)]
    return "-".join(words) or "-".join(_words(device)) or "device"


def _words(device: str) -> list[str]:
    return re.findall(r"[a-z0-9.]*[a-z0-9]", device.lower())


def _slugs(names: Iterable[str]) -> dict[str, str]:
    """A folder name for each device; devices that would share one get all their words."""
    short = {name: slug(name) for name in names}
    count = Counter(short.values())
    full = {n: "-".join(_words(n)) or "device" if count[s] > 1 else s for n, s in short.items()}
    taken: Counter[str] = Counter()
    for name, chosen in full.items():  # names that differ in punctuation alone
        taken[chosen] += 1
        if taken[chosen] > 1:
            full[name] = f"{chosen}-{taken[chosen]}"
    return full
