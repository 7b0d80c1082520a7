"""A DICOM file taken apart into elements, strictly: what is not understood to its last byte is not passed on.

Values stay bytes, little endian whatever the file was; sequences become items, also those in elements of VR UN
(PS3.5 6.2.2). The pixel data stay where they are. Reading stops at limits, so that no file can exhaust the memory.
"""

import io
import struct
import tempfile
import zlib
from array import array
from dataclasses import dataclass, field
from functools import lru_cache
from typing import BinaryIO

from pydicom import uid
from pydicom.datadict import dictionary_has_tag, dictionary_VR

from pacs.deid.reasons import Quarantine, Reason

UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
PIXEL_DATA = 0x7FE00010
PIXEL_TAGS = frozenset({PIXEL_DATA, 0x7FE00008, 0x7FE00009})
PIXEL_REPRESENTATION = 0x00280103

MAX_HEADER_BYTES = 64 << 20
MAX_INFLATED_BYTES = 1 << 30
MAX_ELEMENTS = 1_000_000
MAX_DEPTH = 24

LONG_FORM = frozenset(["OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"])
"""VRs with a reserved field and a length of 32 bits (PS3.5 Table 7.1-1)."""
_SHORT_FORM = frozenset(
    "AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split()  # noqa: SIM905 - one line
)
_LONG = {vr.encode(): vr for vr in LONG_FORM}
_SHORT = {vr.encode(): vr for vr in _SHORT_FORM}
_WIDTHS = {"US": 2, "SS": 2, "OW": 2, "AT": 2, "UL": 4, "SL": 4, "FL": 4, "OF": 4, "OL": 4}
_WIDTHS |= {"FD": 8, "OD": 8, "OV": 8, "SV": 8, "UV": 8}
_TYPE_CODES = {2: "H", 4: "I", 8: "Q"}
_CHUNK = 1 << 20


class Element:
    """One attribute: ``value`` is its bytes, little endian; ``items`` are those of a sequence and None elsewhere."""

    __slots__ = ("items", "tag", "value", "vr")

    def __init__(self, tag: int, vr: str, value: bytes, items: "list[Elements] | None" = None) -> None:
        self.tag = tag
        self.vr = vr
        self.value = value
        self.items = items


Elements = dict[int, Element]


@dataclass(frozen=True, slots=True)
class PixelSource:
    """Where the pixel data lie: the whole value, with all items and delimiters if it is encapsulated.

    ``fragments`` are offset and length of each fragment's bytes, without the Basic Offset Table, which is
    ``offset_table``.
    """

    tag: int
    vr: str
    offset: int
    length: int
    is_encapsulated: bool
    offset_table: bytes = b""
    fragments: tuple[tuple[int, int], ...] = ()


@dataclass(slots=True)
class ParsedFile:
    """A file taken apart. ``stream`` is where ``pixels`` lie: the source, or what was inflated of it."""

    transfer_syntax_uid: str
    elements: Elements
    stream: BinaryIO
    pixels: PixelSource | None = None
    is_big_endian: bool = False
    is_deflated: bool = False
    owned: list[BinaryIO] = field(default_factory=list)

    def close(self) -> None:
        """Close what was opened to read the file; the source stays open."""
        for stream in self.owned:
            stream.close()


def parse_file(source: BinaryIO) -> ParsedFile:
    """Return a file taken apart; raise Quarantine if it is no DICOM file, or larger than is taken apart."""
    try:
        return _parse_file(source)
    except (struct.error, ValueError, zlib.error, UnicodeError) as error:
        raise Quarantine([Reason.PARSE_ERROR]) from error


def _parse_file(source: BinaryIO) -> ParsedFile:
    size = source.seek(0, io.SEEK_END)
    source.seek(0)
    if source.read(132)[128:] != b"DICM":
        raise Quarantine([Reason.PARSE_ERROR])
    transfer_syntax = _read_transfer_syntax(source, size)
    if transfer_syntax == uid.DeflatedExplicitVRLittleEndian:
        inflated = _inflate(source)
        size = inflated.seek(0, io.SEEK_END)
        inflated.seek(0)
        parsed = ParsedFile(transfer_syntax, {}, inflated, is_deflated=True, owned=[inflated])
    else:
        parsed = ParsedFile(transfer_syntax, {}, source, is_big_endian=transfer_syntax == uid.ExplicitVRBigEndian)
    reader = _Reader(
        parsed.stream,
        size,
        is_implicit=transfer_syntax == uid.ImplicitVRLittleEndian,
        is_big_endian=parsed.is_big_endian,
        budget=_Budget(),
        position=parsed.stream.tell(),
    )
    try:
        parsed.elements = reader.read_elements(size, 0, is_root=True)
    except BaseException:
        parsed.close()
        raise
    parsed.pixels = reader.pixels
    return parsed


