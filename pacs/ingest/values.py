"""Encoded values to the DICOM JSON model (PS3.18 F.2): one converter per value representation.

A converter returns the list of values, empty if the attribute has none, or raises ValueError if the bytes are no value
of this VR; ``convert_anyway`` then says what to keep of it. Every value can be written as JSON: no NaN, no infinity, no
integer beyond 64 bits.
"""

import struct
from base64 import b64encode
from collections.abc import Callable
from functools import lru_cache
from math import isfinite
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from pydicom._dicom_dict import DicomDictionary, RepeatersDictionary
from pydicom._private_dict import private_dictionaries
from pydicom.datadict import mask_match

from pacs.ingest.charsets import TextDecoder
from pacs.names import GROUPS

BINARY_INLINE_BYTES = 1024
TEXT_INLINE_BYTES = 64 * 1024
MAX_KNOWN_UN_BYTES = 0xFFFE

Converter = Callable[[bytes, TextDecoder], list[Any]]

# What becomes of an element's value. Plain integers, because the parser compares them for every element.
VALUES: Final = 0
BINARY: Final = 1
SEQUENCE: Final = 2
AMBIGUOUS: Final = 3


class Kind(NamedTuple):
    """How elements of one VR are read. ``inline_bytes``: longer values are bulk data. ``convert``: only of VALUES."""

    vr: str
    has_long_length: bool
    treatment: int
    inline_bytes: int
    convert: Converter


def _strings(value: bytes, _decoder: TextDecoder) -> list[Any]:
    text = value.decode("latin-1").rstrip(" \0")
    if "\\" in text:
        return text.split("\\")
    return [text] if text else []


def _titles(value: bytes, _decoder: TextDecoder) -> list[Any]:
    text = value.decode("latin-1")
    if "\\" in text:
        return [part.strip(" \0") for part in text.split("\\")]
    text = text.strip(" \0")
    return [text] if text else []


def _uids(value: bytes, _decoder: TextDecoder) -> list[Any]:
    text = value.decode("latin-1").rstrip(" \0")
    if "\\" in text:
        return [part.strip() for part in text.split("\\")]
    text = text.strip()
    return [text] if text else []


def _address(value: bytes, _decoder: TextDecoder) -> list[Any]:
    text = value.decode("latin-1").rstrip()
    return [text] if text else []


def _texts(value: bytes, decoder: TextDecoder) -> list[Any]:
    text = decoder.decode(value)
    if "\\" in text:
        return [part.rstrip(" \0") for part in text.split("\\")]
    text = text.rstrip(" \0")
    return [text] if text else []


def _paragraph(value: bytes, decoder: TextDecoder) -> list[Any]:
    text = decoder.decode(value).rstrip(" \0")
    return [text] if text else []


def _names(value: bytes, decoder: TextDecoder) -> list[Any]:
    text = decoder.decode(value.rstrip(b" \0"))
    if "\\" in text:
        return [_name(part) for part in text.split("\\")]
    name = _name(text)
    return [name] if name else []


def _name(text: str) -> dict[str, str] | None:
    """Return the component groups (PS3.5 6.2.1.1); further ones than three do not exist."""
    groups = text.rstrip("=").split("=")
    if groups == [""]:
        return None
    return dict(zip(GROUPS, groups, strict=False))


def _decimals(value: bytes, _decoder: TextDecoder) -> list[Any]:
    text = value.decode("latin-1").strip().rstrip(" \0")
    if "\\" not in text:
        return [_decimal(text)] if text else []
    return [_decimal(part) if part.strip() else None for part in text.split("\\")]


