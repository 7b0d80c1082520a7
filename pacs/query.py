"""A search as data (PS3.4 C.2.2.2): every door parses to these conditions; only ``index/matching.py`` makes SQL."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from typing import Any

from pacs.errors import InvalidQuery
from pacs.model import Level
from pacs.tags import BY_KEYWORD, Attribute, Matching

DEFAULT_LIMIT = 200
MAX_LIMIT = 5000
MAX_VALUES = 1000
MAX_PATTERN_LENGTH = 256

MOMENTS = {
    "StudyDate": "StudyTime",
    "SeriesDate": "SeriesTime",
    "PerformedProcedureStepStartDate": "PerformedProcedureStepStartTime",
}
"""Dates with the times that make a moment of them."""

_UID = re.compile(r"[0-9.]{1,64}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_INTEGER = re.compile(r"[+-]?[0-9]{1,12}")  # IS, PS3.5 6.2
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
class InMoments:
    """Range matching of a date and its time as one moment (PS3.4 C.2.2.2.5); both ends inclusive, an empty one open.

    An end is a date and a time as in ``InRange``. A date whose time is unknown is within if all of its day is.
    """

    keyword: str
    time_keyword: str
    first: tuple[str, str]
    last: tuple[str, str]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """List of UID matching, and multiple value matching: one of the values."""

    keyword: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IsEmpty:
    """Empty value matching (PS3.4 C.2.2.2.6): the attribute is absent or has no value."""

    keyword: str


Condition = Equals | Wildcard | InRange | InMoments | AnyOf | IsEmpty

Position = tuple[Any, ...]
"""Where a match stands in the order of its level, by the values it is ordered by: only for going on behind it."""


@dataclass(frozen=True, slots=True)
class Query:
    """What to find at ``level``: every condition holds.

    ``limit`` of None means ``DEFAULT_LIMIT``. With ``is_fuzzy`` person names match by their sound too, and rank: first
    those that match as they are written. With ``after`` the page begins behind that position: whatever is stored
    between two pages, no match comes twice and none is passed over.
    """

    level: Level
    conditions: tuple[Condition, ...] = ()
    limit: int | None = None
    offset: int = 0
    is_fuzzy: bool = False
    after: Position | None = None

    @property
    def page_size(self) -> int:
        """How many matches to return at most."""
        return min(DEFAULT_LIMIT if self.limit is None else self.limit, MAX_LIMIT)

    @property
    def names_by_sound(self) -> tuple[Condition, ...]:
        """The conditions that ``is_fuzzy`` widens: those that give a person name; none if it is not set."""
        return tuple(one for one in self.conditions if self.is_fuzzy and _is_name(one))


def texts_of(condition: Condition) -> tuple[str, ...]:
    """Return the values and patterns that a condition gives, of which any may match; none for a range."""
    match condition:
        case Equals(_, text) | Wildcard(_, text):
            return (text,)
        case AnyOf(_, values):
            return values
    return ()


def _is_name(condition: Condition) -> bool:
    attribute = BY_KEYWORD.get(condition.keyword)
    return attribute is not None and attribute.matching is Matching.NAME and bool(texts_of(condition))


def parse_key(attribute: Attribute, text: str, *, empties: bool, multiples: bool) -> Condition | None:
    """Return the condition for a key as it is given, None for universal matching; raise InvalidQuery for nonsense.

    ``empties`` and ``multiples``, where they were agreed: ``""`` asks for what has no value, a backslash separates
    values. Otherwise they are text; but as no UID and no code can hold a backslash, there it always separates.
    """
    keyword = attribute.keyword
    if _CONTROL.search(text.strip(" \0")):
        raise InvalidQuery(f"The value for {keyword} holds control characters.")
    is_text = attribute.matching in (Matching.TEXT, Matching.NAME)
    if attribute.matching in (Matching.UID, Matching.CODE):
        text = "\\".join(part for value in text.split("\\") if (part := value.strip(" \0")))
    is_empty = text.strip() == '""'
    if is_empty and not empties:
        if is_text or attribute.matching is Matching.CODE:
            return Equals(keyword, text)
        raise InvalidQuery(f"{keyword} can be matched for emptiness only where that is agreed.")
    if "\\" in text and is_text and not multiples:
        return Equals(keyword, text)  # one value, which nothing stored can equal (PS3.18 8.3.4.6)
    if attribute.matching is Matching.UID and text.strip("*") and not is_empty:
        _check_uids(keyword, text)
    return parse_condition(attribute, text)


def combine_moments(conditions: Iterable[Condition]) -> tuple[Condition, ...]:
    """Return conditions with each date range and a range of its time, of the same form, as one range of moments."""
    conditions = tuple(conditions)
    ranges = {one.keyword: one for one in conditions if isinstance(one, InRange)}
    moments: dict[str, Condition] = {
        time: InMoments(day, time, (ranges[day].first, ranges[time].first), (ranges[day].last, ranges[time].last))
        for day, time in MOMENTS.items()
        if day in ranges and time in ranges and _form(ranges[day]) == _form(ranges[time])
    }
    # The range of the date stays: it follows from that of the moments, and is what the index is good for.
    return tuple(moments.get(one.keyword, one) for one in conditions)


def _form(condition: InRange) -> tuple[bool, bool, bool]:
    """Return whether there is a start, an end, and only one value."""
    return bool(condition.first), bool(condition.last), condition.first == condition.last


def _check_uids(keyword: str, text: str) -> None:
    if not all(_UID.fullmatch(uid) for uid in text.split("\\")):
        raise InvalidQuery(f"{keyword} must be a list of UIDs.")


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
        is_number = attribute.matching is Matching.NUMBER
        some = (value for value in values if value)
        return AnyOf(attribute.keyword, tuple(_parse_number(attribute, one) if is_number else one for one in some))
    return _parse_single(attribute, text)


def _parse_single(attribute: Attribute, text: str) -> Condition:
    keyword = attribute.keyword
    match attribute.matching:
        case Matching.DATE:
            return _parse_range(keyword, text, _is_date, "YYYYMMDD or YYYYMMDD-YYYYMMDD")
        case Matching.TIME:
            return _parse_range(keyword, text, _is_time, "HHMMSS or HHMMSS-HHMMSS")
        case Matching.NUMBER:
            return Equals(keyword, _parse_number(attribute, text))
        case Matching.UID:
            return Equals(keyword, text)
        case _:
            return Wildcard(keyword, text) if "*" in text or "?" in text else Equals(keyword, text)


def _parse_number(attribute: Attribute, text: str) -> str:
    if not _INTEGER.fullmatch(text):
        raise InvalidQuery(f"{attribute.keyword} must be an integer.")
    return str(int(text))


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
