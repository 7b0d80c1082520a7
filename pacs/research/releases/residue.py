"""A second search of what was stored, by what the index knows of the patient.

The engine searches for what the object itself says. The index may know more: a name that was corrected, a number that
another object of the study has.
"""

from collections.abc import Iterator
from typing import Any

from pacs.deid.known import KnownValues, Needles
from pacs.model import Attributes
from pacs.tags import tag_of

_NUMBERS = tuple(tag_of(keyword) for keyword in ("PatientID", "OtherPatientIDs", "AccessionNumber"))
_MIN_DIGITS = 7
"""Fewer digits in a row come about by themselves, in the UIDs that were derived."""


def needles_of(attributes: Attributes) -> Needles:
    """Return what must not be found, by a study's attributes with its patient's, as they are now."""
    known = KnownValues()
    for tag, element in attributes.items():
        for value in element.get("Value", ()):
            if element.get("vr") == "PN":
                for name in _names(value):
                    known.add_name(name)
            elif tag in _NUMBERS and isinstance(value, str):
                text = value.strip()
                if len(text) >= _MIN_DIGITS or not text.isdecimal():
                    known.add_value(text)
    return known.needles()


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (group for group in value.values() if isinstance(group, str))
