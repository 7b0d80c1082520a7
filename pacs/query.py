"""A search as data (PS3.4 C.2.2.2): every door parses to these conditions; only ``index/matching.py`` makes SQL."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

from pacs.errors import InvalidQuery
from pacs.model import Level
from pacs.tags import Attribute, Matching

DEFAULT_LIMIT = 200
MAX_LIMIT = 5000
MAX_VALUES = 1000
MAX_PATTERN_LENGTH = 256

_TIME = re.compile(r"([01][0-9]|2[0-3])([0-5][0-9](([0-5][0-9]|60)(\.[0-9]{1,6})?)?)?")


@dataclass(frozen=True, slots=True)
class Equals:
    """Single value matching; the value is compared as its attribute's ``matching`` says (names are folded)."""

    keyword: str
    value: str


@dataclass(frozen=True, slots=True)
class Wildcard:
    """Wild card matching: ``*`` any run of characters, ``?`` any one (PS3.4 C.2.2.2.4)."""

    keyword: str
    pattern: str


@dataclass(frozen=True, slots=True)
class InRange:
    """Range matching of dates or times; both ends inclusive as in PS3.4 C.2.2.2.5, an empty end is open.

    Ends are ``YYYYMMDD`` or ``HHMMSS.FFFFFF``; the start is padded down and the end padded up before comparing.
    """

    keyword: str
    first: str
    last: str


@dataclass(frozen=True, slots=True)
class AnyOf:
    """List of UID matching, and multiple value matching: one of the values."""

    keyword: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IsEmpty:
    """Empty value matching (PS3.4 C.2.2.2.6): the attribute is absent or has no value."""

    keyword: str


Condition = Equals | Wildcard | InRange | AnyOf | IsEmpty


@dataclass(frozen=True, slots=True)
class Query:
    """What to find at ``level``: every condition holds.

    ``limit`` of None means ``DEFAULT_LIMIT``; ``is_fuzzy`` asks for phonetic name matching.
    """

    level: Level
    conditions: tuple[Condition, ...] = ()
    limit: int | None = None
    offset: int = 0
    is_fuzzy: bool = False

    @property
    def page_size(self) -> int:
        """How many matches to return at most."""
        return min(DEFAULT_LIMIT if self.limit is None else self.limit, MAX_LIMIT)


def parse_condition(attribute: Attribute, text: str) -> Condition | None:
    """Return the condition a key's text stands for, None for universal matching; raise InvalidQuery for nonsense.

    ``text`` is one DICOM value list as C-FIND and QIDO carry it: backslashes separate UIDs or values, ``-`` dates.
    """
    if attribute.matching is None:
        raise InvalidQuery(f"{attribute.keyword} cannot be matched.")
    text = text.strip(" \0")
    if len(text) > MAX_PATTERN_LENGTH and attribute.matching is not Matching.UID:
        raise InvalidQuery(f"The value for {attribute.keyword} is too long.")
    if not text.strip("*"):
        return None
    if text == '""':
        return IsEmpty(attribute.keyword)
    values = tuple(value.strip(" \0") for value in text.split("\\"))
    if len(values) > MAX_VALUES:
        raise InvalidQuery(f"More than {MAX_VALUES} values for {attribute.keyword}.")
    if len(values) > 1 and attribute.matching not in (Matching.DATE, Matching.TIME):
        return AnyOf(attribute.keyword, tuple(value for value in values if value))
    return _parse_single(attribute, text)


def _parse_single(attribute: Attribute, text: str) -> Condition:
    keyword = attribute.keyword
    match attribute.matching:
        case Matching.DATE:
            return _parse_range(keyword, text, _is_date, "YYYYMMDD or YYYYMMDD-YYYYMMDD")
        case Matching.TIME:
            return _parse_range(keyword, text, _is_time, "HHMMSS or HHMMSS-HHMMSS")
        case Matching.NUMBER:
            if not text.lstrip("+-").isdecimal() or len(text) > 12:  # IS, PS3.5 6.2
                raise InvalidQuery(f"{keyword} must be an integer.")
            return Equals(keyword, str(int(text)))
        case Matching.UID:
            return Equals(keyword, text)
        case _:
            return Wildcard(keyword, text) if "*" in text or "?" in text else Equals(keyword, text)


def _parse_range(keyword: str, text: str, is_valid: Callable[[str], bool], form: str) -> InRange:
    first, dash, last = text.partition("-")
    first, last = first.strip(), last.strip() if dash else first.strip()
    if not (first or last) or not all(is_valid(end) for end in (first, last) if end):
        raise InvalidQuery(f"{keyword} must be {form}.")
    return InRange(keyword, first, last)


def _is_date(text: str) -> bool:
    if not re.fullmatch(r"[0-9]{8}", text):
        return False
    try:
        date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return False
    return True


def _is_time(text: str) -> bool:
    return _TIME.fullmatch(text) is not None
