"""Data sets of the DICOM JSON model encoded for an answer, in a character set that its reader knows (PS3.5 6.1, 7.1).

A value that the set cannot hold is never mutilated: the whole answer goes out in ISO_IR 192 instead, or, to a device
that is known to show Latin letters only, the value is transliterated.
"""

import re
import struct
import zlib
from base64 import b64decode
from collections.abc import Callable, Sequence
from typing import Any

from pydicom.charset import (
    ENCODINGS_TO_CODES,
    STAND_ALONE_ENCODINGS,
    _encode_string_impl,
    need_tail_escape_sequence_encodings,
    python_encoding,
)
from pydicom.valuerep import format_number_as_ds

from pacs.dimse.peers import Peer
from pacs.dimse.transliteration import transliterate
from pacs.imaging import syntaxes
from pacs.model import Attributes
from pacs.names import join_groups
from pacs.tags import values_of

UNICODE = ("ISO_IR 192",)
_LATIN_1 = ("ISO_IR 100",)

_CHARACTER_SET = "00080005"
_ASCII_TERMS = ("", "ISO_IR 6", "ISO 2022 IR 6")
_ASCII_ESCAPE, _ROMAJI_ESCAPE = b"\x1b(B", b"\x1b(J"
# Where a value returns to its first character set (PS3.5 6.1.2.5.3), and a new run of another one may begin.
_RUNS = re.compile(r"([\\^=\r\n\t\f]+)")

_TEXT_VRS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
_NUMBER_CODES = {"FD": "d", "FL": "f", "SL": "l", "SS": "h", "SV": "q", "UL": "L", "US": "H", "UV": "Q"}
_BINARY_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
_WORD_BYTES = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}
_LONG_VRS = _BINARY_VRS | {"SQ", "SV", "UC", "UR", "UT", "UV"}
_MAX_SHORT_BYTES = 0xFFFE
_MAX_DS_CHARACTERS = 16

EncodeText = Callable[[str], bytes]


def choose_character_sets(peer: Peer, request: Attributes) -> tuple[str, ...]:
    """Return the values of (0008,0005) to answer in: the peer's own, else the request's, else ISO_IR 192.

    A device of Latin letters that declares nothing is answered in ISO_IR 100. What is no defined term is no choice.
    """
    own = tuple(peer.answer_character_set.split("\\"))
    asked = tuple(str(term or "").strip() for term in values_of(request, "SpecificCharacterSet"))
    for choice in (own, asked):
        if is_character_set(choice):
            return choice
    return _LATIN_1 if peer.is_latin_only else UNICODE


def is_character_set(terms: Sequence[str]) -> bool:
    """Whether these are values of (0008,0005) that text can be encoded in (PS3.3 C.12.1.1.2)."""
    if not any(terms):
        return False
    first, *others = terms
    if first in STAND_ALONE_ENCODINGS:
        return not others
    is_known = all(term in python_encoding for term in terms[not first :])
    return is_known and all(term.startswith("ISO 2022 ") for term in others)


def encode_answer(
    attributes: Attributes,
    transfer_syntax_uid: str,
    character_sets: Sequence[str] = UNICODE,
    *,
    is_latin_only: bool = False,
) -> bytes:
    """Return ``attributes`` encoded in a transfer syntax, their text in ``character_sets``, values of (0008,0005).

    (0008,0005) is set to what the text is in: ISO_IR 192 if the sets cannot hold it all and its reader is not
    ``is_latin_only``; with no sets, for what has no text, it is left out. Sequences have explicit lengths; bulk data by
    reference are left without a value.
    """
    syntax = syntaxes.lookup(transfer_syntax_uid)
    sets = tuple(character_sets)
    encode_text = _text_encoder(sets)
    if is_latin_only:
        encode_text = _transliterating(encode_text)
    try:
        encoded = _Writer(encode_text, syntax).encode_dataset(_declaring(attributes, sets))
    except UnicodeEncodeError:
        encoded = _Writer(_text_encoder(UNICODE), syntax).encode_dataset(_declaring(attributes, UNICODE))
    return _deflate(encoded) if syntax.is_deflated else encoded


def _declaring(attributes: Attributes, character_sets: Sequence[str]) -> Attributes:
    return attributes | ({_CHARACTER_SET: {"vr": "CS", "Value": list(character_sets)}} if character_sets else {})