def _read_transfer_syntax(source: BinaryIO, size: int) -> str:
    reader = _Reader(source, size, is_implicit=False, is_big_endian=False, budget=_Budget(), position=132)
    found = ""
    while True:
        start = reader.position
        head = source.read(2)
        source.seek(start)
        if head != b"\x02\x00":
            break
        element = reader.read_element(0, is_root=False)
        if element.tag == 0x00020010:
            found = element.value.rstrip(b" \0").decode("ascii")
    if not found:
        raise Quarantine([Reason.PARSE_ERROR])
    return found


def _inflate(source: BinaryIO) -> BinaryIO:
    """Return what is deflated in the rest of a file (PS3.5 A.5), in a temporary file without a name if it is large."""
    inflated: BinaryIO = tempfile.SpooledTemporaryFile(max_size=16 << 20)  # type: ignore[assignment]  # noqa: SIM115
    try:
        _inflate_into(inflated, source)
    except BaseException:
        inflated.close()
        raise
    return inflated


def _inflate_into(inflated: BinaryIO, source: BinaryIO) -> None:
    inflater = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
    total = 0
    while not inflater.eof and (chunk := source.read(_CHUNK)):
        while chunk and not inflater.eof:
            plain = inflater.decompress(chunk, _CHUNK)
            chunk = inflater.unconsumed_tail
            total += len(plain)
            if total > MAX_INFLATED_BYTES:
                raise Quarantine([Reason.TOO_LARGE])
            inflated.write(plain)
    if not inflater.eof:
        raise Quarantine([Reason.PARSE_ERROR])


@dataclass(slots=True)
class _Budget:
    """What may still be taken into memory of one file."""

    header_bytes: int = MAX_HEADER_BYTES
    elements: int = MAX_ELEMENTS

    def spend(self, length: int) -> None:
        self.header_bytes -= length
        self.elements -= 1
        if self.header_bytes < 0 or self.elements < 0:
            raise Quarantine([Reason.TOO_LARGE])


