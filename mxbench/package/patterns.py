"""What personal information looks like in a line of text. Pure."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

WAIVER = "personal-data: none"
"""A line that holds these words has been looked at by a person and is passed over."""

PLACEHOLDERS = frozenset(
    {
        "user",
        "username",
        "name",
        "me",
        "you",
        "xxx",
        "someone",
        "somebody",
        "nobody",
        "alice",
        "bob",
    }
)
EXAMPLE_DOMAINS = re.compile(
    r"(?:^|\.)(?:example\.(?:com|org|net)|invalid|localhost)$|^users\.noreply\."
)

# Words before 大学 and the like that make it a school in general, not one of a name.
_GENERAL = (
    "某",
    "所在",
    "本校",
    "各",
    "的",
    "和",
    "与",
    "或",
    "名称",
    "高等",
    "重点",
    "是",
    "在",
    "个",
)


@dataclass(frozen=True)
class Rule:
    """One kind of personal information."""

    kind: str
    pattern: re.Pattern[str]
    confirms: Callable[[re.Match[str]], bool] = lambda _: True
    """Whether a match is meant, where the pattern alone cannot tell."""


def _is_mobile(match: re.Match[str]) -> bool:
    # A multiple of 1024 with eleven digits is a size in bytes.
    return int(re.sub(r"\D", "", match[0])[-11:]) % 1024 != 0


def _is_identity(match: re.Match[str]) -> bool:
    """GB 11643: a date of birth, and a check digit by ISO 7064 mod 11-2."""
    digits = match[0].upper()
    try:
        born = datetime.date(int(digits[6:10]), int(digits[10:12]), int(digits[12:14]))
    except ValueError:
        return False
    total = sum(int(d) * (2 ** (17 - i) % 11) for i, d in enumerate(digits[:17]))
    return 1900 <= born.year <= 2100 and "10X98765432"[total % 11] == digits[17]


def _is_real_mail(match: re.Match[str]) -> bool:
    domain = match[0].rpartition("@")[2].lower()
    return not EXAMPLE_DOMAINS.search(domain)


def _is_school(match: re.Match[str]) -> bool:
    before = match["name"]
    return not before.endswith(_GENERAL) and not before.startswith(("如", "例如", "比如"))


def _is_home(match: re.Match[str]) -> bool:
    return match["owner"].lower() not in PLACEHOLDERS


# Figures of a table stand in groups as well, but there is always one more before or after.
_EDGE, _END = r"(?<![\w.])(?<!\d[ ,])", r"(?![\w.,]?\d)(?!,? \d)"

_MOBILE = r"(?:(?:\+|00)?86[- ]?)?1[3-9]\d[- ]?\d{4}[- ]?\d{4}"
_SCHOOL = r"(?P<name>[\u4e00-\u9fff]{2,12}?)(?:大学(?![生家])|学院|中学|师范|附中)"
_ENGLISH_SCHOOL = (
    r"\b(?P<name>(?:University|Institute|College) of [A-Z]\w+|[A-Z][a-z]+(?: [A-Z][a-z]+)? "
    r"(?:University|Polytechnic|Institute of (?:Technology)))\b"
)
_HOME = r"(?<![\w.])(?:/home/|/Users/|[A-Za-z]:\\{1,2}Users\\{1,2})(?P<owner>\w[\w.-]*)"
_MESSENGER = r"(?:QQ|微信号?|WeChat)(?:号|群)?\s*[:： ]\s*[A-Za-z0-9_-]{5,20}\b"

RULES = (
    Rule("phone number", re.compile(_EDGE + _MOBILE + _END + r"(?!\w)"), _is_mobile),
    Rule("phone number", re.compile(r"(?<![\d.-])0\d{2,3}[-－ ]\d{7,8}" + _END)),
    Rule("e-mail address", re.compile(
        r"(?<![\w.+\\-])[A-Za-z0-9][\w.+-]*@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}"),
        _is_real_mail),
    Rule("identity number", re.compile(r"(?<![\w.])[1-9]\d{16}[\dXx](?![\w.])"), _is_identity),
    Rule("school", re.compile(_SCHOOL), _is_school),
    Rule("school", re.compile(_ENGLISH_SCHOOL)),
    Rule("home folder", re.compile(_HOME), _is_home),
    Rule("labelled person", re.compile(
        r"(?:姓名|学号|工号|班级|作者|导师|指导教师|指导老师|队长|队员|联系人|联系电话|手机号?|身份证号?)"
        r"\s*[:：=]\s*[^\s{}<>\"',，。;；|]{2,}")),
    Rule("labelled person", re.compile(
        r"(?:^|[#*/\s])(?:@author|[Aa]uthor|[Mm]aintainer|Student(?: ID)?|Advisor|Teacher)s?\s*:\s+"
        r"[A-Z\u4e00-\u9fff][\w.-]*")),
    Rule("messenger account", re.compile(_MESSENGER)),
)  # fmt: skip


@dataclass(frozen=True)
class Match:
    """Something found in a text."""

    kind: str
    text: str
    at: int
    """Where in the text."""


class Scanner:
    """The general rules, and words that are private here: names, units, hosts, users, authors."""

    def __init__(self, words: Iterable[tuple[str, str]] = ()) -> None:
        """`words` are (kind, word) pairs; shorter than two characters they are left out."""
        unique = {word.strip(): kind for kind, word in words if len(word.strip()) > 1}
        self._kinds = {word.lower(): kind for word, kind in unique.items()}
        parts = sorted(map(_bounded, unique), key=len, reverse=True)
        self._words = re.compile("|".join(parts), re.IGNORECASE) if parts else None

    def find(self, text: str) -> Iterator[Match]:
        """Every match in a line, in no order; none in a line that holds the waiver."""
        if WAIVER in text:
            return
        for rule in RULES:
            for match in rule.pattern.finditer(text):
                if rule.confirms(match):
                    yield Match(rule.kind, match[0].strip(), match.start())
        if self._words:
            for match in self._words.finditer(text):
                kind = self._kinds.get(match[0].lower(), "private word")
                yield Match(kind, match[0], match.start())


def _bounded(word: str) -> str:
    """A pattern for a word; one of Latin letters must not be part of a longer one."""
    quoted = re.escape(word)
    return rf"(?<![A-Za-z0-9_]){quoted}(?![A-Za-z0-9_])" if word.isascii() else quoted
