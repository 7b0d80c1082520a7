"""Values as they are compared: one form a date, a time, a code or a text, for the index and for conditions alike."""

import re
from datetime import date

from pacs.model import Attributes
from pacs.tags import Attribute, Matching, text_of

MAX_TEXT_LENGTH = 256
"""Characters that are compared; more than any VR that is matched may hold (PS3.5 6.2). Answers are never cut."""


def match_value(attribute: Attribute, attributes: Attributes) -> str | int | None:
    """Return the first value of an attribute in the form that its ``matching`` compares; None if there is none."""
    return normal_value(attribute.matching, text_of(attributes, attribute.keyword))


def normal_value(matching: Matching | None, text: str) -> str | int | None:
    """Return one value in the form in which it is compared; None if it is empty or cannot be read."""
    if not text:
        return None
    match matching:
        case Matching.DATE:
            return normal_date(text)
        case Matching.TIME:
            return normal_time(text)
        case Matching.NUMBER:
            return int(text) if _NUMBER.fullmatch(text) else None
        case Matching.CODE:
            return clean(text).upper()[:MAX_TEXT_LENGTH] or None
        case _:
            return clean(text)[:MAX_TEXT_LENGTH] or None


def clean(text: str) -> str:
    """Return text that every engine stores: no NUL, no control characters, no half of a surrogate pair."""
    if text.isprintable():
        return text
    return _CONTROLS.sub("", text).encode("utf-8", "replace").decode().strip(" ")


def normal_date(text: str) -> str | None:
    """Return a DA value as ``YYYYMMDD``, the form with dots (PS3.5 6.2 note) included; None if it is no date."""
    found = _DATE.fullmatch(text)
    if found is None:
        return None
    year, month, day = found["year"], found["month"], found["day"]
    try:
        date(int(year), int(month), int(day))
    except ValueError:
        return None
    return year + month + day


def normal_time(text: str) -> str | None:
    """Return a TM value as ``HHMMSS.FFFFFF``, the form with colons (PS3.5 6.2 note) included; None if it is no time."""
    found = _TIME.fullmatch(text)
    if found is None:
        return None
    hour, minute, second, fraction = (found[part] or "" for part in ("hour", "minute", "second", "fraction"))
    return f"{hour}{minute or '00'}{second or '00'}.{fraction[:6]:0<6}"


_NUMBER = re.compile(r"[+-]?[0-9]{1,12}")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_DATE = re.compile(r"(?P<year>[0-9]{4})(?P<dot>\.?)(?P<month>[0-9]{2})(?P=dot)(?P<day>[0-9]{2})", re.ASCII)
_TIME = re.compile(
    r"(?P<hour>[01][0-9]|2[0-3])"
    r"(?::?(?P<minute>[0-5][0-9])(?::?(?P<second>[0-5][0-9]|60)(?:\.(?P<fraction>[0-9]{1,6}))?)?)?",
    re.ASCII,
)
