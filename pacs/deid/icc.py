"""ICC profiles without their text: description, copyright and date may name a device's owner; colours are numbers.

Offsets and lengths stay, so that every reader finds the tables where they were (ICC.1:2022, 7.2 and 10).
"""

_HEADER_BYTES = 128
_TEXTUAL = frozenset({b"desc", b"text", b"mluc", b"dtim", b"data", b"dict", b"ncl2", b"pseq", b"psid", b"ZXML"})
_CREATED, _MAKER, _IDENTIFIER = slice(24, 36), slice(48, 64), slice(80, 100)
_DESC = b"desc"
_MAX_TAGS = 200


def clean_profile(profile: bytes) -> bytes | None:
    """Return a profile with all its text blank; None if the bytes are no profile."""
    if len(profile) < _HEADER_BYTES + 4 or profile[36:40] != b"acsp":
        return None
    count = int.from_bytes(profile[_HEADER_BYTES : _HEADER_BYTES + 4], "big")
    end = _HEADER_BYTES + 4 + 12 * count
    if count > _MAX_TAGS or end > len(profile):
        return None
    cleaned = bytearray(len(profile))
    cleaned[:end] = profile[:end]
    for part in (_CREATED, _MAKER, _IDENTIFIER):
        cleaned[part] = bytes(part.stop - part.start)
    for number in range(count):
        entry = _HEADER_BYTES + 4 + 12 * number
        offset = int.from_bytes(profile[entry + 4 : entry + 8], "big")
        length = int.from_bytes(profile[entry + 8 : entry + 12], "big")
        if not end <= offset <= offset + length <= len(profile) or length < 8:
            return None
        # Only what a tag points at is copied: what lies between them is nobody's.
        kind = profile[offset : offset + 4]
        cleaned[offset : offset + length] = _blank(kind, profile[offset : offset + length])
    return bytes(cleaned)


def _blank(kind: bytes, element: bytes) -> bytes:
    if kind not in _TEXTUAL:
        return element
    if kind == _DESC:
        # An ASCII count of 1 and its NUL; no Unicode, no ScriptCode.
        return (element[:8] + (1).to_bytes(4, "big") + bytes(len(element)))[: len(element)]
    if kind == b"mluc":
        # No record, each of 12 bytes: a reader that wants one falls back on the name of the space.
        return (element[:8] + bytes(4) + (12).to_bytes(4, "big") + bytes(len(element)))[: len(element)]
    return element[:8] + bytes(len(element) - 8)
