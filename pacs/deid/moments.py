"""Dates moved by whole days, all of a patient by the same number: intervals and times of day survive, calendars do not.

What is no value of its VR comes out empty, for it may be anything.
"""

import re
from datetime import date, timedelta

_DATE = re.compile(
    r"(?P<year>[0-9]{4})(?P<sep>\.?)(?P<month>0[1-9]|1[0-2])(?P=sep)(?P<day>0[1-9]|[12][0-9]|3[01])", re.ASCII
)
_TIME = re.compile(r"(?:[01][0-9]|2[0-3])(?:[0-5][0-9](?:(?:[0-5][0-9]|60)(?:\.[0-9]{1,6})?)?)?", re.ASCII)
_OLD_TIME = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9]|60)(\.[0-9]{1,6})?)?", re.ASCII)
_DATE_TIME = re.compile(
    r"(?P<year>[0-9]{4})(?:(?P<month>0[1-9]|1[0-2])(?:(?P<day>0[1-9]|[12][0-9]|3[01])(?P<time>[0-9.]*))?)?"
    r"(?P<offset>[+-](?:0[0-9]|1[0-4])[0-5][0-9])?",
    re.ASCII,
)
_AGE = re.compile(r"([0-9]{1,3})([DWMY])", re.ASCII)
_DAYS = {"D": 1.0, "W": 7.0, "M": 365.25 / 12, "Y": 365.25}
MAX_AGE_YEARS = 89
OLD = "090Y"


def parse_date(text: str) -> date | None:
    """Return a DA value, also in the form of ACR-NEMA (``2024.01.31``); None if it is none."""
    found = _DATE.fullmatch(text)
    if found is None:
        return None
    try:
        return date(int(found["year"]), int(found["month"]), int(found["day"]))
    except ValueError:
        return None


def shift_date(text: str, days: int) -> str:
    """Return a DA value moved by days; several as several; empty for what is none."""
    return "\\".join(_shift_one_date(part.strip(" \0"), days) for part in text.split("\\"))


def _shift_one_date(text: str, days: int) -> str:
    at = parse_date(text)
    return _format(at, days) if at else ""


def _format(at: date, days: int) -> str:
    try:
        moved = at + timedelta(days=days)
    except OverflowError:
        return ""
    return f"{moved.year:04d}{moved.month:02d}{moved.day:02d}"


def keep_time(text: str) -> str:
    """Return a TM value as it is, for whole days move no time of day; empty for what is none."""
    return "\\".join(_keep_one_time(part.strip(" \0")) for part in text.split("\\"))


def _keep_one_time(text: str) -> str:
    if _TIME.fullmatch(text):
        return text
    old = _OLD_TIME.fullmatch(text)
    return "".join(group or "" for group in old.groups()) if old else ""


def shift_date_time(text: str, days: int) -> str:
    """Return a DT value moved by days, as precise as it was and with its offset from UTC; empty for what is none."""
    return "\\".join(_shift_one_date_time(part.strip(" \0"), days) for part in text.split("\\"))


def _shift_one_date_time(text: str, days: int) -> str:
    found = _DATE_TIME.fullmatch(text)
    if found is None or (found["time"] and not _TIME.fullmatch(found["time"])):
        return ""
    try:
        # What has no day moves from the middle of what it says.
        at = date(int(found["year"]), int(found["month"] or 7), int(found["day"] or 15))
    except ValueError:
        return ""
    moved = _format(at, days)
    if found["day"] is None:
        moved = moved[: 6 if found["month"] else 4]
    return moved + (found["time"] or "") + (found["offset"] or "") if moved else ""


def cap_age(text: str) -> str:
    """Return an age, 090Y for everyone over 89 (few are), empty for what is none."""
    found = _AGE.fullmatch(text.strip(" \0"))
    if found is None:
        return ""
    years = int(found[1]) * _DAYS[found[2]] / _DAYS["Y"]
    return OLD if years >= MAX_AGE_YEARS + 1 else f"{int(found[1]):03d}{found[2]}"


def age_between(birth: str, at: str) -> str:
    """Return the age of someone born on one DA value on another, as AS; empty if it cannot be told."""
    born, then = parse_date(birth.strip(" \0")), parse_date(at.strip(" \0"))
    if born is None or then is None or then < born:
        return ""
    years = then.year - born.year - ((then.month, then.day) < (born.month, born.day))
    if years > MAX_AGE_YEARS:
        return OLD
    if years >= 2:
        return f"{years:03d}Y"
    months = (then.year - born.year) * 12 + then.month - born.month - (then.day < born.day)
    return f"{months:03d}M" if months >= 2 else f"{(then - born).days:03d}D"
