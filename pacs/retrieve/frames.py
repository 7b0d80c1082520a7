"""Frames of an opened instance: as they lie in the store, decoded, or encoded in what a client takes, and kept."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from itertools import chain, islice

from pacs.errors import CorruptPixelData, InvalidHeader, NotAcceptable, UnsupportedTransferSyntax
from pacs.imaging.codecs import DecodedFrame, PixelDescription
from pacs.imaging.encoders import VERSION
from pacs.imaging.opened import OpenInstance, closer
from pacs.imaging.reading import iter_frames, iter_native_frames
from pacs.imaging.representation import Acceptable, Frames, Representation
from pacs.imaging.syntaxes import EXPLICIT_VR_LITTLE_ENDIAN, HTJ2K, HTJ2K_LOSSLESS_RPCL, TransferSyntax, lookup
from pacs.imaging.transcode import FrameCodec
from pacs.model import BulkValue, PixelElement
from pacs.retrieve.cache import FrameCache, frame_key

LOGGER = logging.getLogger(__name__)

UNDECODABLE = (UnsupportedTransferSyntax, CorruptPixelData, InvalidHeader)
"""What is raised of pixels that cannot be had in some syntax; another one may do."""

_PIXEL_DATA = "7FE00010"
_CHUNK_BYTES = 256 * 1024
_BY_PIXEL = frozenset({HTJ2K_LOSSLESS_RPCL, HTJ2K})
"""What viewers take progressively. OHIF goes by the metadata, which are of the stored pixels: it takes colours that are
stored in planes for planes still."""


class FrameReader:
    """Gives frames of opened instances. Any number of threads may call it at once."""

    def __init__(self, codec: FrameCodec, cache: FrameCache | None = None) -> None:
        """Make a reader; without a ``cache`` what is made is made anew each time, and there are no ranges of it."""
        self._codec = codec
        self._cache = cache

    def open_frames(self, opened: OpenInstance, frame_numbers: Sequence[int], acceptable: Acceptable) -> Frames:
        """Return frames by their numbers, which count from 1, as ``Retriever.open_frames`` has it; nothing to close."""
        uid, media_type, frames = self._choose(opened, frame_numbers, acceptable)
        return Frames(uid, media_type, (frame.data for frame in frames))

    def open_frame(self, opened: OpenInstance, frame_number: int, acceptable: Acceptable) -> Representation:
        """Return one frame, as ``Retriever.open_frame`` has it, with what ``opened`` holds to be closed."""
        pixels = opened.find_pixels([frame_number])
        stored = _stored_syntax(opened, pixels)
        targets = acceptable.targets(stored, keeps_lossy=not stored.is_lossless, of_frames=True)
        pieces = opened.find_stored(pixels, frame_number - 1)
        if targets[:1] == (stored.uid,) and pieces is not None:
            close = closer(opened.release())
            uid, media_type, iter_range = stored.uid, stored.media_type, pieces.iter_range
            length_bytes, iter_chunks = pieces.length_bytes, pieces.iter_chunks
            return Representation(uid, media_type, length_bytes, iter_chunks, close, iter_range, pieces.open_file)
        uid, media_type, frames = self._choose(opened, [frame_number], acceptable)
        (frame,) = frames
        size = len(frame.data)
        ranges = frame.iter_range if frame.is_repeatable else None
        return Representation(uid, media_type, size, lambda: frame.iter_range(0, size), iter_range=ranges)

    def iter_decoded(self, opened: OpenInstance, indexes: Sequence[int]) -> Iterator[DecodedFrame]:
        """Yield frames native, by their indexes, which count from 0.

        Raises FrameNotFound if there are no pixels, CorruptPixelData or UnsupportedTransferSyntax.
        """
        pixels = opened.find_pixels(())
        description = PixelDescription.from_attributes(opened.header.attributes)
        return (
            self._decode(opened, pixels, stored, description) for stored in self._iter_stored(opened, pixels, indexes)
        )

    def _iter_stored(self, opened: OpenInstance, pixels: PixelElement, indexes: Sequence[int]) -> Iterator[bytes]:
        if pixels.is_encapsulated:
            return iter_frames(opened.source, [opened.layout.frames[index] for index in indexes])
        words = opened.word_bytes(BulkValue(pixels.tag, pixels.vr, pixels.range))
        return iter_native_frames(opened.source, opened.layout, indexes, pixels.range, words)

    def _choose(
        self, opened: OpenInstance, frame_numbers: Sequence[int], acceptable: Acceptable
    ) -> tuple[str, str, Iterator["_Frame"]]:
        """Return the first syntax that the first frame can be had in, its media type, and the frames."""
        pixels = opened.find_pixels(frame_numbers)
        indexes = [number - 1 for number in frame_numbers]
        stored = _stored_syntax(opened, pixels)
        is_certain = True
        for uid in acceptable.targets(stored, keeps_lossy=not stored.is_lossless, of_frames=True):
            if uid == stored.uid:
                as_stored = self._iter_stored(opened, pixels, indexes)
                return uid, stored.media_type, (_Frame(frame, is_repeatable=is_certain) for frame in as_stored)
            try:
                # One frame is made before anything is promised: it is the best guess whether the others will be.
                frames = _make_ahead(self._iter_made(opened, pixels, indexes, uid))
            except UNDECODABLE as error:
                LOGGER.info("Frames cannot leave in transfer syntax %s: %s", uid, type(error).__name__)
                # A child that was short of memory or time may do it the next time: then the answer is another one.
                is_certain = is_certain and not isinstance(error, CorruptPixelData)
                continue
            if not is_certain:
                frames = (replace(frame, is_repeatable=False) for frame in frames)
            return uid, lookup(uid).media_type, frames
        raise NotAcceptable("The frames cannot be given in a transfer syntax that was asked for.")

    def _iter_made(
        self,
        opened: OpenInstance,
        pixels: PixelElement,
        indexes: Sequence[int],
        transfer_syntax_uid: str,
    ) -> Iterator["_Frame"]:
        """Yield frames decoded or encoded, those that were made before as they are kept."""
        syntax = lookup(transfer_syntax_uid)
        if not (syntax.is_encapsulated or syntax.uid == EXPLICIT_VR_LITTLE_ENDIAN):
            raise UnsupportedTransferSyntax
        if syntax.is_encapsulated and (pixels.tag != _PIXEL_DATA or opened.layout.bit_offset_step):
            raise UnsupportedTransferSyntax
        description = PixelDescription.from_attributes(opened.header.attributes)
        if syntax.uid in _BY_PIXEL and description.planar_configuration == 1 and description.samples_per_pixel > 1:
            raise UnsupportedTransferSyntax
        cache = self._cache if opened.location is not None else None
        identity = (*astuple(opened.location), syntax.uid, VERSION) if opened.location is not None else ()
        stored: Iterator[bytes] | None = None
        for position, index in enumerate(indexes):
            key = frame_key(*identity, index)
            kept = cache.find(key) if cache is not None else None
            if stored is None and kept is None:
                # From here on neighbours are read in one go, also those of them that are kept.
                stored = self._iter_stored(opened, pixels, indexes[position:])
            frame = next(stored) if stored is not None else b""
            if kept is not None:
                yield _Frame(kept, is_repeatable=True)
                continue
            decoded = self._decode(opened, pixels, frame, description)
            frame = decoded.pixels
            if syntax.is_encapsulated:
                described = replace(description, photometric_interpretation=decoded.photometric_interpretation)
                frame = self._codec.encode_frame(syntax.uid, frame, described).data
            yield _Frame(frame, is_repeatable=cache is not None and cache.put(key, frame))

    def _decode(
        self, opened: OpenInstance, pixels: PixelElement, stored: bytes, description: PixelDescription
    ) -> DecodedFrame:
        if pixels.is_encapsulated:
            return self._codec.decode_frame(opened.syntax.uid, stored, description)
        return DecodedFrame(stored, description.photometric_interpretation)


@dataclass(frozen=True, slots=True)
class _Frame:
    """One frame's bytes, and whether the next who asks gets the same at no cost, so that ranges of it can be given."""

    data: bytes
    is_repeatable: bool

    def iter_range(self, start: int, end: int) -> Iterator[bytes]:
        for first in range(start, end, _CHUNK_BYTES):
            yield self.data[first : min(first + _CHUNK_BYTES, end)]


def _stored_syntax(opened: OpenInstance, pixels: PixelElement) -> TransferSyntax:
    """Return the syntax that frames have as they are stored, whatever native one the instance is in."""
    return opened.syntax if pixels.is_encapsulated else lookup(EXPLICIT_VR_LITTLE_ENDIAN)


def _make_ahead(frames: Iterator[_Frame]) -> Iterator[_Frame]:
    """Return the same frames, the first of them read already."""
    return chain(list(islice(frames, 1)), frames)
