"""An instance as Explicit VR Little Endian: headers re-encoded, pixels spliced from the store or decoded in turn.

The answer is planned whole before its first byte leaves: its length is known, and an object that does not decode fails
here and not in the middle of somebody's study. Decoded pixels wait in a scratch space, never in memory.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from pacs.errors import CorruptPixelData, UnsupportedTransferSyntax
from pacs.imaging.codecs import DecodedFrame, PixelDescription
from pacs.imaging.filemeta import encode_file_meta
from pacs.imaging.reading import iter_frames
from pacs.imaging.rewriting import PIXEL_DATA, Encoding, Rewriter, encode_element, encode_pixel_data
from pacs.imaging.sources import Pieces, RangedSource
from pacs.imaging.syntaxes import EXPLICIT_VR_LITTLE_ENDIAN, TransferSyntax, lookup
from pacs.model import FrameLayout, Header
from pacs.tags import text_of

_OFFSET_TABLES = (0x7FE00001, 0x7FE00002, 0x7FE00003)  # of an encapsulated value only, PS3.3 C.7.6.3.1.8
_PHOTOMETRIC_INTERPRETATION, _PLANAR_CONFIGURATION = 0x00280004, 0x00280006


class FrameDecoder(Protocol):
    """Makes native frames of encapsulated ones; ``sandbox.Sandbox`` does."""

    def decode_frame(self, transfer_syntax_uid: str, frame: bytes, description: PixelDescription) -> DecodedFrame:
        """Return the frame; raise CorruptPixelData or UnsupportedTransferSyntax."""
        ...


class Scratch(RangedSource, Protocol):
    """Room for bytes that are made on the way."""

    def write(self, data: bytes) -> int:
        """Append bytes; raise OutOfResources when there is no room."""
        ...

    def close(self) -> None:
        """Give the room back."""
        ...


@dataclass(slots=True)
class Transcoded:
    """A re-encoded instance. ``close`` gives back what its chunks are read from; the chunks end with it."""

    pieces: Pieces
    scratches: list[Scratch] = field(default_factory=list)

    @property
    def length_bytes(self) -> int:
        """The length of the whole file."""
        return self.pieces.length_bytes

    def iter_chunks(self) -> Iterator[bytes]:
        """Yield the file in chunks."""
        return self.pieces.iter_chunks()

    def close(self) -> None:
        """Give the scratch space back."""
        while self.scratches:
            self.scratches.pop().close()


def to_explicit_little_endian(
    header: Header,
    layout: FrameLayout,
    source: RangedSource,
    decoder: FrameDecoder,
    open_scratch: Callable[[], Scratch],
) -> Transcoded:
    """Return the instance re-encoded; the caller closes it.

    ``source`` is the stored file or, for a deflated one, its inflated data set; ``layout`` counts from there. Raises
    UnsupportedTransferSyntax, CorruptPixelData or InvalidHeader if the instance can only be had as it was received.
    """
    syntax = lookup(header.transfer_syntax_uid)
    is_decoding = header.pixels is not None and header.pixels.is_encapsulated
    if not syntax.is_known or (is_decoding and not syntax.can_decode):
        raise UnsupportedTransferSyntax
    transcoded = Transcoded(Pieces())
    try:
        changes: dict[int, Pieces] = {}
        if is_decoding:
            transcoded.scratches.append(open_scratch())
            changes = _decode_pixels(header, layout, source, decoder, transcoded.scratches[0])
        _plan(header, syntax, source, changes, transcoded.pieces)
    except BaseException:
        transcoded.close()
        raise
    return transcoded


def check_frame_count(header: Header, layout: FrameLayout) -> None:
    """Raise CorruptPixelData unless a place is known for exactly as many frames as the data set promises."""
    text = text_of(header.attributes, "NumberOfFrames")
    promised = max(int(text), 1) if text.isdecimal() else 1
    if len(layout.frames) != promised:
        raise CorruptPixelData("The pixel data do not have the number of frames that the data set says.")


def _plan(
    header: Header, syntax: TransferSyntax, source: RangedSource, changes: dict[int, Pieces], pieces: Pieces
) -> None:
    attributes = header.attributes
    pieces.write(
        encode_file_meta(
            text_of(attributes, "SOPClassUID"), text_of(attributes, "SOPInstanceUID"), EXPLICIT_VR_LITTLE_ENDIAN
        )
    )
    rewriter = Rewriter(
        source,
        Encoding(syntax.is_implicit_vr, syntax.is_little_endian),
        changes,
        pixel_representation=1 if text_of(attributes, "PixelRepresentation") == "1" else 0,
        bits_allocated=int(text) if (text := text_of(attributes, "BitsAllocated")).isdecimal() else 0,
        skip_pixels_to=header.pixels.range.end if header.pixels and PIXEL_DATA in changes else None,
    )
    pieces.extend(rewriter.plan(0 if header.is_deflated else header.dataset_offset))


def _decode_pixels(
    header: Header, layout: FrameLayout, source: RangedSource, decoder: FrameDecoder, scratch: Scratch
) -> dict[int, Pieces]:
    """Decode every frame into ``scratch`` and return the elements that change with it."""
    check_frame_count(header, layout)
    description = PixelDescription.from_attributes(header.attributes)
    photometric_interpretations: set[str] = set()
    for frame in iter_frames(source, layout.frames):
        decoded = decoder.decode_frame(header.transfer_syntax_uid, frame, description)
        scratch.write(decoded.pixels)
        photometric_interpretations.add(decoded.photometric_interpretation)
    if len(photometric_interpretations) > 1:
        raise CorruptPixelData("The frames are in different colour spaces.")
    changes = {tag: Pieces() for tag in _OFFSET_TABLES}
    changes[PIXEL_DATA] = encode_pixel_data(description.bits_allocated, scratch, scratch.size_bytes)
    changes |= describe_changes(description, photometric_interpretations.pop())
    return changes


def describe_changes(description: PixelDescription, photometric_interpretation: str) -> dict[int, Pieces]:
    """Return the elements of the Image Pixel module that are different after decoding (PS3.5 8.2)."""
    changes = {}
    if photometric_interpretation != description.photometric_interpretation:
        value = photometric_interpretation.encode("ascii", "replace")
        changes[_PHOTOMETRIC_INTERPRETATION] = encode_element(_PHOTOMETRIC_INTERPRETATION, "CS", value)
    if description.samples_per_pixel > 1:
        value = description.planar_configuration.to_bytes(2, "little")
        changes[_PLANAR_CONFIGURATION] = encode_element(_PLANAR_CONFIGURATION, "US", value)
    return changes
