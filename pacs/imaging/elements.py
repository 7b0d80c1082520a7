"""Elements as bytes: headers, and attributes of the DICOM JSON model, in Explicit or Implicit VR LE (PS3.5 7.1)."""

import base64
import binascii
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydicom.charset import python_encoding
from pydicom.valuerep import format_number_as_ds

from pacs.imaging.sources import Pieces
from pacs.model import Attributes
from pacs.names import join_groups

UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
MAX_SHORT_LENGTH = 0xFFFE

LONG_FORM = frozenset(["OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"])
"""VRs with a reserved field and a length of 32 bits (PS3.5 Table 7.1-1)."""

PADDED_WITH_SPACE = frozenset(
    ["AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UR", "UT"]
)
IN_CHARACTER_SET = frozenset(["LO", "LT", "PN", "SH", "ST", "UC", "UT"])
"""VRs that Specific Character Set (0008,0005) applies to (PS3.5 6.1.2.3)."""

UTF_8 = "utf_8"
SPECIFIC_CHARACTER_SET = 0x00080005

_NUMBERS = {"US": "H", "SS": "h", "UL": "L", "SL": "l", "UV": "Q", "SV": "q", "FL": "f", "FD": "d"}
_PLAIN = frozenset(
    ["latin_1", "iso8859_2", "iso8859_3", "iso8859_4", "GB18030", "GBK"]
    + [f"iso_ir_{number}" for number in (126, 127, 138, 144, 148, 166)]
)


@dataclass(frozen=True, slots=True)
class AttributeEncoder:
    """Encodes attributes with the text in one Python encoding.

    ``find_bulk`` gives the value that a BulkDataURI stands for; what it does not find becomes an empty value.
    ``is_strict``: what is no value of its VR raises ValueError, and is not left out as if it were none.
    """

    encoding: str
    find_bulk: Callable[[str], Pieces | None]
    is_implicit_vr: bool = False
    is_strict: bool = False

    def encode(self, tag: int, element: Mapping[str, Any]) -> Pieces:
        """Return one element; raise UnicodeEncodeError if its text does not fit the encoding.

        A value that is none of its VR comes out empty: it was no value in the answers either.
        """
        vr = str(element["vr"])
        pieces = Pieces()
        if vr == "SQ" and element.get("Value"):
            pieces.write(encode_header(tag, vr, UNDEFINED, is_implicit_vr=self.is_implicit_vr))
            for item in element["Value"]:
                pieces.write(encode_item_header(UNDEFINED))
                pieces.extend(self.encode_item(item or {}))
                pieces.write(END_OF_ITEM)
            pieces.write(END_OF_SEQUENCE)
            return pieces
        value = self._bulk(element) if "BulkDataURI" in element else self._literal(vr, element)
        if value.length_bytes % 2:
            value.write(b" " if vr in PADDED_WITH_SPACE else b"\0")
        if value.length_bytes > MAX_SHORT_LENGTH and vr not in LONG_FORM:
            vr = "UN"
        pieces.write(encode_header(tag, vr, value.length_bytes, is_implicit_vr=self.is_implicit_vr))
        pieces.extend(value)
        return pieces

    def encode_item(self, attributes: Attributes) -> Pieces:
        """Return an item's elements in ascending order of their tags.

        Its own Specific Character Set is left out: the text is in the encoding of the data set around it.
        """
        pieces = Pieces()
        for tag, element in sorted(attributes.items()):
            if int(tag, 16) != SPECIFIC_CHARACTER_SET:
                pieces.extend(self.encode(int(tag, 16), element))
        return pieces

    def encode_text(self, vr: str, values: Sequence[Any]) -> bytes:
        """Return the values of a VR that Specific Character Set applies to, not padded."""
        texts = (_join_name(value) if vr == "PN" else value for value in values)
        joined = "\\".join("" if text is None else str(text) for text in texts)
        # Half a surrogate pair has no place in any character set.
        return joined.encode(self.encoding, "replace" if self.encoding == UTF_8 else "strict")

    def _bulk(self, element: Mapping[str, Any]) -> Pieces:
        pieces = Pieces()
        found = self.find_bulk(str(element["BulkDataURI"]))
        if found is not None:
            pieces.extend(found)
        return pieces

    def _literal(self, vr: str, element: Mapping[str, Any]) -> Pieces:
        pieces = Pieces()
        try:
            pieces.write(self._encode_value(vr, element))
        except UnicodeEncodeError:
            raise
        except (struct.error, binascii.Error, ValueError, TypeError, OverflowError) as error:
            if self.is_strict:
                raise ValueError from error
            return pieces
        return pieces

    def _encode_value(self, vr: str, element: Mapping[str, Any]) -> bytes:
        values = element.get("Value", [])
        if "InlineBinary" in element:
            return base64.b64decode(element["InlineBinary"], validate=True)
        if vr in IN_CHARACTER_SET:
            return self.encode_text(vr, values)
        if vr in _NUMBERS:
            return b"".join(struct.pack("<" + _NUMBERS[vr], value) for value in values)
        if vr == "AT":
            return b"".join(encode_tag(int(value, 16)) for value in values)
        text = "\\".join(map(_spell, values))
        return text.encode("latin-1") if self.is_strict else text.encode("ascii", "replace")


def find_encoding(declared: Sequence[Any]) -> str:
    """Return Python's name of an encoding for new text beside text of these character sets (PS3.3 C.12.1.1.2).

    Only the first set counts, and ASCII stands for those that need escape sequences: such text is better off in
    Unicode.
    """
    name = python_encoding.get(str(declared[0] or "").strip(), "") if declared else ""
    return UTF_8 if name == "UTF8" else name if name in _PLAIN else "ascii"


def encode_tag(tag: int) -> bytes:
    """Return a tag, or an AT value."""
    return (tag >> 16).to_bytes(2, "little") + (tag & 0xFFFF).to_bytes(2, "little")


def encode_header(tag: int, vr: str, length: int, *, is_implicit_vr: bool = False) -> bytes:
    """Return tag, VR if it is explicit, and length, which is even or undefined."""
    if is_implicit_vr:
        return encode_tag(tag) + length.to_bytes(4, "little")
    if vr in LONG_FORM:
        return encode_tag(tag) + vr.encode() + b"\0\0" + length.to_bytes(4, "little")
    return encode_tag(tag) + vr.encode() + length.to_bytes(2, "little")


def encode_item_header(length: int) -> bytes:
    """Return what an item or a fragment begins with."""
    return encode_tag(ITEM) + length.to_bytes(4, "little")


END_OF_ITEM = encode_tag(ITEM_END) + b"\0\0\0\0"
END_OF_SEQUENCE = encode_tag(SEQUENCE_END) + b"\0\0\0\0"


def encode_element(tag: int, vr: str, value: bytes, *, is_implicit_vr: bool = False) -> Pieces:
    """Return one element, its value padded to an even length."""
    pieces = Pieces()
    padding = (b" " if vr in PADDED_WITH_SPACE else b"\0") * (len(value) % 2)
    pieces.write(encode_header(tag, vr, len(value) + len(padding), is_implicit_vr=is_implicit_vr) + value + padding)
    return pieces


def _join_name(value: Any) -> str:
    """Return a person name's component groups as PS3.5 6.2.1 writes them."""
    if not isinstance(value, dict):
        return "" if value is None else str(value)
    return join_groups(value)


def _spell(value: Any) -> str:
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else format_number_as_ds(value)
    return "" if value is None else str(value)
