"""An instance in another transfer syntax, or with other attributes: headers re-encoded, pixels spliced or made in turn.

The answer is planned whole before its first byte leaves: its length is known, and an object that does not decode fails
here and not in the middle of somebody's study. Pixels that are made wait in a scratch space, never in memory.

Nothing is lost on the way: an encapsulated syntax is made only where it holds every bit of the pixels. What was lossy
already may be decoded, or encapsulated again without further loss; its Lossy Image Compression (0028,2110) stays.
"""

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from pacs.errors import CorruptPixelData, UnsupportedTransferSyntax
from pacs.imaging.codecs import DecodedFrame, PixelDescription
from pacs.imaging.elements import (
    END_OF_SEQUENCE,
    SPECIFIC_CHARACTER_SET,
    UNDEFINED,
    UTF_8,
    AttributeEncoder,
    encode_element,
    encode_header,
    encode_item_header,
    find_encoding,
)
from pacs.imaging.encoders import ENCODABLE, EncodedFrame
from pacs.imaging.filemeta import encode_file_meta
from pacs.imaging.opened import OpenInstance
from pacs.imaging.reading import iter_frames, iter_native_frames
from pacs.imaging.rewriting import PIXEL_DATA, Encoding, Rewriter, encode_pixel_data
from pacs.imaging.sources import Pieces, Scratch
from pacs.imaging.syntaxes import EXPLICIT_VR_LITTLE_ENDIAN, TransferSyntax, lookup
from pacs.model import Attributes, BulkValue, FrameLayout, Header
from pacs.overlay import apply
from pacs.tags import tag_of, text_of, values_of

T = TypeVar("T")

_BASIC_OFFSET_LIMIT = 1 << 32
_EXTENDED_OFFSETS, _EXTENDED_LENGTHS = 0x7FE00001, 0x7FE00002
_OFFSET_TABLES = (_EXTENDED_OFFSETS, _EXTENDED_LENGTHS, 0x7FE00003)  # PS3.3 C.7.6.3.1.8
_PHOTOMETRIC_INTERPRETATION, _PLANAR_CONFIGURATION = 0x00280004, 0x00280006
_CHARACTER_SETS = tag_of("SpecificCharacterSet")


class FrameDecoder(Protocol):
    """Makes native frames of encapsulated ones; ``sandbox.Sandbox`` does."""

    def decode_frame(self, transfer_syntax_uid: str, frame: bytes, description: PixelDescription) -> DecodedFrame:
        """Return the frame; raise CorruptPixelData or UnsupportedTransferSyntax."""
        ...


class FrameCodec(FrameDecoder, Protocol):
    """Makes encapsulated frames of native ones, too; ``sandbox.Sandbox`` does."""

    def encode_frame(self, transfer_syntax_uid: str, pixels: bytes, description: PixelDescription) -> EncodedFrame:
        """Return the frame; raise UnsupportedTransferSyntax if it cannot be had like that, or CorruptPixelData."""
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
    opened: OpenInstance, decoder: FrameDecoder, open_scratch: Callable[[], Scratch]
) -> Transcoded:
    """Return the instance in Explicit VR Little Endian; as ``transcode``."""
    return _Transcoding(opened, decoder, None, open_scratch).run(EXPLICIT_VR_LITTLE_ENDIAN)


def transcode(
    opened: OpenInstance, transfer_syntax_uid: str, codec: FrameCodec, open_scratch: Callable[[], Scratch]
) -> Transcoded:
    """Return the instance in a transfer syntax, its own for one, with its steps laid over.

    The caller closes it, and gives back what ``opened`` has only after that. Raises UnsupportedTransferSyntax,
    CorruptPixelData or InvalidHeader if the instance cannot be had like that.
    """
    return _Transcoding(opened, codec, codec, open_scratch).run(transfer_syntax_uid)


def check_frame_count(header: Header, layout: FrameLayout) -> None:
    """Raise CorruptPixelData unless a place is known for exactly as many frames as the data set promises."""
    text = text_of(header.attributes, "NumberOfFrames")
    promised = max(int(text), 1) if text.isdecimal() else 1
    if len(layout.frames) != promised:
        raise CorruptPixelData("The pixel data do not have the number of frames that the data set says.")


def describe_changes(
    before: PixelDescription,
    photometric_interpretation: str,
    planar_configuration: int,
    *,
    is_implicit_vr: bool = False,
) -> dict[int, Pieces]:
    """Return the elements of the Image Pixel module that are different after transcoding (PS3.5 8.2)."""
    changes = {}
    if photometric_interpretation != before.photometric_interpretation:
        value, tag = photometric_interpretation.encode("ascii", "replace"), _PHOTOMETRIC_INTERPRETATION
        changes[tag] = encode_element(tag, "CS", value, is_implicit_vr=is_implicit_vr)
    if before.samples_per_pixel > 1:
        value, tag = planar_configuration.to_bytes(2, "little"), _PLANAR_CONFIGURATION
        changes[tag] = encode_element(tag, "US", value, is_implicit_vr=is_implicit_vr)
    return changes


