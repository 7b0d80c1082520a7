"""Dates with times in one value (DT, PS3.5 6.2), compared as they were recorded, or by UTC where both sides say theirs.

A value may end after any of its parts and stands for all that begins with it: ``2026`` is a year. In a range the hyphen
is also the sign of an offset from UTC; four digits behind it that can be an offset are one (PS3.4 C.2.2.2.5.3).
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

_INSTANT = timedelta(microseconds=1)
_FORM = re.compile(
    r"(?P<year>[0-9]{4})"
    r"(?:(?P<month>0[1-9]|1[0-2])(?:(?P<day>0[1-9]|[12][0-9]|3[01])(?:(?P<hour>[01][0-9]|2[0-3])"
    r"(?:(?P<minute>[0-5][0-9])(?:(?P<second>[0-5][0-9]|60)(?:\.(?P<fraction>[0-9]{1,6}))?)?)?)?)?)?"
    r"(?P<offset>[+-](?:0[0-9]|1[0-4])[0-5][0-9])?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Moment:
    """What a value covers: from ``first`` to ``last``, both inclusive and as recorded; ``zone`` if it names its own."""

    first: datetime
    last: datetime
    zone: timezone | None


@dataclass(frozen=True, slots=True)
class Span:
    """A range of moments, both ends inclusive; None is open."""

    first: Moment | None
    last: Moment | None

    def covers(self, moment: Moment) -> bool:
        """Whether a moment begins within the range."""
        return (self.first is None or not _is_before(moment, moment.first, self.first, self.first.first)) and (
            self.last is None or not _is_before(self.last, self.last.last, moment, moment.first)
        )


def parse_moment(text: str) -> Moment | None:
    """Return what a DT value covers, None if it is none."""
    found = _FORM.fullmatch(text.strip(" \0"))
    if found is None:
        return None
    year, month, day, hour, minute, second = (int(found[name] or default) for name, default in _PARTS)
    fraction = int((found["fraction"] or "").ljust(6, "0"))
    try:
        # A leap second counts as the second before it; as recorded, without a zone.
        first = datetime(year, month, day, hour, minute, min(second, 59), fraction)  # noqa: DTZ001
        return Moment(first, _last_of(first, found), _zone_of(found["offset"]))
    except (ValueError, OverflowError):
        return None


def parse_span(text: str) -> Span | None:
    """Return the range that a key stands for; a single value is the range that it covers. None if it is neither."""
    text = text.strip(" \0")
    single = parse_moment(text)
    if single is not None:
        return Span(single, single)
    for hyphen in re.finditer("-", text):
        ends = text[: hyphen.start()].strip(), text[hyphen.end() :].strip()
        moments = [parse_moment(end) for end in ends]
        if any(ends) and all(moment is not None or not end for moment, end in zip(moments, ends, strict=True)):
            return Span(*moments)
    return None


def sort_key(text: str) -> str:
    """Return a text that sorts DT values as recorded, YYYYMMDDHHMMSS.FFFFFF; empty if it is no value."""
    moment = parse_moment(text)
    return sortable(moment.first) if moment else ""


def sortable(at: datetime) -> str:
    """Return a time as recorded in the form that ``sort_key`` gives."""
    return at.strftime("%Y%m%d%H%M%S.%f").rjust(21, "0")


def format_moment(at: datetime) -> str:
    """Return an aware time as DT, in UTC."""
    return at.astimezone(UTC).strftime("%Y%m%d%H%M%S.%f+0000")


def _is_before(one: Moment, at: datetime, other: Moment, then: datetime) -> bool:
    if one.zone is None or other.zone is None:
        return at < then
    return at - one.zone.utcoffset(None) < then - other.zone.utcoffset(None)


def _last_of(first: datetime, found: re.Match[str]) -> datetime:
    """Return the last microsecond of what begins at ``first`` and was written to its last part only."""
    if found["fraction"]:
        return first + timedelta(microseconds=10 ** (6 - len(found["fraction"]))) - _INSTANT
    for name, length in _LENGTHS:
        if found[name]:
            return first + length - _INSTANT
    if found["month"]:
        return (first.replace(day=28) + timedelta(days=4)).replace(day=1) - _INSTANT
    return datetime(first.year, 12, 31, 23, 59, 59, 999_999)  # noqa: DTZ001 - as recorded, without a zone


def _zone_of(offset: str | None) -> timezone | None:
    if not offset:
        return None
    minutes = int(offset[1:3]) * 60 + int(offset[3:])
    return timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes))


_PARTS = (("year", "0"), ("month", "1"), ("day", "1"), ("hour", "0"), ("minute", "0"), ("second", "0"))
_LENGTHS = (
    ("second", timedelta(seconds=1)),
    ("minute", timedelta(minutes=1)),
    ("hour", timedelta(hours=1)),
    ("day", timedelta(days=1)),
)
