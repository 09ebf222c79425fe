"""How slides are set: boxes, tables, pictures, fonts. Wraps python-pptx."""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MOST_PICTURES = 4
LATIN_FONT, CJK_FONT, CODE_FONT = "Arial", "Microsoft YaHei", "Consolas"
WIDTH, HEIGHT = 13.333, 7.5  # inches, 16:9
SMALLEST, GAP = 9, 8  # points: the smallest type of bullets, and the space after each
INK, BLUE, SOFT, STRIPE = "1C2430", "0072B2", "5A6675", "EEF3F8"


@dataclass
class Slide:
    """What stands on one slide."""

    title: str
    bullets: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    """A table, its heads first."""
    pictures: list[Path] = field(default_factory=list)
    """PNG files, `MOST_PICTURES` at most are shown."""
    code: str = ""
    notes: str = ""
    subtitle: str = ""
    """Of the title slide."""


def present(slides: Sequence[Slide]) -> Any:
    """The presentation of some slides, to be saved."""
    from pptx import Presentation
    from pptx.util import Inches

    made = Presentation()
    made.slide_width, made.slide_height = Inches(WIDTH), Inches(HEIGHT)
    facts = made.core_properties
    facts.author = facts.last_modified_by = ""
    facts.created = facts.modified = datetime.datetime(
        1980, 1, 1
    )  # the same slides, the same bytes
    for number, slide in enumerate(slides, 1):
        page = made.slides.add_slide(made.slide_layouts[6])
        if slide.subtitle:
            _title_page(page, slide)
        else:
            _content(page, slide, number)
        page.notes_slide.notes_text_frame.text = slide.notes
    return made


def _title_page(page: Any, slide: Slide) -> None:
    from pptx.util import Inches

    bar = page.shapes.add_shape(1, 0, 0, Inches(0.35), Inches(HEIGHT))
    bar.fill.solid()
    bar.fill.fore_color.rgb = _colour(BLUE)
    bar.line.fill.background()
    _text(page, (1.1, 2.4, WIDTH - 2, 1.6), [slide.title], 40, bold=True)
    _text(page, (1.1, 4.1, WIDTH - 2, 0.8), [slide.subtitle], 22, colour=SOFT)


def _content(page: Any, slide: Slide, number: int) -> None:
    from pptx.util import Inches

    _text(page, (0.6, 0.35, WIDTH - 1.2, 0.8), [slide.title], 28, bold=True)
    rule = page.shapes.add_shape(1, Inches(0.6), Inches(1.12), Inches(1.2), Inches(0.05))
    rule.fill.solid()
    rule.fill.fore_color.rgb = _colour(BLUE)
    rule.line.fill.background()
    _text(page, (WIDTH - 1.2, HEIGHT - 0.5, 0.7, 0.35), [str(number)], 11, colour=SOFT, right=True)
    top, bottom = 1.4, HEIGHT - 0.6
    if slide.bullets:
        beside = bool(slide.code)
        full = not (slide.pictures or slide.code or slide.rows)
        size = 20 if full else 15
        height = (bottom - top) if beside or full else 0.36 * len(slide.bullets) + 0.1
        width = (WIDTH - 1.2) * (0.42 if beside else 1)
        lines = [f"•  {b}" for b in slide.bullets]
        if beside or full:
            size = _fitting(lines, width, height, size)
        _text(page, (0.6, top, width, height), lines, size, gap=GAP)
        if beside:
            _code(page, slide.code, (0.75 + width, top, WIDTH - 1.35 - width, bottom - top))
        top += height + 0.15
    elif slide.code:
        _code(page, slide.code, (0.6, top, WIDTH - 1.2, bottom - top))
    if slide.rows:
        top += _table(page, slide.rows, top) + 0.2
    _pictures(page, slide.pictures, top, bottom)


def _fitting(lines: Sequence[str], width: float, height: float, size: int) -> int:
    """The largest type, at most `size` points and at least `SMALLEST`, in which the lines fit."""

    def needed(points: int) -> float:
        room = 72 * (width - 0.2) / points  # ems in a line of the box
        rows = sum(math.ceil(_ems(line) / room) for line in lines)
        return (rows * 1.2 * points + GAP * len(lines)) / 72 + 0.1

    return next((s for s in range(size, SMALLEST, -1) if needed(s) <= height), SMALLEST)


def _ems(text: str) -> float:
    """About how wide a text is set: a Chinese character one em, others a little over a half."""
    return 0.56 * len(text) + 0.44 * _chinese(text)


