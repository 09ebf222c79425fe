"""How charts look, and how they are saved: fonts, colours, captions. Wraps matplotlib."""

from __future__ import annotations

import contextlib
import itertools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .texts import Language, Texts

# Okabe and Ito (2008): told apart with every common colour blindness.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
BASELINE_COLOUR = "#7F7F7F"
INK, FAINT = "#222222", "#BBBBBB"
MARKERS = ("o", "^", "D", "v", "P", "X")
BASELINE_MARKER = "s"

TICK_WIDTH, TICK_HEIGHT = 0.42, 0.24  # inches a tick's number needs

LATIN = "DejaVu Sans"  # comes with matplotlib
CJK = (
    "Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "Source Han Sans CN",
    "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Microsoft YaHei", "SimHei", "PingFang SC",
    "Hiragino Sans GB", "Heiti SC", "Noto Sans CJK JP", "Droid Sans Fallback", "AR PL UMing CN",
)  # fmt: skip
_MAY_BE_CJK = re.compile(r"cjk|hans|notosanssc|wqy|yahei|simhei|msyh|pingfang|heiti|gb|droid|uming",
                         re.IGNORECASE)  # fmt: skip
NO_FONT = (
    "charts have English labels: matplotlib finds no font with the Chinese ones "
    "(install one such as fonts-noto-cjk)"
)

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "path",  # glyphs travel with the picture: no reader needs the font
    "svg.hashsalt": "mxbench",  # the same chart, the same bytes
    "text.parse_math": False,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.5,
    "lines.markersize": 5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "savefig.dpi": 150,
}


@dataclass(frozen=True)
class Pen:
    """What charts are drawn with while the style holds."""

    t: Texts
    """Of the language whose glyphs there are."""
    glyphs: frozenset[int]

    def safe(self, text: str) -> str:
        """`text` with a question mark for what no font at hand can draw."""
        return "".join(char if ord(char) in self.glyphs else "?" for char in text)


@contextlib.contextmanager
def style(language: Language, notify: Callable[[str], None]) -> Iterator[Pen]:
    """Draw in this style. Falls back to English labels, and says so, without a Chinese font."""
    import matplotlib

    t = Texts(language)
    fonts = _fonts({ord(char) for char in t.alphabet()})
    if fonts is None:
        notify(NO_FONT)
        t, fonts = Texts("en"), [LATIN]
    glyphs = frozenset(code for name in fonts for code in _charmap(name))
    weight = "bold" if fonts == [LATIN] else "normal"  # few Chinese fonts have a bold face
    own: dict[Any, Any] = {"font.family": fonts, "figure.titleweight": weight}
    with matplotlib.rc_context({**_STYLE, **own}):
        yield Pen(t, glyphs)


def _fonts(needed: set[int]) -> list[str] | None:
    """The families that have the needed characters, Latin letters always from the same one."""
    rest = needed - _charmap(LATIN)
    if not rest:
        return [LATIN]
    for name in _installed():
        if rest <= _charmap(name):
            return [LATIN, name]
    return None


def chinese_font() -> str | None:
    """A family that has the Chinese characters of the reports, or None."""
    fonts = _fonts({ord(char) for char in Texts("zh").alphabet()})
    return fonts[-1] if fonts else None


def _installed() -> list[str]:
    from matplotlib import font_manager

    have = {font.name for font in font_manager.fontManager.ttflist}
    if have.isdisjoint(CJK):
        have |= _just_installed()
    return [name for name in CJK if name in have]


def _just_installed() -> set[str]:
    """Families in files that are newer than matplotlib's list of fonts, which it keeps on disk."""
    from matplotlib import font_manager

    manager = font_manager.fontManager
    known = {font.fname for font in manager.ttflist}
    for path in font_manager.findSystemFonts():
        if path not in known and _MAY_BE_CJK.search(Path(path).name):
            with contextlib.suppress(RuntimeError, OSError):  # no font after all
                manager.addfont(path)
    return {font.name for font in manager.ttflist}


def _charmap(family: str) -> set[int]:
    from matplotlib import font_manager, ft2font

    return set(ft2font.FT2Font(font_manager.findfont(family)).get_charmap())


