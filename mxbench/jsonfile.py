"""Read a JSON file into typed values, with errors that name the file, the place and the fix."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, get_args, get_origin

import msgspec

from .errors import MxbenchError, nearest

T = TypeVar("T")

_AT = re.compile(r"^(?P<what>.*?)(?: - at `(?:key in )?\$(?P<path>.*)`)?$", re.DOTALL)
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<field>.*)`$")
_RULE = re.compile(r"^(?P<field>\w+) must ")  # how our __post_init__ checks begin
_MISSING = re.compile(r"^Object missing required field `(?P<field>.*)`$")


class Source:
    """A place in a JSON document: the file's name for people, and a path such as `$.cases[3]`."""

    def __init__(self, file: str, path: str = "$") -> None:
        self.file = file
        self.path = path

    def __truediv__(self, step: str | int) -> Source:
        """The field or list item `step` below this place."""
        suffix = f"[{step}]" if isinstance(step, int) else f".{step}"
        return Source(self.file, self.path + suffix)

    def error(self, what: str, hint: str = "") -> MxbenchError:
        """The error that says `what` is wrong here."""
        return MxbenchError(f"{self.file}: {self.path}: {what}", hint)


def _object_without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a key that stands twice in one object: either value could be the one meant."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} stands twice in one object")
        found[key] = value
    return found


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def read(file: Path, shown: str | None = None) -> Any:
    """The plain value of a JSON file.

    `shown` is the file's name in errors. MxbenchError if the file cannot be read, is empty or not
    UTF-8, is not JSON (with line and column), or has an object with a repeated key.
    """
    name = shown or str(file)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise MxbenchError(f"{name}: byte {error.start} is not UTF-8", "save it as UTF-8") from None
    except OSError as error:
        raise MxbenchError(f"{name}: cannot be read: {error.strerror}") from None
    if not text.strip():
        raise MxbenchError(f"{name}: the file is empty", "expected one JSON object")
    try:
        return json.loads(
            text, object_pairs_hook=_object_without_repeats, parse_constant=_no_constant
        )
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise MxbenchError(f"{name}: malformed JSON at {where}: {error.msg}") from None
    except ValueError as error:
        raise MxbenchError(f"{name}: {error}") from None
    except RecursionError:
        raise MxbenchError(f"{name}: malformed JSON: nested too deeply") from None


def replace_file(file: Path, text: str) -> None:
    """Write `text` to `file` whole, or leave it as it was.

    MxbenchError if it cannot be written.
    """
    half = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        half.write_text(text, encoding="utf-8")
        half.replace(file)
    except OSError as error:
        half.unlink(missing_ok=True)
        raise MxbenchError(
            f"cannot write {file}: {error.strerror or error}", "name another place, or make room"
        ) from None


def _value_at(value: Any, path: str) -> Any:
    """The part of `value` that a msgspec path such as `.group_sizes[1]` points to."""
    for name, index in re.findall(r"\.([^.\[\]]+)|\[(\d+)\]", path):
        value = value[name] if name else value[int(index)]
    return value


def convert(value: Any, kind: type[T], at: Source, places: Mapping[str, Source] | None = None) -> T:
    """`value` as the msgspec struct `kind`.

    `places` says where a field was written if not below `at`. MxbenchError naming the file, the
    path, what was expected and what was found; an unknown field comes with the nearest known one.
    A ValueError of `__post_init__` is reported the same way, at the field whose rule it tells.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise _explain(str(error), value, kind, at, places or {}) from None


def _explain(
    message: str, value: Any, kind: type, at: Source, places: Mapping[str, Source]
) -> MxbenchError:
    match = _AT.match(message)
    assert match is not None  # the pattern matches any text
    what, path = match["what"], match["path"] or ""
    if not path and isinstance(value, dict) and (rule := _RULE.match(what)):
        path = f".{rule['field']}" if rule["field"] in value else ""
    place = _place(path, at, places)
    if unknown := _UNKNOWN.match(what):
        field = unknown["field"]
        return (place / field).error("unknown field", nearest(field, fields(kind)))
    if missing := _MISSING.match(what):
        return (place / missing["field"]).error("missing", "this field is required")
    if what.startswith(("Expected", "Invalid")):
        what = what[0].lower() + what[1:]
        if "got" not in what and "enum value" not in what and path:
            what += f", got {_value_at(value, path)!r}"
    return place.error(what, _choices(kind, path))


def _place(path: str, at: Source, places: Mapping[str, Source]) -> Source:
    """Where the field at `path` (such as `.group_sizes[1]`) was written."""
    head, rest = re.match(r"\.?([^.\[]*)(.*)", path, re.DOTALL).groups()  # type: ignore[union-attr]
    if head in places:
        return Source(at.file, places[head].path + rest)
    return Source(at.file, at.path + path)


def _choices(kind: type, path: str) -> str:
    """The allowed words of a struct's field, if it has a fixed list of them."""
    for field in msgspec.structs.fields(kind):
        if f".{field.encode_name}" == path:
            parts = (field.type, *get_args(field.type))  # of a union, one member may be a list
            words = [get_args(part) for part in parts if get_origin(part) is Literal]
            return f"expected one of: {', '.join(map(str, words[0]))}" if words else ""
    return ""


def fields(kind: type) -> list[str]:
    """The JSON names of a struct's fields."""
    return [field.encode_name for field in msgspec.structs.fields(kind)]