class _Reader:
    """Reads elements from a stream on, which stands at ``position`` whenever a method is called."""

    def __init__(
        self,
        stream: BinaryIO,
        size: int,
        *,
        is_implicit: bool,
        is_big_endian: bool,
        budget: _Budget,
        position: int = 0,
    ) -> None:
        self._read = stream.read
        self._stream = stream
        self._size = size
        self._is_implicit = is_implicit
        self._is_big_endian = is_big_endian
        self._budget = budget
        self._short = struct.Struct(">HH2sH" if is_big_endian else "<HH2sH")
        self._plain = struct.Struct(">HHL" if is_big_endian else "<HHL")
        self._word = struct.Struct(">L" if is_big_endian else "<L")
        self.position = position
        self.pixels: PixelSource | None = None

    def read_elements(self, end: int | None, depth: int, *, is_root: bool = False) -> Elements:
        """Return the elements up to ``end``, or up to an item delimiter if that is None."""
        if depth > MAX_DEPTH:
            raise Quarantine([Reason.TOO_LARGE])
        elements: Elements = {}
        while end is None or self.position < end:
            element = self.read_element(depth, is_root=is_root)
            if element.tag == ITEM_END and end is None:
                return elements
            if element.tag in elements or element.tag >> 16 == 0xFFFE:
                raise Quarantine([Reason.PARSE_ERROR])
            if not (is_root and element.tag in PIXEL_TAGS):
                elements[element.tag] = element
        if self.position != end:
            raise Quarantine([Reason.PARSE_ERROR])
        return elements

    def read_element(self, depth: int, *, is_root: bool) -> Element:
        """Return the element that the stream stands at; pixel data of the root are passed over and noted."""
        tag, vr, length = self._read_header()
        if is_root and tag in PIXEL_TAGS:
            self._note_pixels(tag, vr, length)
            return Element(tag, vr, b"")
        if vr == "UN" and length == UNDEFINED:
            return Element(tag, "SQ", b"", self._implicit(self._size).read_items_of(self, depth))
        if vr == "SQ":
            items = self.read_items(None if length == UNDEFINED else self.position + self._checked(length), depth)
            return Element(tag, "SQ", b"", items)
        if length == UNDEFINED:
            raise Quarantine([Reason.PARSE_ERROR])
        value = self._take(length)
        if vr == "UN":
            return self._known(tag, value, depth)
        width = _WIDTHS.get(vr)
        if width and self._is_big_endian:
            value = swapped(value, width)
        return Element(tag, vr, value)

    def read_items(self, end: int | None, depth: int) -> list[Elements]:
        """Return the items up to ``end``, or up to a sequence delimiter if that is None."""
        items: list[Elements] = []
        while end is None or self.position < end:
            group, number, length = self._plain.unpack(self._read_exactly(8))
            tag = group << 16 | number
            if tag == SEQUENCE_END and end is None:
                return items
            if tag != ITEM:
                raise Quarantine([Reason.PARSE_ERROR])
            items.append(
                self.read_elements(None if length == UNDEFINED else self.position + self._checked(length), depth + 1)
            )
        if self.position != end:
            raise Quarantine([Reason.PARSE_ERROR])
        return items

    def read_items_of(self, other: "_Reader", depth: int) -> list[Elements]:
        """Return the items where another reader of the same stream stands, and leave that one behind them."""
        self.position = other.position
        items = self.read_items(None, depth)
        other.position = self.position
        return items

    def _implicit(self, size: int) -> "_Reader":
        return _Reader(self._stream, size, is_implicit=True, is_big_endian=False, budget=self._budget)

    def _known(self, tag: int, value: bytes, depth: int) -> Element:
        """Return an element of VR UN as what the dictionary says it is; its bytes are little endian (PS3.5 6.2.2)."""
        vr = implicit_vr(tag)
        if vr == "SQ":
            reader = _Reader(io.BytesIO(value), len(value), is_implicit=True, is_big_endian=False, budget=self._budget)
            try:
                return Element(tag, vr, b"", reader.read_items(len(value), depth))
            except (Quarantine, struct.error):
                # Whatever it is, it is no sequence, and goes as everything that nobody knows.
                return Element(tag, "UN", value)
        return Element(tag, vr, value)

    def _read_header(self) -> tuple[int, str, int]:
        head = self._read_exactly(8)
        if not self._is_implicit:
            group, number, kind, length = self._short.unpack(head)
            if group != 0xFFFE:
                vr = _SHORT.get(kind)
                if vr is None:
                    vr = _LONG.get(kind)
                    if vr is None:
                        raise Quarantine([Reason.PARSE_ERROR])
                    (length,) = self._word.unpack(self._read_exactly(4))
                self._budget.spend(0)
                return group << 16 | number, vr, length
        group, number, length = self._plain.unpack(head)
        tag = group << 16 | number
        self._budget.spend(0)
        return tag, implicit_vr(tag), length

    def _note_pixels(self, tag: int, vr: str, length: int) -> None:
        if self.pixels is not None:
            raise Quarantine([Reason.PARSE_ERROR])
        offset = self.position
        if length != UNDEFINED:
            self._checked(length)
            self._skip_to(offset + length)
            self.pixels = PixelSource(tag, vr, offset, length, is_encapsulated=False)
            return
        table: bytes | None = None
        fragments = []
        while True:
            group, number, size = self._plain.unpack(self._read_exactly(8))
            if group << 16 | number == SEQUENCE_END:
                break
            if group << 16 | number != ITEM:
                raise Quarantine([Reason.PARSE_ERROR])
            self._checked(size)
            if table is None:
                table = self._take(size)
            else:
                fragments.append((self.position, size))
                self._budget.spend(0)
                self._skip_to(self.position + size)
        self.pixels = PixelSource(
            tag,
            vr,
            offset,
            self.position - offset,
            is_encapsulated=True,
            offset_table=table or b"",
            fragments=tuple(fragments),
        )

    def _skip_to(self, position: int) -> None:
        self._stream.seek(position)
        self.position = position

    def _checked(self, length: int) -> int:
        if length > self._size - self.position:
            raise Quarantine([Reason.PARSE_ERROR])
        return length

    def _take(self, length: int) -> bytes:
        self._checked(length)
        self._budget.spend(length)
        return self._read_exactly(length)

    def _read_exactly(self, length: int) -> bytes:
        data = self._read(length)
        if len(data) != length:
            raise Quarantine([Reason.PARSE_ERROR])
        self.position += length
        return data


@lru_cache(maxsize=8192)
def implicit_vr(tag: int) -> str:
    """Return the VR of the dictionary, the plainest one where it gives several (PS3.5 Annex A.1); UN if there is none.

    ``US or SS`` is left as US: the numbers are copied as they are.
    """
    if tag & 0xFFFF == 0:
        return "UL"
    if tag >> 16 & 1:
        return "LO" if 0x10 <= tag & 0xFFFF <= 0xFF else "UN"
    if not dictionary_has_tag(tag) and not _is_repeating(tag):
        return "UN"
    vr = dictionary_VR(tag)
    return {"US or SS": "US", "OB or OW": "OW", "US or SS or OW": "OW", "US or OW": "OW"}.get(vr, vr)


def _is_repeating(tag: int) -> bool:
    try:
        dictionary_VR(tag)
    except KeyError:
        return False
    return True


def swapped(value: bytes, width: int) -> bytes:
    """Return numbers of ``width`` bytes in the other byte order."""
    numbers = array(_TYPE_CODES[width])
    whole = len(value) // width * width
    numbers.frombytes(value[:whole])
    numbers.byteswap()
    return numbers.tobytes() + value[whole:]
