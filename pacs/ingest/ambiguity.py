"""VRs that the dictionary leaves open (PS3.6: "US or SS", "OB or OW"), decided once the whole data set is known.

An implicit VR data set does not say; other elements of the same item, or of those around it, do.
"""

import struct
from dataclasses import dataclass, replace
from typing import Any, Final

from pacs.ingest.charsets import TextDecoder
from pacs.ingest.values import convert_anyway, inline
from pacs.model import Attributes, BulkValue

_PIXEL_DATA: Final = 0x7FE00010
_LUT_DATA: Final = 0x00283006
_LUT_DESCRIPTORS: Final = frozenset((0x00281101, 0x00281102, 0x00281103, 0x00283002))


class Scope:
    """A data set or item while it is parsed, linked to the one around it; ``path`` leads to its elements' paths.

    ``end`` is where an item of known length ends, None if a delimiter or ``limit`` does. ``limit`` is where the
    innermost value of known length ends: nothing may pass it, while an element may pass the end of an item that lies.
    Both are exclusive.
    """

    __slots__ = ("attributes", "decoder", "depth", "end", "is_implicit_vr", "limit", "parent", "path")

    def __init__(self, parent: "Scope | None", decoder: TextDecoder, path: str, end: int | None, limit: int) -> None:
        self.attributes: Attributes = {}
        self.parent = parent
        self.depth: int = parent.depth + 1 if parent else 0
        self.decoder = decoder
        self.is_implicit_vr: bool = parent.is_implicit_vr if parent else False
        self.path = path
        self.end = end
        self.limit = limit


@dataclass(frozen=True, slots=True)
class Unresolved:
    """An element whose VR is open: ``element`` is already in its place and gets its VR and value later.

    ``value`` is None for bulk, whose entry under ``path`` gets the VR.
    """

    element: dict[str, Any]
    scope: Scope
    tag: int
    value: bytes | None
    path: str
    is_encapsulated: bool


def resolve(unresolved: list[Unresolved], bulk: dict[str, BulkValue], *, is_little_endian: bool) -> None:
    """Give every element in the list its VR and value, and every bulk value of theirs its VR."""
    for entry in unresolved:
        vr = _vr(entry)
        if entry.value is None:
            entry.element["vr"] = vr
            if entry.path in bulk:
                bulk[entry.path] = replace(bulk[entry.path], vr=vr)
        elif vr in ("US", "SS"):
            entry.element.update(_numbers(vr, entry.tag, entry.value, is_little_endian=is_little_endian))
        else:
            entry.element.update(inline(vr, entry.value, is_little_endian=is_little_endian))


def choose_sign(tag: int, vr: str, values: list[Any]) -> None:
    """Make a lookup table's number of entries unsigned, whatever its VR says (PS3.3 C.11.1.1.1)."""
    if vr == "SS" and tag in _LUT_DESCRIPTORS and values and values[0] < 0:
        values[0] += 0x10000


def _numbers(vr: str, tag: int, value: bytes, *, is_little_endian: bool) -> dict[str, Any]:
    if not value:
        return {"vr": vr}
    if len(value) % 2:
        return convert_anyway(vr, value)
    order, code = "<" if is_little_endian else ">", "H" if vr == "US" else "h"
    values = list(struct.unpack(f"{order}{len(value) // 2}{code}", value))
    choose_sign(tag, vr, values)
    return {"vr": vr, "Value": values}


def _vr(entry: Unresolved) -> str:
    open_vr = entry.element["vr"]
    if open_vr == "US or SS":
        return _signedness(entry.scope)
    if open_vr == "US or OW" and entry.tag == _LUT_DATA and _first(entry.scope.attributes, "00283002") == 1:
        # A table of one entry has one value (PS3.3 C.11.1.1.1).
        return "US"
    if open_vr != "OB or OW":
        return "OW"
    if entry.is_encapsulated:
        return "OB"
    if entry.scope.is_implicit_vr or entry.tag & 0xFF00FFFF == 0x60003000:
        # PS3.5 A.1, and 8.1.2 for overlays.
        return "OW"
    bits = "00280100" if entry.tag == _PIXEL_DATA else "54001004"
    return "OW" if (_first(entry.scope.attributes, bits) or 0) > 8 else "OB"


def _signedness(scope: Scope | None) -> str:
    """Return US or SS by the nearest Pixel Representation (0028,0103), at this level or around it."""
    while scope is not None:
        representation = _first(scope.attributes, "00280103")
        if representation is not None:
            return "US" if representation == 0 else "SS"
        scope = scope.parent
    return "US"


def _first(attributes: Attributes, key: str) -> int | None:
    values = attributes.get(key, {}).get("Value")
    return values[0] if values and isinstance(values[0], int) else None
