"""Elements as bytes, in Explicit VR Little Endian, behind a preamble and file meta of our own (PS3.5 7.1, PS3.10 7.1).

Deterministic: without a time, a path or an AE title. All lengths are explicit, so that nothing hides behind an item.
"""

import struct

from pacs.deid.reading import LONG_FORM

IMPLEMENTATION_CLASS_UID = "2.25.211843527790218304158763540921345517032"
IMPLEMENTATION_VERSION_NAME = "PACS_1"

_SHORT = struct.Struct("<HH2sH")
_LONG = struct.Struct("<HH2sHL")
_ITEM = b"\xfe\xff\x00\xe0"
_MAX_SHORT_LENGTH = 0xFFFE
_VRS = {vr: vr.encode() for vr in LONG_FORM}


def encode_element(tag: int, vr: str, value: bytes) -> bytes:
    """Return one element; the value is padded to an even length. One too long for its VR goes as UN (PS3.5 6.2.2)."""
    length = len(value)
    if length & 1:
        value += b"\0" if vr in ("UI", "OB", "UN") else b" "
        length += 1
    if vr in LONG_FORM:
        return _LONG.pack(tag >> 16, tag & 0xFFFF, _VRS[vr], 0, length) + value
    if length > _MAX_SHORT_LENGTH:
        return _LONG.pack(tag >> 16, tag & 0xFFFF, b"UN", 0, length) + value
    return _SHORT.pack(tag >> 16, tag & 0xFFFF, vr.encode(), length) + value


def encode_sequence(tag: int, items: list[bytes]) -> bytes:
    """Return a sequence of items that are encoded already."""
    value = b"".join([_ITEM + len(item).to_bytes(4, "little") + item for item in items])
    return _LONG.pack(tag >> 16, tag & 0xFFFF, b"SQ", 0, len(value)) + value


def encode_pixel_header(tag: int, vr: str, length: int) -> bytes:
    """Return what stands before pixel data; ``length`` 0xFFFFFFFF if they are encapsulated."""
    return _LONG.pack(tag >> 16, tag & 0xFFFF, vr.encode(), 0, length)


def encode_file_meta(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Return an empty preamble and the file meta."""
    elements = b"".join(
        (
            encode_element(0x00020001, "OB", b"\0\1"),
            encode_element(0x00020002, "UI", sop_class_uid.encode()),
            encode_element(0x00020003, "UI", sop_instance_uid.encode()),
            encode_element(0x00020010, "UI", transfer_syntax_uid.encode()),
            encode_element(0x00020012, "UI", IMPLEMENTATION_CLASS_UID.encode()),
            encode_element(0x00020013, "SH", IMPLEMENTATION_VERSION_NAME.encode()),
        )
    )
    return b"\0" * 128 + b"DICM" + encode_element(0x00020000, "UL", struct.pack("<L", len(elements))) + elements