def _chinese(text: str) -> int:
    """Characters that are set twice as wide as a Latin one."""
    return sum(ord(c) > 0x2E80 for c in text)


def _pictures(page: Any, pictures: Sequence[Path], top: float, bottom: float) -> None:
    """In the grid that shows them largest."""
    from PIL import Image
    from pptx.util import Inches

    shown, shapes = pictures[:MOST_PICTURES], []
    for path in shown:
        with Image.open(path) as image:
            shapes.append(image.width / image.height)
    if not shown:
        return

    def cell(columns: int) -> tuple[float, float]:
        rows = -(-len(shown) // columns)
        return (WIDTH - 1.2) / columns - 0.2, (bottom - top) / rows - 0.1

    def size(columns: int) -> float:
        width, height = cell(columns)
        return sum(min(width, height * shape) for shape in shapes)

    columns = max(range(1, len(shown) + 1), key=size)
    width, height = cell(columns)
    for i, (path, shape) in enumerate(zip(shown, shapes, strict=True)):
        wide = min(width, height * shape)
        left = 0.6 + (i % columns) * (width + 0.2) + (width - wide) / 2
        upper = top + (i // columns) * (height + 0.1) + (height - wide / shape) / 2
        page.shapes.add_picture(str(path), Inches(left), Inches(upper), Inches(wide))


def _table(page: Any, rows: Sequence[Sequence[str]], top: float) -> float:
    """Draws it and returns its height in inches."""
    from pptx.util import Inches, Pt

    height = 0.38 * len(rows)
    shape = page.shapes.add_table(
        len(rows), len(rows[0]), Inches(0.6), Inches(top), Inches(WIDTH - 1.2), Inches(height)
    )
    longest = [max(len(row[k]) + _chinese(row[k]) for row in rows)
               for k in range(len(rows[0]))]  # fmt: skip
    for k, most in enumerate(longest):
        shape.table.columns[k].width = Inches(
            (WIDTH - 1.2) * (most + 4) / (sum(longest) + 4 * len(longest))
        )
    for i, row in enumerate(rows):
        for k, word in enumerate(row):
            cell = shape.table.cell(i, k)
            cell.fill.solid()
            cell.fill.fore_color.rgb = _colour(BLUE if i == 0 else STRIPE if i % 2 else "FFFFFF")
            cell.margin_top = cell.margin_bottom = Pt(3)
            run = cell.text_frame.paragraphs[0].add_run()
            run.text = word
            _font(run, 12, bold=i == 0, colour="FFFFFF" if i == 0 else INK)
    return height


def _code(page: Any, code: str, box: tuple[float, float, float, float]) -> None:
    lines = code.split("\n")
    widest = max((len(line) + _chinese(line) for line in lines), default=1)
    size = min(13, 72 * box[2] / (0.62 * max(widest, 1)), 72 * box[3] / (1.3 * len(lines)))
    _text(page, box, lines, max(7, int(size)), font=CODE_FONT, fill="F4F6F8")


def _text(
    page: Any,
    box: tuple[float, float, float, float],
    lines: Sequence[str],
    size: float,
    *,
    bold: bool = False,
    colour: str = INK,
    gap: float = 0,
    font: str = LATIN_FONT,
    fill: str = "",
    right: bool = False,
) -> None:
    """A text box; (left, top, width, height) in inches, sizes in points."""
    from pptx.enum.text import PP_ALIGN
    from pptx.util import Inches, Pt

    shape = page.shapes.add_textbox(*map(Inches, box))
    frame = shape.text_frame
    frame.word_wrap = True
    if fill:
        shape.fill.solid()
        shape.fill.fore_color.rgb = _colour(fill)
    for i, line in enumerate(lines):
        paragraph = frame.paragraphs[0] if i == 0 else frame.add_paragraph()
        paragraph.space_after = Pt(gap)
        if right:
            paragraph.alignment = PP_ALIGN.RIGHT
        run = paragraph.add_run()
        run.text = line
        _font(run, size, bold, colour, font)


def _font(run: Any, size: float, bold: bool, colour: str, font: str = LATIN_FONT) -> None:
    from pptx.oxml.ns import qn
    from pptx.util import Pt

    run.font.size, run.font.bold, run.font.name = Pt(size), bold, font
    run.font.color.rgb = _colour(colour)
    east = run._r.get_or_add_rPr().makeelement(qn("a:ea"), {"typeface": CJK_FONT})
    run._r.get_or_add_rPr().append(east)


def _colour(text: str) -> Any:
    from pptx.dml.color import RGBColor

    return RGBColor.from_string(text)