@dataclass(slots=True)
class _Transcoding:
    """One instance on its way; used once."""

    opened: OpenInstance
    decoder: FrameDecoder
    codec: FrameCodec | None
    open_scratch: Callable[[], Scratch]
    transcoded: Transcoded = field(default_factory=lambda: Transcoded(Pieces()))

    def run(self, transfer_syntax_uid: str) -> Transcoded:
        """Return the instance in that syntax."""
        syntax = lookup(transfer_syntax_uid)
        self._check(syntax)
        try:
            self._run(syntax)
        except BaseException:
            self.transcoded.close()
            raise
        return self.transcoded

    def _check(self, syntax: TransferSyntax) -> None:
        """Raise UnsupportedTransferSyntax for what is known not to work before anything is read."""
        pixels, stored = self.opened.header.pixels, self.opened.syntax
        if syntax.uid == stored.uid:
            # Only the header changes: that takes no codec, but an encoding that is written here.
            if not syntax.is_little_endian:
                raise UnsupportedTransferSyntax
            return
        is_decoding = pixels is not None and pixels.is_encapsulated
        can_read = stored.is_known and (stored.can_decode or not is_decoding)
        can_write = syntax.can_encode
        if syntax.is_encapsulated:
            # PS3.5 A.4: pixels, and integers at that; the table must not promise more than the codecs can do.
            can_write = syntax.uid in ENCODABLE and pixels is not None and int(pixels.tag, 16) == PIXEL_DATA
        if not (can_read and can_write):
            raise UnsupportedTransferSyntax

    def _run(self, syntax: TransferSyntax) -> None:
        attributes = apply(self.opened.header.attributes, self.opened.steps)
        changes, is_recoding = self._encode_attributes(attributes, is_implicit_vr=syntax.is_implicit_vr)
        changes |= self._encode_pixels(syntax)
        pieces = self.transcoded.pieces
        class_uid, instance_uid = text_of(attributes, "SOPClassUID"), text_of(attributes, "SOPInstanceUID")
        pieces.write(encode_file_meta(class_uid, instance_uid, syntax.uid))
        received, pixels, stored = self.opened.header.attributes, self.opened.header.pixels, self.opened.syntax
        rewriter = Rewriter(
            self.opened.source,
            Encoding(stored.is_implicit_vr, stored.is_little_endian),
            changes,
            pixel_representation=1 if text_of(received, "PixelRepresentation") == "1" else 0,
            bits_allocated=int(text) if (text := text_of(received, "BitsAllocated")).isdecimal() else 0,
            skip_pixels_to=pixels.range.end if pixels and PIXEL_DATA in changes else None,
            is_implicit_vr=syntax.is_implicit_vr,
            recoded=received if is_recoding else None,
        )
        dataset = rewriter.plan(0 if self.opened.header.is_deflated else self.opened.header.dataset_offset)
        if syntax.is_deflated:
            dataset = self._deflate(dataset)
        pieces.extend(dataset)

    def _encode_attributes(self, attributes: Attributes, *, is_implicit_vr: bool) -> tuple[dict[int, Pieces], bool]:
        """Return the elements that are not as received, and whether all other text must become Unicode for them.

        New text goes in the character set of the data set. If that has no such letters, all text changes to ISO_IR 192.
        """
        received = self.opened.header.attributes
        changed = {
            int(tag, 16): element
            for tag, element in attributes.items()
            if received.get(tag) != element and tag != _CHARACTER_SETS
        }
        if not changed:
            return {}, False
        encoding = find_encoding(values_of(received, "SpecificCharacterSet"))
        encoder = AttributeEncoder(encoding, self._find_bulk, is_implicit_vr)
        try:
            return {tag: encoder.encode(tag, element) for tag, element in changed.items()}, False
        except UnicodeEncodeError:
            encoder = replace(encoder, encoding=UTF_8)
        changes = {tag: encoder.encode(tag, element) for tag, element in changed.items()}
        changes[SPECIFIC_CHARACTER_SET] = encode_element(
            SPECIFIC_CHARACTER_SET, "CS", b"ISO_IR 192", is_implicit_vr=is_implicit_vr
        )
        return changes, True

    def _find_bulk(self, path: str) -> Pieces | None:
        """Return a value that is too large for the header, as it lies in the source."""
        value = self.opened.find_bulk(path)
        if value is None:
            return None
        pieces = Pieces()
        pieces.splice(self.opened.source, value.range.start, value.range.end, self.opened.word_bytes(value))
        return pieces

    def _encode_pixels(self, syntax: TransferSyntax) -> dict[int, Pieces]:
        """Return the elements that change because the pixels do."""
        pixels = self.opened.header.pixels
        if pixels is None:
            return {}
        if syntax.uid == self.opened.syntax.uid:
            if not pixels.is_encapsulated:
                return {}
            # As they are, in one piece, however many items that is.
            value = Pieces()
            value.write(encode_header(PIXEL_DATA, "OB", UNDEFINED))
            value.splice(self.opened.source, pixels.range.start, pixels.range.end)
            value.write(END_OF_SEQUENCE)
            return {PIXEL_DATA: value}
        if syntax.is_encapsulated:
            return self._encapsulate(syntax)
        return self._decode(syntax) if pixels.is_encapsulated else {}

    def _decode(self, syntax: TransferSyntax) -> dict[int, Pieces]:
        """Decode every frame into a scratch space."""
        description = PixelDescription.from_attributes(self.opened.header.attributes)
        scratch = self._open_scratch()
        colours = set()
        for decoded in self._iter_native():
            scratch.write(decoded.pixels)
            colours.add(decoded.photometric_interpretation)
        is_implicit_vr, length = syntax.is_implicit_vr, scratch.size_bytes
        changes = {tag: Pieces() for tag in _OFFSET_TABLES}
        changes[PIXEL_DATA] = encode_pixel_data(
            description.bits_allocated, scratch, length, is_implicit_vr=is_implicit_vr
        )
        planar = description.planar_configuration
        return changes | describe_changes(description, _only(colours), planar, is_implicit_vr=is_implicit_vr)

    def _encapsulate(self, syntax: TransferSyntax) -> dict[int, Pieces]:
        """Encode every frame into a scratch space, one fragment each (PS3.5 A.4)."""
        if self.codec is None:
            raise UnsupportedTransferSyntax
        description = PixelDescription.from_attributes(self.opened.header.attributes)
        scratch = self._open_scratch()
        lengths, forms = [], set()
        for native in self._iter_native():
            decoded_as = replace(description, photometric_interpretation=native.photometric_interpretation)
            encoded = self.codec.encode_frame(syntax.uid, native.pixels, decoded_as)
            data = encoded.data + b"\0" * (len(encoded.data) % 2)
            scratch.write(encode_item_header(len(data)) + data)
            lengths.append(len(encoded.data))
            forms.add((encoded.photometric_interpretation, encoded.planar_configuration))
        changes = _encode_fragments(scratch, lengths)
        return changes | describe_changes(description, *_only(forms))

    def _iter_native(self) -> Iterator[DecodedFrame]:
        check_frame_count(self.opened.header, self.opened.layout)
        pixels = self.opened.header.pixels
        if pixels is None or (not pixels.is_encapsulated and self.opened.layout.bit_offset_step):
            raise UnsupportedTransferSyntax
        description = PixelDescription.from_attributes(self.opened.header.attributes)
        if pixels.is_encapsulated:
            for frame in iter_frames(self.opened.source, self.opened.layout.frames):
                yield self.decoder.decode_frame(self.opened.syntax.uid, frame, description)
            return
        words = self.opened.word_bytes(BulkValue(pixels.tag, pixels.vr, pixels.range))
        indexes = range(len(self.opened.layout.frames))
        for frame in iter_native_frames(self.opened.source, self.opened.layout, indexes, pixels.range, words):
            yield DecodedFrame(frame, description.photometric_interpretation)

    def _deflate(self, dataset: Pieces) -> Pieces:
        """Return the data set deflated into a scratch space, padded to an even length (PS3.5 A.5)."""
        scratch = self._open_scratch()
        deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        for chunk in dataset.iter_chunks():
            scratch.write(deflater.compress(chunk))
        scratch.write(deflater.flush())
        pieces = Pieces()
        pieces.splice(scratch, 0, scratch.size_bytes)
        pieces.write(b"\0" * (scratch.size_bytes % 2))
        return pieces

    def _open_scratch(self) -> Scratch:
        scratch = self.open_scratch()
        self.transcoded.scratches.append(scratch)
        return scratch


