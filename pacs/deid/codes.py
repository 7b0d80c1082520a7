"""Coded entries (PS3.3 8.8): what the code means is taken from the code, and codes of nobody knows whose are keyed.

A meaning is text that anybody may have typed. A code of a scheme that everybody has is a code; one of a private scheme
is a number that a hospital gave, and its scheme may be named for the hospital.
"""

import re
from functools import cache

from pydicom.sr._concepts_dict import concepts as _concepts

from pacs.deid.keys import ProjectKey

CODE_VALUE, DESIGNATOR, MEANING = 0x00080100, 0x00080102, 0x00080104
LONG_CODE_VALUE, URN_CODE_VALUE = 0x00080119, 0x00080120
PRIVATE_DESIGNATOR = "99LOCAL"

_FORMS = {
    "SCT": r"[1-9][0-9]{5,17}",
    "SRT": r"[A-Z][0-9]?-[0-9A-F]{4,5}",
    "SNM3": r"[A-Z][0-9]?-[0-9A-F]{4,5}",
    "99SDM": r"[A-Z][0-9]?-[0-9A-F]{4,5}",
    "LN": r"[0-9]{3,5}-[0-9]",
    "RADLEX": r"RID[0-9]{1,6}",
    "ICD10": r"[A-Z][0-9]{2}(\.[0-9]{1,2})?",
    "I10": r"[A-Z][0-9]{2}(\.[0-9A-Z]{1,4})?",
    "I9C": r"[0-9]{3}(\.[0-9]{1,2})?",
    "ICDO3": r"[0-9]{4}/[0-9]|C[0-9]{2}\.[0-9]",
    "UCUM": r"(?![0-9]{3})[^0-9]{1,10}([0-9]{0,2}[^0-9]{0,6}){0,2}|1",
    "FMA": r"[0-9]{3,5}",
    "NCIt": r"C[0-9]{3,5}",
    "MSH": r"[CD][0-9]{4,5}",
    "UMLS": r"C0[0-9]{6}",
}
CONCEPTS: dict[str, dict[str, dict[str, tuple[str, list[int]]]]] = _concepts  # type: ignore[assignment]
"""What pydicom knows of PS3.16: scheme, keyword, code, and its meaning."""
_COMPILED = {scheme: re.compile(form, re.ASCII) for scheme, form in _FORMS.items()}


@cache
def _meanings() -> dict[tuple[str, str], str]:
    return {
        (scheme, value): meaning
        for scheme, keywords in CONCEPTS.items()
        for codes in keywords.values()
        for value, (meaning, _) in codes.items()
    }


def meaning_of(designator: str, value: str) -> str:
    """Return what a code means by its scheme, empty if that is not known."""
    return _meanings().get((designator, value), "")


def is_public(designator: str, value: str) -> bool:
    """Whether a code is one of a scheme that everybody has, as far as can be told from its form."""
    if meaning_of(designator, value):
        return True
    form = _COMPILED.get(designator)
    if form is None or form.fullmatch(value) is None:
        return False
    return designator != "SCT" or is_sound_sctid(value)


def is_public_scheme(designator: str) -> bool:
    """Whether a scheme is one that everybody has."""
    return designator in _COMPILED or designator in CONCEPTS


def key_code(key: ProjectKey, designator: str, value: str) -> str:
    """Return the code that stands for one of a private scheme in a project, so that equal ones stay equal."""
    return "K" + key.derive_code("code", f"{designator}\0{value}", 15)


_PARTITIONS = frozenset({"00", "01", "02", "10", "11", "12"})
_MULTIPLY = (
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9),
    (1, 2, 3, 4, 0, 6, 7, 8, 9, 5),
    (2, 3, 4, 0, 1, 7, 8, 9, 5, 6),
    (3, 4, 0, 1, 2, 8, 9, 5, 6, 7),
    (4, 0, 1, 2, 3, 9, 5, 6, 7, 8),
    (5, 9, 8, 7, 6, 0, 4, 3, 2, 1),
    (6, 5, 9, 8, 7, 1, 0, 4, 3, 2),
    (7, 6, 5, 9, 8, 2, 1, 0, 4, 3),
    (8, 7, 6, 5, 9, 3, 2, 1, 0, 4),
    (9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
)
_TURN = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)


def is_sound_sctid(value: str) -> bool:
    """Whether a number has the partition and the check digit (Verhoeff's) of SNOMED CT, as few other numbers do."""
    if value[-3:-1] not in _PARTITIONS:
        return False
    check = 0
    for place, digit in enumerate(reversed(value)):
        number = int(digit)
        for _ in range(place % 8):
            number = _TURN[number]
        check = _MULTIPLY[check][number]
    return check == 0
