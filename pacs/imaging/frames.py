"""Where each frame's bytes lie in an instance's file (PS3.5 A.4, PS3.3 C.7.6.3), planned once at ingest.

Offset tables are believed only where every offset hits a fragment: devices write wrong ones, and a wrong frame is worse
than a slow one. What cannot be told apart gives a layout without frames, never a guess that reads past the pixel data.
"""

import base64
import binascii
import struct
import zlib
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from pacs.imaging import syntaxes
from pacs.imaging.fragments import MAX_FRAGMENTS, ByteSource, Fragments, scan_fragments
from pacs.model import Attributes, ByteRange, FrameLayout, Header, PixelElement
from pacs.tags import values_of

_EXTENDED_OFFSETS, _EXTENDED_LENGTHS = "7FE00001", "7FE00002"
_TAIL_BYTES = 10
_END_MARKER = b"\xff\xd9"
# JPEG and JPEG-LS, JPEG 2000 codestream, JP2 signature box, JPEG XL codestream and container.
_START_MARKERS = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  ", b"\xff\x0a", b"\0\0\0\x0cJXL ")
_SUBSAMPLED_BITS = {"YBR_FULL_422": 16, "YBR_PARTIAL_422": 16, "YBR_PARTIAL_420": 12}
_FLOAT_BITS = {"7FE00008": 32, "7FE00009": 64}

Ranges = tuple[ByteRange, ...]


def plan_frames(header: Header, source: ByteSource) -> FrameLayout:
    """Return the layout of the instance's frames; ``source`` is the file that ``header`` was parsed from.

    Empty if there are no pixels, if no byte range exists because the data set is deflated, or if the data set does not
    say enough. Fewer frames than Number of Frames are planned if fewer are there.
    """
    if header.pixels is None or header.is_deflated:
        return FrameLayout()
    if header.pixels.is_encapsulated:
        return FrameLayout(_plan_encapsulated(header, header.pixels, source))
    return _plan_native(header.attributes, header.pixels)


