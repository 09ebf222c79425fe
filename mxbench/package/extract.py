"""The words in a file of any kind, each with its place: lines, pages, slides, metadata."""

from __future__ import annotations

import functools
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import PurePosixPath
from xml.etree import ElementTree

from ..errors import EXIT_ENVIRONMENT, MxbenchError

Words = Iterator[tuple[str, str]]
"""(place within the file, text)."""

JSON = {".json", ".jsonl", ".ipynb", ".geojson"}
IMAGES = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".tif", ".tiff", ".bmp"}
ARCHIVES = {".zip", ".pptx", ".docx", ".xlsx", ".whl", ".odp", ".odt", ".ods", ".npz", ".pptm"}
DRAWN = {".svg", ".html", ".htm"}
ENDS = 4 << 20  # bytes at either end of a large binary that are looked at
LARGE = 32 << 20
MOST_INSIDE = 256 << 20  # bytes that an archive inside the hand-in may unpack to
DEEPEST = 3

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_NUMBERED = re.compile(
    r'"[^"]*(?:phone|tel|mobile|qq|contact|identity|电话|手机|证)[^"]*"\s*:\s*(\d{5,18})',
    re.IGNORECASE,
)
_DRAWING = re.compile(r' (?:d|points|transform|style)="[^"]*"')
"""Coordinates: nothing but numbers."""
_PRINTABLE = re.compile(rb"[\x20-\x7e\t]{6,}")


def words(name: str, data: bytes, depth: int = 0) -> Words:
    """Every (place, text) in a file of that name.

    Text of no known encoding, and any other binary, is searched for runs of printable characters.
    What an image shows, or a video says, is not read: only its metadata.
    """
    suffix = PurePosixPath(name).suffix.lower()
    if suffix == ".pdf" or data.startswith(b"%PDF-"):
        yield from _pdf(name, data)
    elif suffix in IMAGES:
        yield from _image(data)
    elif suffix in ARCHIVES or data.startswith(b"PK\x03\x04"):
        yield from _archive(name, data, depth)
    elif suffix in DRAWN:
        yield from _lines(_DRAWING.sub("", data.decode("utf-8", errors="replace")))
    else:
        text = _decoded(data)
        if text is None:
            yield from _binary(data)
        elif suffix in JSON:
            yield from _json(text)
        else:
            yield from _lines(text)


def _decoded(data: bytes) -> str | None:
    """Text, if it is any: UTF-8, UTF-16 with a mark, or GB 18030."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", errors="replace")
    if b"\0" in data[:8192]:
        return None
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    return None


def _lines(text: str) -> Words:
    for number, line in enumerate(text.splitlines(), 1):
        yield str(number), line


def _json(text: str) -> Words:
    """Strings alone, line by line: a count of bytes with eleven digits is no phone number."""
    for number, line in enumerate(text.splitlines(), 1):
        found = _STRING.findall(line)
        for part in found:
            try:
                yield str(number), json.loads(part)
            except ValueError:
                yield str(number), part
        for match in _NUMBERED.finditer(line):
            yield str(number), match[1]
        if not found and line.strip() and not re.fullmatch(r"[\s\d.,eE+\-\[\]{}:]*", line):
            yield str(number), line


def _binary(data: bytes) -> Words:
    if len(data) > LARGE:
        data = data[:ENDS] + b"\0" + data[-ENDS:]
    for match in _PRINTABLE.finditer(data):
        yield f"byte {match.start()}", match[0].decode("ascii")
    # Names in other scripts stand in binaries as UTF-8.
    for run in re.finditer(rb"(?:[\xe4-\xe9][\x80-\xbf]{2}){2,}", data):
        yield f"byte {run.start()}", run[0].decode("utf-8", errors="ignore")


def _pdf(name: str, data: bytes) -> Words:
    try:
        yield from _pdf_words(data)
    except ModuleNotFoundError as error:
        raise MxbenchError(
            f"{name}: reading a PDF needs the package pypdf, which is not installed",
            "pip install 'mxbench[pdf]'",
            EXIT_ENVIRONMENT,
        ) from error


@functools.lru_cache(maxsize=8)
def _pdf_words(data: bytes) -> tuple[tuple[str, str], ...]:
    """Kept: a hand-in's PDFs are read for what they lack, then for names; each takes a second."""
    import pypdf

    found = []
    try:
        reader = pypdf.PdfReader(io.BytesIO(data))
        for key, value in (reader.metadata or {}).items():
            found.append(("metadata", _labelled(str(key).lstrip("/"), str(value))))
        for number, page in enumerate(reader.pages, 1):
            found += [(f"page {number}", line) for line in page.extract_text().splitlines()]
    except pypdf.errors.PyPdfError:
        found += _binary(data)
    return tuple(found)


_PEOPLE = re.compile(
    r"author|artist|creator|owner|modifiedby|manager|company|copyright|gps", re.IGNORECASE
)
_TOOLS = re.compile(r"mxbench|matplotlib|weasyprint|python|libreoffice|^-?$", re.IGNORECASE)


def _labelled(key: str, value: str) -> str:
    """A metadata field as text; one that names a person is put so that the rules see it."""
    if _PEOPLE.search(key) and value.strip() and not _TOOLS.search(value):
        return f"作者: {value}"
    return value


def _image(data: bytes) -> Words:
    from PIL import ExifTags, Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            fields = {str(k): v for k, v in image.info.items() if isinstance(v, str)}
            exif = image.getexif()
            fields |= {ExifTags.TAGS.get(k, str(k)): _text(v) for k, v in exif.items()}
            gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        yield from _binary(data)
        return
    for key, value in fields.items():
        if key != "GPSInfo":
            yield "metadata", _labelled(key, value)
    if gps:
        yield "metadata", "联系人: GPS position"  # personal-data: none


def _text(value: object) -> str:
    """An EXIF value: Windows writes its own fields in UTF-16."""
    if isinstance(value, bytes):
        encoding = "utf-16-le" if b"\0" in value else "utf-8"
        return value.decode(encoding, errors="replace").strip("\0")
    return str(value)


def _archive(name: str, data: bytes, depth: int) -> Words:
    """The files inside, and the marks of XML left out of their text."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as inside:
            members = [m for m in inside.infolist() if not m.is_dir()]
            if depth >= DEEPEST or sum(m.file_size for m in members) > MOST_INSIDE:
                raise MxbenchError(f"{name}: too deep or too large to look into", "unpack it")
            for member in members:
                yield member.filename, member.filename
                content = inside.read(member)
                for place, text in _member(member.filename, content, depth):
                    yield f"{member.filename}: {place}", text
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError):
        yield from _binary(data)


def _member(name: str, content: bytes, depth: int) -> Words:
    if not name.endswith((".xml", ".rels")):
        yield from words(name, content, depth + 1)
        return
    try:
        root = ElementTree.fromstring(content)
    except ElementTree.ParseError:
        yield from _binary(content)
        return
    for element in root.iter():  # a paragraph's runs belong together
        tag = element.tag.rpartition("}")[2]
        if tag == "p":
            yield "text", "".join(element.itertext())
        elif element.text and element.text.strip():
            yield tag, _labelled(tag, element.text)
