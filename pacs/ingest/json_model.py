"""A data set in the DICOM JSON model (PS3.18 F.2) as a stranger sends it, checked and made like our own.

What comes out can be encoded without guessing: tags in upper case and order, every element with its VR, every value of
the type its VR has. What does not fit raises InvalidDataSet, whose sentence names a tag and never a value; an archive
that left it out would say of an object that it is stored, and keep another one.
"""

import re
from collections.abc import Callable, Mapping
from math import inf, isfinite, nan
from typing import Any, Final

from pacs.errors import PacsError
from pacs.ingest.limits import Limits
from pacs.ingest.values import KINDS, PUBLIC_VRS, private_vr, repeating_vr
from pacs.model import Attributes
from pacs.names import GROUPS

_TAG = re.compile(r"[0-9A-Fa-f]{8}")
_INTEGER = re.compile(r"[+-]?[0-9]{1,20}")
_AT = re.compile(r"[0-9A-Fa-f]{8}")
_BINARY: Final = frozenset(["OB", "OD", "OF", "OL", "OV", "OW", "UN"])
_FIRST_GROUP, _LAST_GROUP = 0x0008, 0xFFFC
_NOT_FINITE = {"nan": nan, "inf": inf, "-inf": -inf, "infinity": inf, "-infinity": -inf}
_LIMITS = Limits()


class InvalidDataSet(PacsError):
    """The metadata are no data set of the DICOM JSON model."""


def read_data_set(item: Any, *, depth: int = 0) -> Attributes:
    """Return a data set as it can be encoded; raise InvalidDataSet.

    Group lengths and groups below 0008 are left out: file meta information is written anew (PS3.10 7.1).
    """
    if not isinstance(item, dict):
        raise InvalidDataSet
    if depth > _LIMITS.depth:
        raise InvalidDataSet(f"Sequences nest deeper than {_LIMITS.depth} levels.")
    attributes: Attributes = {}
    elements = {key.upper(): element for key, element in item.items()}
    for key, element in sorted(elements.items()):
        if not _TAG.fullmatch(key):
            raise InvalidDataSet("The name of an attribute is no tag.")
        tag = int(key, 16)
        if tag >> 16 < _FIRST_GROUP or not tag & 0xFFFF:
            continue
        if tag >> 16 > _LAST_GROUP or not isinstance(element, dict):
            raise _invalid(key)
        attributes[key] = _read_element(key, element, elements, depth)
    return attributes


def _read_element(key: str, element: Mapping[str, Any], around: Mapping[str, Any], depth: int) -> dict[str, Any]:
    given = [name for name in ("Value", "BulkDataURI", "InlineBinary") if element.get(name) not in (None, "", [])]
    if len(given) > 1:
        raise _invalid(key)
    vr = _find_vr(key, element, around)
    if not given:
        return {"vr": vr}
    value = element[given[0]]
    if given[0] == "Value":
        return {"vr": vr, "Value": _read_values(key, vr, value, depth)}
    if not isinstance(value, str) or vr == "SQ":
        raise _invalid(key)
    if given[0] == "InlineBinary" and vr not in _BINARY:
        raise _invalid(key)
    return {"vr": vr, given[0]: value}


def _find_vr(key: str, element: Mapping[str, Any], around: Mapping[str, Any]) -> str:
    vr = element.get("vr")
    has_values = bool(element.get("Value"))
    if vr and not (vr == "UN" and has_values):
        if not isinstance(vr, str) or len(vr) != 2 or vr not in KINDS[True]:
            raise _invalid(key)
        return vr
    found = _look_up(key, around)
    if len(found) == 2:
        return found
    # PS3.6 leaves it open, and the kind of the value tells which one it was.
    if not has_values:
        return "OW" if "OW" in found else "US"
    values = element["Value"]
    is_negative = isinstance(values, list) and any(isinstance(value, int) and value < 0 for value in values)
    return "SS" if is_negative else "US"


def _look_up(key: str, around: Mapping[str, Any]) -> str:
    tag = int(key, 16)
    if not tag >> 16 & 1:
        return PUBLIC_VRS.get(tag) or repeating_vr(tag)
    if 0x10 <= tag & 0xFFFF < 0x100:
        return "LO"
    creator = around.get(f"{key[:4]}00{key[4:6]}")
    names = creator.get("Value") if isinstance(creator, dict) else None
    is_one_name = isinstance(names, list) and len(names) == 1 and isinstance(names[0], str)
    return private_vr(tag, names[0]) if is_one_name and names else "UN"


def _read_values(key: str, vr: str, values: Any, depth: int) -> list[Any]:
    if not isinstance(values, list) or vr in _BINARY:
        raise _invalid(key)
    if vr == "SQ":
        return [read_data_set({} if value is None else value, depth=depth + 1) for value in values]
    read = _READERS[vr]
    try:
        return [read(value) for value in values]
    except ValueError as error:
        raise _invalid(key) from error


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise ValueError


def _name(value: Any) -> dict[str, str] | None:
    if isinstance(value, str):
        return {"Alphabetic": value}
    if value is None:
        return None
    is_name = isinstance(value, dict) and set(value) <= {*GROUPS}
    if not is_name or not all(text is None or isinstance(text, str) for text in value.values()):
        raise ValueError
    return {group: text for group, text in value.items() if text}


def _numeral(value: Any) -> int | float | str | None:
    """Return a value of DS or IS, which PS3.18 F.2.3.1 lets be a number or text."""
    if isinstance(value, int | float) and (isinstance(value, bool) or not isfinite(value)):
        raise ValueError
    if value is None or isinstance(value, int | float | str):
        return value
    raise ValueError


def _count(value: Any) -> int | str | None:
    numeral = _numeral(value)
    return int(numeral) if isinstance(numeral, float) else numeral


def _integer(value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError


def _real(value: Any) -> float:
    """Return a number; JSON has none that is not finite, so that these come as text, or as null."""
    if value is None:
        return nan
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and value.lower() in _NOT_FINITE:
        return _NOT_FINITE[value.lower()]
    raise ValueError


def _tag(value: Any) -> str:
    if isinstance(value, str) and _AT.fullmatch(value):
        return value.upper()
    raise ValueError


_READERS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("AE", "AS", "CS", "DA", "DT", "LO", "LT", "SH", "ST", "TM", "UC", "UI", "UR", "UT"), _text),
    "DS": _numeral,
    "IS": _count,
    **dict.fromkeys(("SL", "SS", "SV", "UL", "US", "UV"), _integer),
    **dict.fromkeys(("FD", "FL"), _real),
    "AT": _tag,
    "PN": _name,
}


def _invalid(key: str) -> InvalidDataSet:
    return InvalidDataSet(f"({key[:4]},{key[4:]}) is not as its value representation has it.")