def _encode_fragments(scratch: Scratch, lengths: Sequence[int]) -> dict[int, Pieces]:
    """Return Pixel Data with its offset table: the basic one, or the extended one beyond what 32 bits can say."""
    offsets, position = [], 0
    for length in lengths:
        offsets.append(position)
        position += 8 + length + length % 2
    changes = {tag: Pieces() for tag in _OFFSET_TABLES}
    table = b""
    if position < _BASIC_OFFSET_LIMIT:
        table = struct.pack(f"<{len(offsets)}L", *offsets)
    else:
        for tag, values in ((_EXTENDED_OFFSETS, offsets), (_EXTENDED_LENGTHS, lengths)):
            changes[tag] = encode_element(tag, "OV", struct.pack(f"<{len(values)}Q", *values))
    value = changes[PIXEL_DATA] = Pieces()
    value.write(encode_header(PIXEL_DATA, "OB", UNDEFINED) + encode_item_header(len(table)) + table)
    value.splice(scratch, 0, scratch.size_bytes)
    value.write(END_OF_SEQUENCE)
    return changes


def _only(found: set[T]) -> T:
    """Return the one form that all frames are in, as one data set has to say it."""
    if len(found) != 1:
        raise CorruptPixelData("The frames are in different colour spaces.")
    return found.pop()