def _plan_native(attributes: Attributes, pixels: PixelElement) -> FrameLayout:
    frame_bits = _native_frame_bits(attributes, pixels)
    if not frame_bits:
        return FrameLayout()
    count = min(_number_of_frames(attributes), pixels.range.length_bytes * 8 // frame_bits)
    if count > MAX_FRAGMENTS:
        return FrameLayout()
    is_packed = frame_bits % 8 != 0 and count > 1
    start = pixels.range.start
    frames = tuple(
        (ByteRange(start + index * frame_bits // 8, start + -(-(index + 1) * frame_bits // 8)),)
        for index in range(count)
    )
    return FrameLayout(frames, frame_bits if is_packed else 0)


def _native_frame_bits(attributes: Attributes, pixels: PixelElement) -> int:
    """Return the bits of one frame, 0 if the data set does not say."""
    rows, columns = _integer(attributes, "Rows"), _integer(attributes, "Columns")
    samples = _integer(attributes, "SamplesPerPixel") or 1
    allocated = _FLOAT_BITS.get(pixels.tag) or _integer(attributes, "BitsAllocated")
    full_bits = rows * columns * samples * allocated
    interpretation = values_of(attributes, "PhotometricInterpretation")[:1]
    subsampled = _SUBSAMPLED_BITS.get(str(interpretation[0]).strip()) if interpretation and samples == 3 else None
    if subsampled is None or allocated != 8:
        return full_bits
    # Some writers say 422 and give every pixel its chroma; the length of the value tells.
    if pixels.range.length_bytes * 8 >= full_bits * _number_of_frames(attributes):
        return full_bits
    return rows * columns * subsampled


def _plan_encapsulated(header: Header, pixels: PixelElement, source: ByteSource) -> tuple[Ranges, ...]:
    fragments = scan_fragments(source, pixels.range.start, pixels.range.end)
    ranges = [ByteRange(start, end) for start, end in zip(fragments.starts[1:], fragments.ends[1:], strict=True)]
    if not ranges:
        return ()
    count = _number_of_frames(header.attributes)
    if count == 1 or syntaxes.lookup(header.transfer_syntax_uid).is_video:
        return (tuple(ranges),)
    return (
        _by_extended_offset_table(header, source, fragments, ranges)
        or _by_basic_offset_table(source, fragments, ranges, count)
        or _without_table(source, ranges, count, is_rle=header.transfer_syntax_uid == syntaxes.RLE_LOSSLESS)
    )


def _by_extended_offset_table(
    header: Header, source: ByteSource, fragments: Fragments, ranges: Sequence[ByteRange]
) -> tuple[Ranges, ...]:
    """Return one fragment a frame as (7FE0,0001) and (7FE0,0002) say (PS3.3 C.7.6.3.1.8); empty if they are wrong."""
    offsets = _read_words(header, source, _EXTENDED_OFFSETS)
    lengths = _read_words(header, source, _EXTENDED_LENGTHS)
    if not offsets or len(offsets) != len(lengths):
        return ()
    first = fragments.ends[0]
    by_offset = {fragment.start - 8 - first: fragment for fragment in ranges}
    frames: list[Ranges] = []
    for offset, length in zip(offsets, lengths, strict=True):
        fragment = by_offset.get(offset)
        # The length may leave out the byte that pads a fragment to even.
        if fragment is None or not fragment.length_bytes - 1 <= length <= fragment.length_bytes:
            return ()
        frames.append((ByteRange(fragment.start, fragment.start + length),))
    return tuple(frames)


def _by_basic_offset_table(
    source: ByteSource, fragments: Fragments, ranges: Sequence[ByteRange], count: int
) -> tuple[Ranges, ...]:
    """Return the fragments from each offset to the next; empty if the table is empty or wrong."""
    start, end = fragments.starts[0], fragments.ends[0]
    if end == start or (end - start) % 4 or end - start > 4 * MAX_FRAGMENTS:
        return ()
    offsets = [offset for (offset,) in struct.iter_unpack("<L", source.read_range(start, end))]
    index_of = {fragment.start - 8 - end: index for index, fragment in enumerate(ranges)}
    firsts = [index_of.get(offset, -1) for offset in offsets]
    is_right = firsts[0] == 0 and all(left < right for left, right in pairwise(firsts))
    # A table for another number of frames is wrong if the fragments alone fit better.
    if not is_right or (len(firsts) != count and len(ranges) == count):
        return ()
    return tuple(tuple(ranges[first:last]) for first, last in pairwise((*firsts, len(ranges))))


def _without_table(source: ByteSource, ranges: Sequence[ByteRange], count: int, *, is_rle: bool) -> tuple[Ranges, ...]:
    """Return the frames by the number of fragments and by the codestreams' own markers."""
    if len(ranges) <= count or is_rle:
        # An RLE frame is always one fragment (PS3.5 A.4.2).
        return tuple((fragment,) for fragment in ranges)
    by_end = _split_after(ranges, _ends_codestream(source, ranges))
    if len(by_end) == count:
        return by_end
    by_start = _split_before(ranges, _starts_codestream(source, ranges))
    return by_start if len(by_start) == count else by_end


def _ends_codestream(source: ByteSource, ranges: Iterable[ByteRange]) -> list[bool]:
    return [
        _END_MARKER in source.read_range(max(fragment.start, fragment.end - _TAIL_BYTES), fragment.end)
        for fragment in ranges
    ]


def _starts_codestream(source: ByteSource, ranges: Iterable[ByteRange]) -> list[bool]:
    return [
        source.read_range(fragment.start, min(fragment.start + 8, fragment.end)).startswith(_START_MARKERS)
        for fragment in ranges
    ]


def _split_after(ranges: Sequence[ByteRange], is_last: Sequence[bool]) -> tuple[Ranges, ...]:
    frames: list[list[ByteRange]] = [[]]
    for fragment, ends in zip(ranges, is_last, strict=True):
        frames[-1].append(fragment)
        if ends:
            frames.append([])
    return tuple(tuple(frame) for frame in frames if frame)


def _split_before(ranges: Sequence[ByteRange], is_first: Sequence[bool]) -> tuple[Ranges, ...]:
    frames: list[list[ByteRange]] = []
    for fragment, begins in zip(ranges, is_first, strict=True):
        if begins or not frames:
            frames.append([])
        frames[-1].append(fragment)
    return tuple(tuple(frame) for frame in frames)


def _read_words(header: Header, source: ByteSource, key: str) -> list[int]:
    """Return the 64 bit offsets of an OV element, wherever its value is; empty if there is none."""
    element = header.attributes.get(key, {})
    value = b""
    if "InlineBinary" in element:
        try:
            value = base64.b64decode(element["InlineBinary"], validate=True)
        except binascii.Error:
            return []
    for bulk in header.bulk:
        if bulk.path == key and bulk.range.length_bytes <= 8 * MAX_FRAGMENTS:
            value = source.read_range(bulk.range.start, bulk.range.end)
    return [word for (word,) in struct.iter_unpack("<Q", value[: len(value) // 8 * 8])]


def _number_of_frames(attributes: Attributes) -> int:
    """Return Number of Frames (0028,0008); absent, empty or senseless it is 1."""
    return max(_integer(attributes, "NumberOfFrames"), 1)


def _integer(attributes: Attributes, keyword: str) -> int:
    value: Any = next(iter(values_of(attributes, keyword)), 0)
    return value if isinstance(value, int) and value > 0 else 0


# A stored layout: a kind, then varints. A regular one needs four of them, however many frames it has; any other lists
# per frame its number of ranges and per range the gap to the range before and its length, compressed together.
_EMPTY, _REGULAR, _LISTED = b"\0", b"\1", b"\2"


def encode_layout(layout: FrameLayout) -> bytes:
    """Return a layout as few bytes, for ``decode_layout``; a native one of any number of frames is under 32."""
    if not layout.frames:
        return _EMPTY
    regular = _as_regular(layout)
    if regular is not None:
        return _REGULAR + _encode_varints(regular)
    numbers = [layout.bit_offset_step, len(layout.frames)]
    previous = 0
    for frame in layout.frames:
        numbers.append(len(frame))
        for part in frame:
            gap = part.start - previous
            numbers += (gap << 1 if gap >= 0 else -gap << 1 | 1, part.length_bytes)
            previous = part.end
    return _LISTED + zlib.compress(_encode_varints(numbers))


def decode_layout(encoded: bytes) -> FrameLayout:
    """Return the layout that ``encode_layout`` encoded; raise ValueError for anything else."""
    kind, body = encoded[:1], encoded[1:]
    if kind == _EMPTY:
        return FrameLayout()
    try:
        if kind == _REGULAR:
            return _from_regular(*_decode_varints(body))
        if kind == _LISTED:
            return _from_list(_decode_varints(zlib.decompress(body)))
    except (IndexError, TypeError, zlib.error) as error:
        raise ValueError("This is no frame layout.") from error
    raise ValueError("This is no frame layout.")


def _as_regular(layout: FrameLayout) -> tuple[int, int, int, int] | None:
    """Return start, bits of a frame, number of frames and bit offset step, if these say all."""
    if not layout.frames[0] or not layout.frames[-1]:
        return None
    first = layout.frames[0][0]
    frame_bits = layout.bit_offset_step or first.length_bytes * 8
    count = len(layout.frames)
    if layout.frames[-1][-1].end != first.start + -(-count * frame_bits // 8):
        return None
    regular = (first.start, frame_bits, count, layout.bit_offset_step)
    return regular if _from_regular(*regular) == layout else None


def _from_regular(start: int, frame_bits: int, count: int, bit_offset_step: int) -> FrameLayout:
    frames = tuple(
        (ByteRange(start + index * frame_bits // 8, start + -(-(index + 1) * frame_bits // 8)),)
        for index in range(count)
    )
    return FrameLayout(frames, bit_offset_step)


def _from_list(numbers: list[int]) -> FrameLayout:
    step, count = numbers[:2]
    frames: list[Ranges] = []
    at, previous = 2, 0
    for _ in range(count):
        frame: list[ByteRange] = []
        for part in range(numbers[at]):
            zigzag, length = numbers[at + 1 + 2 * part], numbers[at + 2 + 2 * part]
            start = previous + (-(zigzag >> 1) if zigzag & 1 else zigzag >> 1)
            previous = start + length
            frame.append(ByteRange(start, previous))
        at += 1 + 2 * len(frame)
        frames.append(tuple(frame))
    return FrameLayout(tuple(frames), step)


def _encode_varints(numbers: Iterable[int]) -> bytes:
    encoded = bytearray()
    for number in numbers:
        rest = number
        while rest > 0x7F:
            encoded.append(rest & 0x7F | 0x80)
            rest >>= 7
        encoded.append(rest)
    return bytes(encoded)


def _decode_varints(encoded: bytes) -> list[int]:
    numbers: list[int] = []
    number = shift = 0
    for byte in encoded:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            numbers.append(number)
            number = shift = 0
    return numbers
