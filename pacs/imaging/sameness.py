"""Whether two encodings of one instance hold the same: every value of the header, every stored bit of every frame."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace

from pacs.imaging.codecs import DecodedFrame, PixelDescription
from pacs.imaging.opened import OpenInstance
from pacs.imaging.reading import iter_frames, iter_native_frames
from pacs.imaging.rewriting import PIXEL_DATA
from pacs.imaging.transcode import FrameDecoder
from pacs.model import Attributes, BulkValue, PixelElement

_CODING = frozenset({"00280004", "00280006", "7FE00001", "7FE00002", "7FE00003", "7FE00010"})
"""Photometric Interpretation, Planar Configuration and what says where frames begin: a syntax's own affair (PS3.5 8.2),
and looked at with the pixels."""


def is_same(first: OpenInstance, second: OpenInstance, decoder: FrameDecoder) -> bool:
    """Return whether a client cannot tell one from the other by a value or a pixel.

    Both are little endian and not deflated. Raises CorruptPixelData or UnsupportedTransferSyntax if one cannot be read.
    """
    if _plain(first.header.attributes) != _plain(second.header.attributes):
        return False
    return _is_same_bulk(first, second) and _is_same_pixels(first, second, decoder)


def _plain(attributes: Attributes) -> Attributes:
    return {tag: element for tag, element in attributes.items() if tag not in _CODING and not tag.endswith("0000")}


def _is_same_bulk(first: OpenInstance, second: OpenInstance) -> bool:
    ours, theirs = _bulk(first), _bulk(second)
    return ours.keys() == theirs.keys() and all(
        ours[path].vr == theirs[path].vr and _digest(first, ours[path]) == _digest(second, theirs[path])
        for path in ours
    )


def _bulk(opened: OpenInstance) -> dict[str, BulkValue]:
    return {value.path: value for value in opened.header.bulk if value.path not in _CODING}


def _digest(opened: OpenInstance, value: BulkValue) -> bytes:
    sha256 = hashlib.sha256()
    for chunk in opened.source.iter_range(value.range.start, value.range.end):
        sha256.update(chunk)
    return sha256.digest()


def _is_same_pixels(first: OpenInstance, second: OpenInstance, decoder: FrameDecoder) -> bool:
    ours, theirs = first.header.pixels, second.header.pixels
    if ours is None or theirs is None or len(first.layout.frames) != len(second.layout.frames):
        return ours is theirs is None
    description = PixelDescription.from_attributes(first.header.attributes)
    other = PixelDescription.from_attributes(second.header.attributes)
    # A codec lays planes as it is told; what they are called and how deep they are is in the header.
    other = replace(other, planar_configuration=description.planar_configuration)
    return all(
        one == another
        for one, another in zip(
            _iter_native(first, ours, description, decoder), _iter_native(second, theirs, other, decoder), strict=True
        )
    )


def _iter_native(
    opened: OpenInstance, pixels: PixelElement, description: PixelDescription, decoder: FrameDecoder
) -> Iterator[DecodedFrame]:
    if pixels.is_encapsulated:
        for frame in iter_frames(opened.source, opened.layout.frames):
            yield decoder.decode_frame(opened.syntax.uid, frame, description)
        return
    indexes = range(len(opened.layout.frames))
    for frame in iter_native_frames(opened.source, opened.layout, indexes, pixels.range):
        yield DecodedFrame(frame, description.photometric_interpretation)


def has_spare_bytes(opened: OpenInstance) -> bool:
    """Return whether native Pixel Data hold more than the frames and one byte of padding, which would be lost."""
    pixels = opened.header.pixels
    if pixels is None or pixels.is_encapsulated or int(pixels.tag, 16) != PIXEL_DATA:
        return False
    used = sum(part.length_bytes for ranges in opened.layout.frames for part in ranges)
    spare = pixels.range.length_bytes - used
    return spare != used % 2 or opened.source.read_range(pixels.range.end - spare, pixels.range.end).strip(b"\0") != b""
