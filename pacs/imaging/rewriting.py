"""A data set's elements in another encoding, little endian, planned without reading its large values (PS3.5 7).

No value is parsed and written anew: bytes move as they are, with words turned around where the source is big endian and
value representations looked up where it is implicit. What PS3.6 does not know stays UN. Sequences come out with
undefined lengths, group lengths (retired, and wrong by now) are left out. Only where the text has to change its
character set is it written anew, as UTF-8, and then all of it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Self

from pydicom.datadict import dictionary_VR, private_dictionary_VR

from pacs.errors import HeaderTooLarge, InvalidHeader, UnsupportedTransferSyntax
from pacs.imaging.elements import (
    END_OF_ITEM,
    END_OF_SEQUENCE,
    IN_CHARACTER_SET,
    ITEM,
    ITEM_END,
    LONG_FORM,
    MAX_SHORT_LENGTH,
    PADDED_WITH_SPACE,
    SEQUENCE_END,
    SPECIFIC_CHARACTER_SET,
    UNDEFINED,
    UTF_8,
    AttributeEncoder,
    encode_header,
    encode_item_header,
    find_encoding,
)
from pacs.imaging.sources import Pieces, RangedSource, Window, swap_words
from pacs.model import Attributes

MAX_DEPTH = 64
PIXEL_DATA = 0x7FE00010

_PIXEL_REPRESENTATION, _BITS_ALLOCATED = 0x00280103, 0x00280100
_LITERAL_BYTES = 16 * 1024
_CHARACTER_SETS = f"{SPECIFIC_CHARACTER_SET:08X}"
_MAX_RECODED_BYTES = 64 * 1024 * 1024
_ESCAPE = b"\x1b"

_WORD_BYTES = {
    **dict.fromkeys(("US", "SS", "OW", "AT"), 2),
    **dict.fromkeys(("UL", "SL", "FL", "OF", "OL"), 4),
    **dict.fromkeys(("FD", "OD", "OV", "SV", "UV"), 8),
}
_UNIT_BYTES = _WORD_BYTES | {"AT": 4}


@dataclass(frozen=True, slots=True)
class Encoding:
    """How elements are encoded."""

    is_implicit_vr: bool
    is_little_endian: bool


_IMPLICIT = Encoding(is_implicit_vr=True, is_little_endian=True)


@dataclass(slots=True)
class _Scope:
    """One data set on the way: what later elements of it need of earlier ones."""

    depth: int
    pixel_representation: int
    bits_allocated: int
    attributes: Attributes
    character_sets: Sequence[Any] = ()
    creators: dict[int, str] = field(default_factory=dict)

    def open_item(self, attributes: Attributes) -> Self:
        """Return a scope for an item, which inherits what it does not say itself; ``attributes`` are empty or its."""
        declared = attributes.get(_CHARACTER_SETS, {}).get("Value") or self.character_sets
        return replace(self, depth=self.depth + 1, attributes=attributes, character_sets=declared, creators={})


@dataclass(frozen=True, slots=True)
class _Element:
    """One element's header; its value starts at ``start``. ``length`` may be undefined."""

    tag: int
    vr: str
    start: int
    length: int

    @property
    def is_undefined(self) -> bool:
        return self.length == UNDEFINED


