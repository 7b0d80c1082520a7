"""Values that people and rules give, as elements of a data set: checked against the value representation (PS3.5 6.2).

A sentence about a wrong value names its attribute and never repeats the value, which may be a patient's.
"""

import re
from collections.abc import Callable
from datetime import date
from typing import Any

from pydicom.datadict import dictionary_VM

from pacs.errors import InvalidValue
from pacs.model import Attributes
from pacs.names import GROUPS
from pacs.tags import tag_of, vr_of

_ARCHIVES_OWN = frozenset(
    {
        "SOPClassUID",
        "SOPInstanceUID",
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "SpecificCharacterSet",
        "OriginalAttributesSequence",
    }
)
_FIXED_GROUPS = frozenset({"0002", "0028", "7FE0"})
"""File meta and what describes the pixels: another value there makes another object, or one that does not decode."""


def parse_element(keyword: str, text: str) -> Attributes:
    """Return the element that a keyword and a text stand for, as a data set of one; an empty text empties it.

    Backslashes separate values where PS3.6 allows several, ``=`` the component groups of a name. Raises InvalidValue
    with one sentence for an attribute that nobody may set, or a text that is no value of it.
    """
    tag, vr = _attribute_of(keyword)
    if not text.strip(" "):
        return {tag: {"vr": vr}}
    if vr not in _RULES:
        raise InvalidValue(f"{keyword} cannot be given as text.")
    rule = _RULES[vr]
    is_paragraph = vr in _PARAGRAPHS
    parts = [text] if is_paragraph else text.split("\\")
    if len(parts) > 1 and dictionary_VM(int(tag, 16)) == "1":
        raise InvalidValue(f"{keyword} has one value only.")
    allowed = _PARAGRAPH_CONTROLS if is_paragraph else ""
    for part in parts:
        if any((char < " " or char == "\x7f" or not _is_encodable(char)) and char not in allowed for char in part):
            raise InvalidValue(f"{keyword} must not hold control characters.")
        if not rule.accepts(part.strip(" ")):
            raise InvalidValue(f"{keyword} must be {rule.form} ({vr}).")
    return {tag: {"vr": vr, "Value": [rule.convert(part.strip(" ")) for part in parts]}}


def parse_empty(keyword: str) -> Attributes:
    """Return the element that empties an attribute, as a data set of one; raise InvalidValue if nobody may do that."""
    tag, vr = _attribute_of(keyword)
    return {tag: {"vr": vr}}


def _attribute_of(keyword: str) -> tuple[str, str]:
    try:
        tag, vr = tag_of(keyword), vr_of(keyword)
    except KeyError:
        raise InvalidValue(f"There is no attribute {keyword}.") from None
    if keyword in _ARCHIVES_OWN or tag[:4] in _FIXED_GROUPS:
        raise InvalidValue(f"{keyword} cannot be changed.")
    return tag, vr


def _is_encodable(char: str) -> bool:
    return not "\ud800" <= char <= "\udfff"


class _Rule:
    """What a value of one VR looks like, in words and as a test, and how the DICOM JSON model holds it."""

    def __init__(self, form: str, accepts: Callable[[str], bool], convert: Callable[[str], Any] = str) -> None:
        self.form = form
        self.accepts = accepts
        self.convert = convert


def _at_most(length: int) -> _Rule:
    return _Rule(f"at most {length} characters", lambda text: len(text) <= length)


def _pattern(form: str, pattern: str, convert: Callable[[str], Any] = str) -> _Rule:
    compiled = re.compile(pattern, re.ASCII)
    return _Rule(form, lambda text: compiled.fullmatch(text) is not None, convert)


def _is_date(text: str) -> bool:
    if not re.fullmatch(r"[0-9]{8}", text, re.ASCII):
        return False
    try:
        date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return False
    return True


def _is_date_time(text: str) -> bool:
    found = re.fullmatch(
        r"(?P<date>[0-9]{4}([0-9]{2}([0-9]{2})?)?)(?P<time>[0-9.]*)([+-](0[0-9]|1[0-4])[0-5][0-9])?", text, re.ASCII
    )
    if found is None or not _is_date((found["date"] + "0101")[:8]):
        return False
    return not found["time"] or (len(found["date"]) == 8 and re.fullmatch(_TIME, found["time"]) is not None)


def _is_integer(text: str) -> bool:
    return re.fullmatch(r"[+-]?[0-9]{1,11}", text, re.ASCII) is not None and -(2**31) <= int(text) < 2**31


def _is_name(text: str) -> bool:
    groups = text.split("=")
    return len(groups) <= 3 and all(len(group) <= 64 and group.count("^") <= 4 for group in groups)


def _name(text: str) -> dict[str, str]:
    return {kind: group for kind, group in zip(GROUPS, text.split("="), strict=False) if group}


_TIME = r"([01][0-9]|2[0-3])([0-5][0-9](([0-5][0-9]|60)(\.[0-9]{1,6})?)?)?"
_PARAGRAPHS = frozenset({"LT", "ST", "UT"})
_PARAGRAPH_CONTROLS = "\t\n\f\r"
_RULES: dict[str, _Rule] = {
    "AE": _at_most(16),
    "AS": _pattern("an age like 054Y", r"[0-9]{3}[DWMY]"),
    "CS": _pattern("at most 16 capital letters, digits, blanks and underscores", r"[A-Z0-9 _]{0,16}"),
    "DA": _Rule("a date like 20240131", _is_date),
    "DS": _Rule(
        "a number of at most 16 characters",
        lambda text: (
            len(text) <= 16 and re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,2})?", text) is not None
        ),
        float,
    ),
    "DT": _Rule("a date and time like 20240131120000", _is_date_time),
    "IS": _Rule("an integer", _is_integer, int),
    "LO": _at_most(64),
    "LT": _at_most(10240),
    "PN": _Rule("a name of at most three groups of 64 characters and five components", _is_name, _name),
    "SH": _at_most(16),
    "ST": _at_most(1024),
    "TM": _pattern("a time like 120000", _TIME),
    "UC": _at_most(64 * 1024),
    "UI": _pattern("a UID", r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+"),
    "UT": _at_most(64 * 1024),
}
