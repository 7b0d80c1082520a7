"""The file meta information (PS3.10 7.1) that this archive writes: deterministic, so equal data sets stay equal."""

IMPLEMENTATION_CLASS_UID = "2.25.211843527790218304158763540921345517032"
IMPLEMENTATION_VERSION_NAME = "PACS_1"


def encode_file_meta(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Return the preamble and file meta (PS3.10 7.1) that a data set received by C-STORE, or re-encoded, stands behind.

    Deterministic, without a time or an AE title: the same data set always becomes the same bytes.
    """
    elements = b"".join(
        (
            b"\x02\x00\x01\x00OB\x00\x00\x02\x00\x00\x00\x00\x01",
            _encode_short(0x0002, "UI", sop_class_uid, b"\0"),
            _encode_short(0x0003, "UI", sop_instance_uid, b"\0"),
            _encode_short(0x0010, "UI", transfer_syntax_uid, b"\0"),
            _encode_short(0x0012, "UI", IMPLEMENTATION_CLASS_UID, b"\0"),
            _encode_short(0x0013, "SH", IMPLEMENTATION_VERSION_NAME, b" "),
        )
    )
    group_length = b"\x02\x00\x00\x00UL\x04\x00" + len(elements).to_bytes(4, "little")
    return b"\0" * 128 + b"DICM" + group_length + elements


def _encode_short(element: int, vr: str, text: str, padding: bytes) -> bytes:
    value = text.encode("ascii", "replace")
    value += padding * (len(value) % 2)
    return b"\x02\x00" + element.to_bytes(2, "little") + vr.encode() + len(value).to_bytes(2, "little") + value