class Rewriter:
    """Plans one data set; used once.

    ``changes`` are top-level elements to be written instead of, or beside, the source's: their encoded bytes, empty to
    leave one out. Where ``skip_pixels_to`` is set, the source's Pixel Data end there and its change stands for them.
    With ``recoded`` all text becomes UTF-8, from these attributes of the whole data set, and says so; the change of the
    top level's Specific Character Set is the caller's.
    """

    def __init__(
        self,
        source: RangedSource,
        encoding: Encoding,
        changes: Mapping[int, Pieces],
        *,
        pixel_representation: int = 0,
        bits_allocated: int = 0,
        skip_pixels_to: int | None = None,
        is_implicit_vr: bool = False,
        recoded: Attributes | None = None,
    ) -> None:
        self._is_implicit_vr = is_implicit_vr
        self._is_recoding = recoded is not None
        self._source = source
        self._encoding = encoding
        self._changes = dict(sorted(changes.items()))
        declared = recoded.get(_CHARACTER_SETS, {}).get("Value", ()) if recoded else ()
        self._root = _Scope(0, pixel_representation, bits_allocated, recoded or {}, declared)
        self._skip_pixels_to = skip_pixels_to
        self._window = Window(source, source.size_bytes)
        self._pieces = Pieces()

    def plan(self, start: int) -> Pieces:
        """Return the data set from ``start`` to the end of the source; raise InvalidHeader if it is broken."""
        self._rewrite(start, self._source.size_bytes, self._detect(start), self._root)
        self._apply_changes_before(1 << 32)
        return self._pieces

    def _detect(self, start: int) -> Encoding:
        """Return the encoding that the first element has: some writers promise an explicit VR and forget it."""
        vr = self._window.read(start + 4, 2)
        if not self._encoding.is_implicit_vr and not _is_vr(vr) and self._encoding.is_little_endian:
            return _IMPLICIT
        return self._encoding

    def _rewrite(self, position: int, end: int, encoding: Encoding, scope: _Scope) -> int:
        """Plan elements up to ``end`` or, in an item, its delimiter; return the position behind."""
        if scope.depth > MAX_DEPTH:
            raise HeaderTooLarge
        while end - position >= 8:
            element = self._read_header(position, encoding, scope)
            if element.tag in (ITEM_END, SEQUENCE_END):
                return element.start
            if scope.depth == 0:
                self._apply_changes_before(element.tag)
                if element.tag in self._changes:
                    self._pieces.extend(self._changes.pop(element.tag))
                    position = self._skip(element, encoding)
                    continue
            position = self._rewrite_element(element, end, encoding, scope)
        return end

    def _apply_changes_before(self, tag: int) -> None:
        while self._changes and (first := next(iter(self._changes))) < tag:
            self._pieces.extend(self._changes.pop(first))

    def _skip(self, element: _Element, encoding: Encoding) -> int:
        if element.tag == PIXEL_DATA and element.is_undefined and self._skip_pixels_to is not None:
            end = self._skip_pixels_to
            has_delimiter = end + 8 <= self._source.size_bytes and self._read_tag(end, encoding) == SEQUENCE_END
            return end + 8 if has_delimiter else end
        if element.is_undefined:
            raise InvalidHeader
        return element.start + element.length

    def _rewrite_element(self, element: _Element, end: int, encoding: Encoding, scope: _Scope) -> int:
        if element.is_undefined and element.vr in ("OB", "OW"):
            return self._copy_fragments(element, encoding)
        if element.is_undefined or (element.vr == "SQ" and element.length):
            return self._rewrite_sequence(element, end, encoding, scope)
        value_end = element.start + element.length
        if value_end > end:
            raise InvalidHeader
        # A command set before the data set is no part of it, and group lengths would be wrong.
        if element.tag & 0xFFFF and element.tag > 0xFFFF:
            self._remember(element, encoding, scope)
            self._copy_value(element, encoding, scope)
        return value_end

    def _rewrite_sequence(self, element: _Element, end: int, encoding: Encoding, scope: _Scope) -> int:
        """Plan a sequence; one of unknown VR and undefined length is implicit (PS3.5 6.2.2)."""
        if element.vr == "UN":
            encoding = _IMPLICIT
        if not element.is_undefined:
            end = min(end, element.start + element.length)
        self._write_header(element.tag, "SQ", UNDEFINED)
        position = element.start
        items: Iterator[Attributes] = iter(scope.attributes.get(f"{element.tag:08X}", {}).get("Value", ()))
        while end - position >= 8:
            tag = self._read_tag(position, encoding)
            length = self._read_integer(position + 4, 4, encoding)
            position += 8
            if tag == SEQUENCE_END:
                break
            if tag != ITEM:
                raise InvalidHeader
            item_end = end if length == UNDEFINED else position + length
            if item_end > end:
                raise InvalidHeader
            self._pieces.write(encode_item_header(UNDEFINED))
            item = scope.open_item(next(items, {}) or {})
            position = self._rewrite(position, item_end, encoding, item)
            self._pieces.write(END_OF_ITEM)
        else:
            position = end
        self._pieces.write(END_OF_SEQUENCE)
        return position

    def _copy_fragments(self, element: _Element, encoding: Encoding) -> int:
        """Plan an encapsulated value that stays so: an icon's, which nothing asks to be decoded."""
        if self._is_implicit_vr:
            raise UnsupportedTransferSyntax("Implicit VR Little Endian has no place for compressed pixels.")
        position = element.start
        self._write_header(element.tag, "OB", UNDEFINED)
        while (tag := self._read_tag(position, encoding)) == ITEM:
            length = self._read_integer(position + 4, 4, encoding)
            self._pieces.write(encode_item_header(length))
            self._pieces.splice(self._source, position + 8, position + 8 + length)
            position += 8 + length
        if tag != SEQUENCE_END:
            raise InvalidHeader
        self._pieces.write(END_OF_SEQUENCE)
        return position + 8

    def _write_header(self, tag: int, vr: str, length: int) -> None:
        self._pieces.write(encode_header(tag, vr, length, is_implicit_vr=self._is_implicit_vr))

    def _copy_value(self, element: _Element, encoding: Encoding, scope: _Scope) -> None:
        if self._is_recoding and self._write_recoded(element, scope):
            return
        length = element.length
        padded = length + length % 2
        vr = _choose_vr(element, scope)
        self._write_header(element.tag, vr, padded)
        bits_allocated = scope.bits_allocated if element.tag == PIXEL_DATA else None
        word_bytes = 1 if encoding.is_little_endian else swapped_word_bytes(element.vr, bits_allocated)
        if length > _LITERAL_BYTES:
            self._pieces.splice(self._source, element.start, element.start + length, word_bytes)
        else:
            value = self._window.read(element.start, length)
            self._pieces.write(swap_words(value, word_bytes) if word_bytes > 1 else value)
        if length % 2:
            self._pieces.write(b" " if vr in PADDED_WITH_SPACE else b"\0")

    def _write_recoded(self, element: _Element, scope: _Scope) -> bool:
        """Write text as UTF-8, and what declares it, and return True; False for what is the same in both."""
        if element.tag == SPECIFIC_CHARACTER_SET:
            value = b"ISO_IR 192"
        elif element.vr not in IN_CHARACTER_SET or not element.length:
            return False
        else:
            if element.length > _MAX_RECODED_BYTES:
                raise UnsupportedTransferSyntax("A text is too long to be put into Unicode.")
            value = self._source.read_range(element.start, element.start + element.length)
            if value.isascii() and _ESCAPE not in value:
                return False
            value = self._recode(element, value, scope)
        padded = value + b" " * (len(value) % 2)
        is_too_long = len(padded) > MAX_SHORT_LENGTH and element.vr not in LONG_FORM
        self._write_header(element.tag, "UN" if is_too_long else element.vr, len(padded))
        self._pieces.write(padded)
        return True

    def _recode(self, element: _Element, value: bytes, scope: _Scope) -> bytes:
        """Return the text as the answers have it; one too long for them as its own declaration reads it."""
        found = scope.attributes.get(f"{element.tag:08X}", {})
        if "Value" in found and found.get("vr") == element.vr:
            return AttributeEncoder(UTF_8, lambda _: None).encode_text(element.vr, found["Value"])
        if _ESCAPE in value:
            raise UnsupportedTransferSyntax("A long text with escape sequences cannot be put into Unicode.")
        for encoding in (find_encoding(scope.character_sets), UTF_8):
            with suppress(UnicodeError):
                return value.decode(encoding).encode(UTF_8)
        return value.decode("latin-1").encode(UTF_8)

    def _remember(self, element: _Element, encoding: Encoding, scope: _Scope) -> None:
        group, number = element.tag >> 16, element.tag & 0xFFFF
        if group % 2 and 0x10 <= number <= 0xFF and element.length <= _LITERAL_BYTES:
            creator = self._window.read(element.start, element.length).decode("latin-1").strip(" \0")
            scope.creators[group << 8 | number] = creator
        elif element.tag == _PIXEL_REPRESENTATION and element.length == 2:
            scope.pixel_representation = self._read_integer(element.start, 2, encoding)
        elif element.tag == _BITS_ALLOCATED and element.length == 2:
            scope.bits_allocated = self._read_integer(element.start, 2, encoding)

    def _read_header(self, position: int, encoding: Encoding, scope: _Scope) -> _Element:
        tag = self._read_tag(position, encoding)
        vr = self._window.read(position + 4, 2)
        # Inside an explicit data set some writers leave out single VRs; pydicom reads those the same way.
        if tag >> 16 == 0xFFFE or encoding.is_implicit_vr or not _is_vr(vr):
            length = self._read_integer(position + 4, 4, encoding)
            looked_up = _look_up_vr(tag, length, scope)
            if looked_up == "SQ" and length not in (0, UNDEFINED):
                # A dictionary, a vendor's above all, is hearsay: a sequence is believed where an item begins.
                looked_up = "SQ" if self._read_tag(position + 8, encoding) == ITEM else "UN"
            return _Element(tag, looked_up, position + 8, length)
        name = vr.decode("ascii")
        if name in LONG_FORM:
            return _Element(tag, name, position + 12, self._read_integer(position + 8, 4, encoding))
        return _Element(tag, name, position + 8, self._read_integer(position + 6, 2, encoding))

    def _read_tag(self, position: int, encoding: Encoding) -> int:
        return self._read_integer(position, 2, encoding) << 16 | self._read_integer(position + 2, 2, encoding)

    def _read_integer(self, position: int, length_bytes: int, encoding: Encoding) -> int:
        data = self._window.read(position, length_bytes)
        if len(data) < length_bytes:
            raise InvalidHeader
        return int.from_bytes(data, "little" if encoding.is_little_endian else "big")