# --- figures ------------------------------------------------------------------------------------


def figure(title: str, caption: Sequence[str], width: float, height: float) -> Any:
    """An empty figure, `width` x `height` inches, with its title and caption lines below."""
    from matplotlib import rcParams
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), facecolor="white")
    weight = rcParams["figure.titleweight"]
    made.text(0.012, 1 - 0.11 / height, title, ha="left", va="top", fontsize=11.5, weight=weight,
              color=INK)  # fmt: skip
    made.text(0.012, 0.09 / height, "\n".join(caption), ha="left", va="bottom", fontsize=7.5,
              color="#555555", linespacing=1.35)  # fmt: skip
    return made


def place(made: Any, caption_lines: int, left: float, right: float, titles: bool = False) -> None:
    """Leave room for title, legend, panel titles and caption; `left` and `right` in inches."""
    width, height = made.get_size_inches()
    top = 0.82 if titles else 0.62
    bottom = 0.62 + 0.145 * caption_lines
    made.subplots_adjust(
        left=left / width, right=1 - right / width, top=1 - top / height, bottom=bottom / height
    )


def legend(made: Any, handles: Sequence[Any]) -> None:
    """One row under the title."""
    height = made.get_size_inches()[1]
    made.legend(handles=list(handles), loc="upper left", ncols=6, borderaxespad=0,
                bbox_to_anchor=(0.008, 1 - 0.31 / height), handletextpad=0.4,
                columnspacing=1.4)  # fmt: skip


def log_axis(axis: Any, low: float, high: float) -> None:
    """A log axis from `low` to `high`, as many round numbers on its ticks as have room."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

    axes = axis.axes
    place, (width, height) = axes.get_position(), axes.figure.get_size_inches()
    if axis is axes.xaxis:
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        room = TICK_WIDTH / (place.width * width)
    else:
        axes.set_yscale("log")
        axes.set_ylim(low, high)
        room = TICK_HEIGHT / (place.height * height)
    axis.set_major_locator(FixedLocator(log_ticks(low, high, room)))
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axis.set_minor_formatter(NullFormatter())


_DIGITS = (
    (1,),
    (1, 3),
    (1, 2, 5),
    (1, 2, 3, 5),
    (1, 1.5, 2, 3, 5, 7),
    (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8),
)


def log_ticks(low: float, high: float, room: float) -> list[float]:
    """Round numbers from `low` to `high`, as dense as `room`, a share of the axis, allows."""
    found: list[float] = []
    for digits in _DIGITS:
        ticks = [float(f"{d * 10.0**e:.6g}") for e in range(-9, 13) for d in digits]
        denser = [x for x in ticks if low <= x <= high]
        gaps = [math.log(b / a) / math.log(high / low) for a, b in itertools.pairwise(denser)]
        if min(gaps, default=1) < room:
            break
        found = denser
    return found


def save(made: Any, stem: Path) -> list[Path]:
    """`stem`.svg and `stem`.png, the same bytes for the same chart."""
    svg, png = stem.with_suffix(".svg"), stem.with_suffix(".png")
    made.savefig(svg, format="svg", metadata={"Date": None, "Creator": "mxbench"})
    made.savefig(png, format="png", metadata={"Software": "mxbench"})
    return [svg, png]


def spread_apart(places: Sequence[float], gap: float) -> list[float]:
    """The places, moved as little as needed to stand at least `gap` apart, in the same order."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    blocks: list[tuple[float, list[int]]] = []  # (middle, members), each a stack of labels
    for i in order:
        blocks.append((places[i], [i]))
        while len(blocks) > 1 and _overlap(blocks[-2], blocks[-1], gap):
            (a, first), (b, second) = blocks[-2:]
            members = first + second
            middle = (a * len(first) + b * len(second)) / len(members)
            blocks[-2:] = [(middle, members)]
    moved = list(places)
    for middle, members in blocks:
        for k, i in enumerate(members):
            moved[i] = middle + (k - (len(members) - 1) / 2) * gap
    return moved


def _overlap(a: tuple[float, list[int]], b: tuple[float, list[int]], gap: float) -> bool:
    return b[0] - a[0] < gap * (len(a[1]) + len(b[1])) / 2
