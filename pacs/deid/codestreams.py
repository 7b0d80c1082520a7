"""Compressed frames whose comments are blanked where they stand: no length changes and no pixel does.

Encoders, and whoever converted an image, write into the comment and application segments of JPEG (T.81 B.2.4), JPEG-LS
and JPEG 2000 (T.800 A.9): names of products as a rule, and of patients now and then.
"""

import re
import struct
from collections.abc import Iterator
from itertools import pairwise
from typing import BinaryIO

from pacs.deid.reading import PixelSource
from pacs.deid.reasons import Quarantine, Reason

Span = tuple[int, int]
"""Offset and length of bytes."""

_SOI, _SOC = b"\xff\xd8", b"\xff\x4f"
_BOXES = (b"\x00\x00\x00\x0cjP  ", b"\x00\x00\x00\x0cJXL ")
_COM, _SOS, _EOI = 0xFE, 0xDA, 0xD9
_APPLICATIONS = range(0xE0, 0xF0)
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})
_KEPT = {0xE0: {b"JFIF\0": 14}, 0xE8: {b"mrfx": 14, b"SPIFF\0": 30, b"\0\0\0\1": 6}, 0xEE: {b"Adobe": 12}}
"""Segments that decoders need: what they begin with, and how long they are with the numbers behind it."""
_ENCODER = re.compile(
    rb"(?:Created by |Creator: )?(?:GDCM/)?(?:OpenJPEG|JasPer|Kakadu|OpenJPH)"
    rb"(?: [Vv]ersion| Ver)?[ -]v?[0-9]{1,2}(?:\.[0-9]{1,3}){1,3}\.?\0?"
)
"""What encoders call themselves: their comments stay, so that most compressed frames stay bit for bit."""
_J2K_COM, _J2K_SOT, _J2K_SOD, _J2K_EOC = 0xFF64, 0xFF90, 0xFF93, 0xFFD9
_MAX_FRAME_BYTES = 1 << 30


def find_text(stream: BinaryIO, pixels: PixelSource) -> list[Span]:
    """Return where in the stream text may stand within the frames; raise Quarantine if a frame hides it.

    What begins like no codestream with text in it (RLE, deflated) holds samples alone.
    """
    if not _is_offset_table(pixels):
        raise Quarantine([Reason.CODESTREAM])
    found: list[Span] = []
    for group in _frames(stream, pixels):
        if sum(length for _, length in group) > _MAX_FRAME_BYTES:
            raise Quarantine([Reason.TOO_LARGE])
        frame = b"".join(_read(stream, fragment) for fragment in group)
        if frame.startswith(_BOXES):
            raise Quarantine([Reason.CODESTREAM])
        try:
            spans = list(_text_of(frame))
        except IndexError as error:
            raise Quarantine([Reason.CODESTREAM]) from error
        for start, length in spans:
            if _ENCODER.fullmatch(frame, start, start + length) is None:
                found.extend(_located((start, length), group))
    return found


def _is_offset_table(pixels: PixelSource) -> bool:
    """Whether what stands for a Basic Offset Table (PS3.5 A.4) is one: offsets that rise from 0 within the pixels."""
    table = pixels.offset_table
    offsets = struct.unpack(f"<{len(table) // 4}L", table[: len(table) // 4 * 4])
    rising = all(one < other for one, other in pairwise(offsets))
    return len(table) % 4 == 0 and (not offsets or (offsets[0] == 0 and rising and offsets[-1] < pixels.length))


def _frames(stream: BinaryIO, pixels: PixelSource) -> Iterator[list[Span]]:
    """Yield the fragments of each codestream: a new one begins with its first marker."""
    group: list[Span] = []
    for offset, length in pixels.fragments:
        stream.seek(offset)
        if group and stream.read(2) in (_SOI, _SOC):
            yield group
            group = []
        group.append((offset, length))
    if group:
        yield group


def _read(stream: BinaryIO, fragment: Span) -> bytes:
    stream.seek(fragment[0])
    return stream.read(fragment[1])


def _text_of(frame: bytes) -> Iterator[Span]:
    if frame.startswith(_SOI):
        yield from _text_of_jpeg(frame)
    elif frame.startswith(_SOC):
        yield from _text_of_jpeg_2000(frame)


def _text_of_jpeg(frame: bytes) -> Iterator[Span]:
    place = 2
    while place < len(frame):
        if frame[place] != 0xFF:
            raise IndexError
        marker = frame[place + 1]
        if marker == 0xFF:
            place += 1
            continue
        if marker == _EOI:
            break
        if marker in _STANDALONE:
            place += 2
            continue
        length = _length(frame, place + 2)
        if marker == _COM or marker in _APPLICATIONS:
            yield from _segment(frame, marker, place + 4, length - 2)
        place += 2 + length
        if marker == _SOS:
            place = _end_of_scan(frame, place)
    yield from _behind(frame, place + 2)


def _end_of_scan(frame: bytes, place: int) -> int:
    """Return where the next marker stands behind a scan's entropy-coded bytes."""
    while True:
        place = frame.find(b"\xff", place)
        if place < 0 or place + 1 >= len(frame):
            return len(frame)
        # JPEG stuffs a zero byte, JPEG-LS a zero bit: either way what follows is below a marker.
        if frame[place + 1] >= 0x80 and frame[place + 1] not in _STANDALONE and frame[place + 1] != 0xFF:
            return place
        place += 1 if frame[place + 1] == 0xFF else 2


def _segment(frame: bytes, marker: int, start: int, length: int) -> Iterator[Span]:
    kept = 0
    for name, size in _KEPT.get(marker, {}).items():
        if frame.startswith(name, start):
            kept = size
    # What follows the numbers of JFIF is a thumbnail.
    if length > kept:
        yield start + kept, length - kept


def _text_of_jpeg_2000(frame: bytes) -> Iterator[Span]:
    place = 2
    tile_start = 0
    while True:
        marker = frame[place] << 8 | frame[place + 1]
        if marker == _J2K_EOC:
            break
        if marker == _J2K_SOD:
            tile_length = int.from_bytes(frame[tile_start + 6 : tile_start + 10], "big")
            if not tile_length:
                # The last tile-part goes on to the end.
                return
            place = max(tile_start + tile_length, place + 2)
            if place >= len(frame):
                return
            continue
        length = _length(frame, place + 2)
        if marker == _J2K_SOT:
            tile_start = place
        elif marker == _J2K_COM and length > 4:
            yield place + 6, length - 4
        place += 2 + length
    yield from _behind(frame, place + 2)


def _behind(frame: bytes, end: int) -> Iterator[Span]:
    """Yield what follows the end of the codestream, where nothing is read any more, unless it is padding."""
    if frame[end:].strip(b"\0\xff"):
        yield end, len(frame) - end


def _length(frame: bytes, place: int) -> int:
    length = frame[place] << 8 | frame[place + 1]
    if length < 2 or place + length > len(frame):
        raise IndexError
    return length


def _located(span: Span, group: list[Span]) -> Iterator[Span]:
    """Yield where a span of a frame lies in the stream, in as many pieces as fragments that it touches."""
    start, length = span
    passed = 0
    for offset, size in group:
        first, last = max(start, passed), min(start + length, passed + size)
        if first < last:
            yield offset + first - passed, last - first
        passed += size