def _decimal(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError
    return number


def _integers(value: bytes, _decoder: TextDecoder) -> list[Any]:
    text = value.decode("latin-1").rstrip(" \0")
    if "\\" not in text:
        return [_integer(text)] if text.strip() else []
    return [_integer(part) if part.strip() else None for part in text.split("\\")]


def _integer(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = int(_decimal(text))
    if not -(1 << 63) <= number < 1 << 63:
        raise ValueError
    return number


def _numbers(code: str, order: str) -> Converter:
    size = struct.calcsize("<" + code)
    one = struct.Struct(order + code).unpack

    def convert(value: bytes, _decoder: TextDecoder) -> list[Any]:
        length = len(value)
        if length == size:
            return list(one(value))
        if length % size:
            raise ValueError
        return list(struct.unpack(f"{order}{length // size}{code}", value))

    return convert


def _floats(code: str, order: str) -> Converter:
    numbers = _numbers(code, order)

    def convert(value: bytes, decoder: TextDecoder) -> list[Any]:
        return [number if isfinite(number) else None for number in numbers(value, decoder)]

    return convert


def _tags(order: str) -> Converter:
    def convert(value: bytes, _decoder: TextDecoder) -> list[Any]:
        whole = value[: len(value) // 4 * 4]
        return [f"{group:04X}{element:04X}" for group, element in struct.iter_unpack(order + "HH", whole)]

    return convert


def _no_values(_value: bytes, _decoder: TextDecoder) -> list[Any]:
    return []


_TEXT_CONVERTERS: dict[str, Converter] = {
    **dict.fromkeys(("AS", "CS", "DA", "DT", "TM"), _strings),
    **dict.fromkeys(("LO", "SH", "UC"), _texts),
    **dict.fromkeys(("LT", "ST", "UT"), _paragraph),
    "AE": _titles,
    "DS": _decimals,
    "IS": _integers,
    "PN": _names,
    "UI": _uids,
    "UR": _address,
}
_INTEGER_CODES = {"SL": "l", "SS": "h", "SV": "q", "UL": "L", "US": "H", "UV": "Q"}
_FLOAT_CODES = {"FD": "d", "FL": "f"}
_BINARY_VRS = ("OB", "OD", "OF", "OL", "OV", "OW", "UN")
_LONG_VRS = {*_BINARY_VRS, "SQ", "SV", "UC", "UR", "UT", "UV"}
_AMBIGUOUS_INLINE_BYTES = {
    "US or SS": TEXT_INLINE_BYTES,
    "OB or OW": BINARY_INLINE_BYTES,
    "US or OW": BINARY_INLINE_BYTES,
    "US or SS or OW": BINARY_INLINE_BYTES,
}
_WORD_BYTES = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}


def _build_kinds(order: str) -> dict[str, Kind]:
    converters = dict(_TEXT_CONVERTERS)
    converters.update({vr: _numbers(code, order) for vr, code in _INTEGER_CODES.items()})
    converters.update({vr: _floats(code, order) for vr, code in _FLOAT_CODES.items()})
    converters["AT"] = _tags(order)
    kinds = {vr: Kind(vr, vr in _LONG_VRS, VALUES, TEXT_INLINE_BYTES, convert) for vr, convert in converters.items()}
    kinds.update({vr: Kind(vr, True, BINARY, BINARY_INLINE_BYTES, _no_values) for vr in _BINARY_VRS})
    kinds["SQ"] = Kind("SQ", True, SEQUENCE, 0, _no_values)
    for vr, inline_bytes in _AMBIGUOUS_INLINE_BYTES.items():
        kinds[vr] = Kind(vr, True, AMBIGUOUS, inline_bytes, _no_values)
    return kinds


KINDS = MappingProxyType({True: _build_kinds("<"), False: _build_kinds(">")})
"""Whether little endian -> VR -> how its elements are read."""

ENCODED_KINDS = MappingProxyType(
    {
        is_little_endian: {vr.encode(): kind for vr, kind in kinds.items() if len(vr) == 2}
        for is_little_endian, kinds in KINDS.items()
    }
)
"""The same by the two bytes that stand in an explicit VR data set."""

PUBLIC_VRS: dict[int, str] = {tag: entry[0] for tag, entry in DicomDictionary.items() if entry[0] != "NONE"}
PUBLIC_KINDS = MappingProxyType(
    {is_little_endian: {tag: kinds[vr] for tag, vr in PUBLIC_VRS.items()} for is_little_endian, kinds in KINDS.items()}
)
"""Whether little endian -> tag -> how PS3.6 says to read it."""
KEYS: dict[int, str] = {tag: f"{tag:08X}" for tag in PUBLIC_VRS}


@lru_cache(maxsize=4096)
def repeating_vr(tag: int) -> str:
    """Return the VR of an element of a repeating group such as 60xx, or ``UN``."""
    mask = mask_match(tag)
    return RepeatersDictionary[mask][0] if mask else "UN"


@lru_cache(maxsize=4096)
def private_vr(tag: int, creator: str) -> str:
    """Return the VR of a private element as known from its creator's publications, or ``UN``."""
    entries = private_dictionaries.get(creator, {})
    key = f"{tag:08X}"
    for form in (key, f"{key[:4]}xx{key[6:]}", f"{key[:2]}xxxx{key[6:]}"):
        if form in entries:
            vr = entries[form][0].replace("_", " or ")
            return vr if vr in KINDS[True] else "UN"
    return "UN"


def convert_anyway(vr: str, value: bytes) -> dict[str, Any]:
    """Return an element for bytes that are no value of their VR.

    Numbers in text become text where they are no numbers (PS3.18 F.2.3.1 allows it for DS and IS); whatever else cannot
    be read is kept as UN, so that nothing of it is lost.
    """
    if vr not in ("DS", "IS"):
        return {"vr": "UN", "InlineBinary": b64encode(value).decode()}
    convert = _decimal if vr == "DS" else _integer
    values: list[Any] = []
    for part in value.decode("latin-1").strip(" \0").split("\\"):
        text = part.strip(" \0")
        try:
            values.append(convert(text) if text else None)
        except ValueError:
            values.append(text)
    return {"vr": vr, "Value": values}


def inline(vr: str, value: bytes, *, is_little_endian: bool) -> dict[str, Any]:
    """Return a binary element with its bytes in little endian order, as PS3.18 F.2.7 asks."""
    if not value:
        return {"vr": vr}
    size = _WORD_BYTES.get(vr, 1)
    if not is_little_endian and size > 1 and len(value) % size == 0:
        value = b"".join(value[start : start + size][::-1] for start in range(0, len(value), size))
    return {"vr": vr, "InlineBinary": b64encode(value).decode()}