def encode_pixel_data(
    bits_allocated: int, source: RangedSource, length_bytes: int, *, is_implicit_vr: bool = False
) -> Pieces:
    """Return Pixel Data whose value is the first ``length_bytes`` of ``source`` (PS3.5 A.2: OW above eight bits)."""
    pieces = Pieces()
    padding = length_bytes % 2
    vr = "OW" if bits_allocated > 8 else "OB"
    pieces.write(encode_header(PIXEL_DATA, vr, length_bytes + padding, is_implicit_vr=is_implicit_vr))
    pieces.splice(source, 0, length_bytes)
    pieces.write(b"\0" * padding)
    return pieces


def swapped_word_bytes(vr: str, bits_allocated: int | None = None) -> int:
    """Return the size of the words that big endian turned around in a value of this VR (PS3.5 7.3); 1 for bytes.

    Native Pixel Data come with their ``bits_allocated``: a sample wider than eight bits is one number whatever VR it
    claims, as pydicom reads it; narrower ones lie in the words of OW (PS3.5 8.1.2).
    """
    if bits_allocated is not None and bits_allocated > 8:
        return bits_allocated // 8
    return _WORD_BYTES.get(vr, 1)


def _choose_vr(element: _Element, scope: _Scope) -> str:
    """Return the VR that the value fits: one that is too long, or no whole number of units, can only be UN."""
    vr = element.vr
    if element.tag == PIXEL_DATA and vr in ("OB", "OW"):
        return "OW" if scope.bits_allocated > 8 else vr
    if vr not in LONG_FORM and element.length > MAX_SHORT_LENGTH:
        return "UN"
    return "UN" if element.length % _UNIT_BYTES.get(vr, 1) else vr