def _deflate(encoded: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    deflated = compressor.compress(encoded) + compressor.flush()
    return deflated + b"\0" * (len(deflated) % 2)  # PS3.5 A.5


def _text_encoder(character_sets: Sequence[str]) -> EncodeText:
    """Return a function that encodes one value, or raises UnicodeEncodeError if the sets cannot hold it."""
    terms = character_sets or _ASCII_TERMS[:1]
    first, *others = ("ascii" if term in _ASCII_TERMS else python_encoding[term] for term in terms)

    def encode_first(text: str) -> bytes:
        return text.encode("ascii") if text.isascii() else _encode(text, first)

    if not others:
        return encode_first
    back = ENCODINGS_TO_CODES.get(first, b"") if first != "ascii" else b""

    def encode_run(run: str) -> bytes:
        for encoding in (first, *others):
            try:
                encoded = encode_first(run) if encoding == first else _encode(run, encoding)
            except UnicodeEncodeError:
                continue
            if encoding == first:
                return encoded
            if encoding in need_tail_escape_sequence_encodings:  # these write their own escape sequence, and take G0
                return encoded + (_ROMAJI_ESCAPE if first == "shift_jis" else _ASCII_ESCAPE) + back
            return ENCODINGS_TO_CODES[encoding] + encoded + back
        return encode_first(run)

    return lambda text: b"".join(map(encode_run, _RUNS.split(text)))


def _encode(text: str, encoding: str) -> bytes:
    return bytes(_encode_string_impl(text, encoding))


def _transliterating(encode_text: EncodeText) -> EncodeText:
    """Return an encoder that never fails: a character outside of the sets is transliterated, the rest is kept."""

    def encode_character(character: str) -> bytes:
        try:
            return encode_text(character)
        except UnicodeEncodeError:
            return transliterate(character).encode("ascii")

    def encode(text: str) -> bytes:
        try:
            return encode_text(text)
        except UnicodeEncodeError:
            return b"".join(map(encode_character, text))

    return encode


class _Writer:
    """Encodes elements in one transfer syntax."""

    def __init__(self, encode_text: EncodeText, syntax: syntaxes.TransferSyntax) -> None:
        self._encode_text = encode_text
        self._order = "<" if syntax.is_little_endian else ">"
        self._is_implicit_vr = syntax.is_implicit_vr

    def encode_dataset(self, attributes: Attributes) -> bytes:
        """Return the elements in ascending order of tags."""
        return b"".join(self._encode_element(tag, attributes[tag]) for tag in sorted(attributes))

    def _encode_element(self, tag: str, element: dict[str, Any]) -> bytes:
        vr: str = element["vr"]
        value = self._encode_value(vr, element)
        head = self._pack("HH", int(tag[:4], 16), int(tag[4:], 16))
        if self._is_implicit_vr:
            return head + self._pack("L", len(value)) + value
        if len(value) > _MAX_SHORT_BYTES and vr not in _LONG_VRS:
            vr = "UN"  # PS3.5 6.2.2, note 1
        if vr in _LONG_VRS:
            return head + vr.encode("ascii") + b"\0\0" + self._pack("L", len(value)) + value
        return head + vr.encode("ascii") + self._pack("H", len(value)) + value

    def _encode_value(self, vr: str, element: dict[str, Any]) -> bytes:
        values = element.get("Value") or []
        if vr == "SQ":
            return b"".join(map(self._encode_item, values))
        if vr in _NUMBER_CODES:
            return b"".join(self._pack(_NUMBER_CODES[vr], value) for value in values if value is not None)
        if vr == "AT":
            return b"".join(self._pack("HH", int(value[:4], 16), int(value[4:], 16)) for value in values if value)
        if vr in _BINARY_VRS:
            value = self._order_words(vr, b64decode(element.get("InlineBinary") or ""))
            return value + b"\0" * (len(value) % 2)
        value = b"\\".join(self._encode_string(vr, value) for value in values)
        return value + (b"\0" if vr == "UI" else b" ") * (len(value) % 2)

    def _order_words(self, vr: str, value: bytes) -> bytes:
        """Return words as this syntax has them; in DICOM JSON they are little endian (PS3.18 F.2.7)."""
        size = _WORD_BYTES.get(vr, 1)
        if self._order == "<" or len(value) % size:
            return value
        return b"".join(value[start : start + size][::-1] for start in range(0, len(value), size))

    def _encode_item(self, item: Attributes | None) -> bytes:
        # An item's own declaration of the set it was received in would no longer be true.
        encoded = self.encode_dataset({tag: one for tag, one in (item or {}).items() if tag != _CHARACTER_SET})
        return self._pack("HHL", 0xFFFE, 0xE000, len(encoded)) + encoded

    def _encode_string(self, vr: str, value: Any) -> bytes:
        if value is None:
            return b""
        if vr in _TEXT_VRS:
            return self._encode_text(join_groups(value) if isinstance(value, dict) else str(value))
        if vr == "DS" and isinstance(value, float):
            return _text_of_number(value).encode("ascii")
        # All others are of the default repertoire (PS3.5 6.1.2.2); what came in outside of it has no set to be in.
        return transliterate(str(value)).encode("ascii")

    def _pack(self, codes: str, *values: Any) -> bytes:
        return struct.pack(self._order + codes, *values)


def _text_of_number(number: float) -> str:
    text = str(int(number)) if number.is_integer() and abs(number) < 10**15 else repr(number)
    return text if len(text) <= _MAX_DS_CHARACTERS else format_number_as_ds(number).strip()
