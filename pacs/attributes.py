"""A DICOM JSON data set from outside made safe to keep: the model's own shape (PS3.18 F.2), and of bounded depth."""

import re
import struct
from base64 import b64decode
from typing import Any

from pydicom._dicom_dict import DicomDictionary

from pacs.errors import InvalidEntry
from pacs.model import Attributes
from pacs.names import GROUPS
from pacs.tags import tag_of

MAX_DEPTH = 8

_CHARACTER_SET = tag_of("SpecificCharacterSet")
_TAG = re.compile(r"[0-9A-F]{8}")
_VR = re.compile(r"[A-Z]{2}")
_BINARY_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
_NUMBERS = {"FD": "d", "FL": "f", "SL": "<l", "SS": "<h", "SV": "<q", "UL": "<L", "US": "<H", "UV": "<Q"}
_TEXTS = frozenset(
    {"AE", "AS", "AT", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "SH", "ST", "TM", "UC", "UI", "UR", "UT"}
)
_PUBLIC_VRS = {f"{tag:08X}": entry[0] for tag, entry in DicomDictionary.items()}


def clean(attributes: object) -> Attributes:
    """Return a data set in ascending order of tags; raise InvalidEntry with one sentence if it is none.

    Left out are group lengths, command and file meta groups, bulk data that is elsewhere, and Specific Character Set:
    the text is Unicode by now, and every answer says its own.
    """
    return _clean_dataset(attributes, 0)


def _clean_dataset(attributes: object, depth: int) -> Attributes:
    if not isinstance(attributes, dict):
        raise InvalidEntry("A data set must be an object of the DICOM JSON model.")
    if depth > MAX_DEPTH:
        raise InvalidEntry("The data set nests too deep.")
    cleaned: Attributes = {}
    for tag, element in attributes.items():
        key = tag.upper() if isinstance(tag, str) else ""
        if not _TAG.fullmatch(key):
            raise InvalidEntry("A data set's keys must be tags of eight hex digits.")
        if not isinstance(element, dict) or not _VR.fullmatch(str(element.get("vr", ""))):
            raise InvalidEntry(f"The element {key} must be an object with a vr.")
        if key[:4] in ("0000", "0002") or key[4:] == "0000" or key == _CHARACTER_SET or "BulkDataURI" in element:
            continue
        cleaned[key] = _clean_element(key, element, depth)
    return dict(sorted(cleaned.items()))


def _clean_element(tag: str, element: dict[str, Any], depth: int) -> dict[str, Any]:
    vr = element["vr"]
    known = _PUBLIC_VRS.get(tag, vr)
    if vr != known and " or " not in known:
        raise InvalidEntry(f"The vr of {tag} must be {known}.")
    if vr in _BINARY_VRS:
        return _clean_binary(tag, element)
    values = element.get("Value", [])
    if not isinstance(values, list):
        raise InvalidEntry(f"The Value of {tag} must be an array.")
    cleaned = [_clean_value(tag, vr, value, depth) for value in values]
    return {"vr": vr, "Value": cleaned} if any(value is not None for value in cleaned) else {"vr": vr}


def _clean_binary(tag: str, element: dict[str, Any]) -> dict[str, Any]:
    binary = element.get("InlineBinary", "")
    try:
        b64decode(binary, validate=True)
    except (ValueError, TypeError):
        raise InvalidEntry(f"The InlineBinary of {tag} must be base64.") from None
    return {"vr": element["vr"], "InlineBinary": binary} if binary else {"vr": element["vr"]}


def _clean_value(tag: str, vr: str, value: Any, depth: int) -> Any:
    if value is None:
        return None
    if vr == "SQ":
        return _clean_dataset(value, depth + 1)
    if vr == "PN":
        return _clean_name(tag, value)
    if vr in _NUMBERS:
        return _clean_number(tag, vr, value)
    if vr not in _TEXTS or isinstance(value, bool) or not isinstance(value, str | int | float):
        raise InvalidEntry(f"A value of {tag} is of the wrong type.")
    if vr == "AT" and not _TAG.fullmatch(str(value)):
        raise InvalidEntry(f"A value of {tag} must be a tag.")
    return (value.strip(" \0") or None) if isinstance(value, str) else value


def _clean_number(tag: str, vr: str, value: Any) -> Any:
    try:
        struct.pack(_NUMBERS[vr], value)
    except (struct.error, OverflowError, TypeError):
        raise InvalidEntry(f"A value of {tag} must be a number of {vr}.") from None
    return value


def _clean_name(tag: str, value: Any) -> dict[str, str] | None:
    if isinstance(value, str):
        value = dict(zip(GROUPS, value.split("="), strict=False))
    if not isinstance(value, dict) or not all(isinstance(value.get(group, ""), str) for group in GROUPS):
        raise InvalidEntry(f"A value of {tag} must be a person name.")
    groups = {group: value[group].strip(" \0") for group in GROUPS if value.get(group)}
    return {group: text for group, text in groups.items() if text} or None