def _look_up_vr(tag: int, length: int, scope: _Scope) -> str:
    """Return the VR of an implicit element, UN if nobody knows; ambiguous ones as the image resolves them."""
    if tag >> 16 & 1:
        vr = _look_up_private_vr(tag, scope)
    elif not tag & 0xFFFF:
        vr = "UL"
    else:
        try:
            vr = dictionary_VR(tag)
        except KeyError:
            vr = "UN"
    if vr == "US or SS":
        vr = "SS" if scope.pixel_representation == 1 else "US"
    elif vr == "US or OW":
        vr = "US" if length == 2 else "OW"
    elif tag == PIXEL_DATA and length == UNDEFINED:
        vr = "OB"
    elif " or " in vr:
        vr = "OW"
    return vr if len(vr) == 2 else "UN"


def _look_up_private_vr(tag: int, scope: _Scope) -> str:
    number = tag & 0xFFFF
    if 0x10 <= number <= 0xFF:
        return "LO"
    creator = scope.creators.get(tag >> 16 << 8 | number >> 8)
    if creator is None:
        return "UN"
    try:
        return private_dictionary_VR(tag, creator)
    except KeyError:
        return "UN"


def _is_vr(vr: bytes) -> bool:
    return len(vr) == 2 and vr.isalpha() and vr.isupper()
