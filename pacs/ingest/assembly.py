"""A DICOM file made of metadata and bulk data that came apart (PS3.18 10.5.1, 10.5.2), for the one door in.

Pure: what is built is a plan of new bytes and splices of where the bulk data lie, so that no large value is ever held.
Native pixels are written in Explicit VR Little Endian; compressed ones are encapsulated as they came, one frame after
the other. Text is written in Unicode, which JSON and XML are. What cannot be understood raises CannotAssemble: nothing
is left out and called stored.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from pacs.errors import PacsError, UnsupportedTransferSyntax
from pacs.imaging.codestreams import Codestream, read_codestream
from pacs.imaging.elements import (
    END_OF_SEQUENCE,
    IN_CHARACTER_SET,
    UNDEFINED,
    UTF_8,
    AttributeEncoder,
    encode_element,
    encode_header,
    encode_item_header,
)
from pacs.imaging.filemeta import encode_file_meta
from pacs.imaging.sources import Pieces, RangedSource
from pacs.imaging.syntaxes import EXPLICIT_VR_LITTLE_ENDIAN, OCTET_STREAM, SYNTAXES, TransferSyntax, lookup
from pacs.ingest.charsets import TextDecoder
from pacs.ingest.json_model import InvalidDataSet, read_data_set
from pacs.ingest.outcome import Reason
from pacs.ingest.rules import is_uid
from pacs.model import Attributes
from pacs.tags import tag_of, text_of, values_of

MAX_TEXT_BYTES = 16 * 1024 * 1024
"""Longer text comes as UTF-8 or not at all: to change its encoding it must be held."""

MAX_VALUE_BYTES = MAX_FRAGMENT_BYTES = 0xFFFFFFFE
BASIC_OFFSET_LIMIT = 1 << 32

_PIXEL_DATA: Final = "7FE00010"
_CHARACTER_SETS: Final = "00080005"
_OFFSET_TABLES: Final = ("7FE00001", "7FE00002", "7FE00003")  # PS3.3 C.7.6.3.1.8
# What an image cannot do without (PS3.3 Table C.7-11c, type 1).
_DESCRIPTION: Final = tuple(
    tag_of(keyword)
    for keyword in (
        "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit",
        "PixelRepresentation",
    )
)  # fmt: skip
# Media types that have several transfer syntaxes, and whose codestreams tell which.
_SELF_DESCRIBING: Final = frozenset({"image/jpeg", "image/jls", "image/jp2", "image/jphc"})


class CannotAssemble(PacsError):
    """The metadata and bulk data make no object."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(detail or reason.comment)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class BulkPart:
    """Bulk data as they came: bytes ``start`` up to, not including, ``end``, and what their sender calls them."""

    source: RangedSource
    start: int
    end: int
    media_type: str = OCTET_STREAM
    transfer_syntax_uid: str = ""

    @property
    def length_bytes(self) -> int:
        """How many bytes there are."""
        return self.end - self.start


FindBulk = Callable[[str], Sequence[BulkPart]]
"""From a BulkDataURI to its parts in order, of which pixel data have one for each frame; none if none came."""


def plan_file(metadata: Any, find_bulk: FindBulk) -> Pieces:
    """Return the DICOM file that one data set of the DICOM JSON model and its bulk data make; raise CannotAssemble."""
    try:
        attributes = read_data_set(metadata)
    except InvalidDataSet as error:
        raise CannotAssemble(Reason.INVALID_METADATA, str(error)) from error
    try:
        return _plan(attributes, find_bulk)
    except (ValueError, OverflowError) as error:
        raise CannotAssemble(Reason.INVALID_METADATA) from error


def _plan(attributes: Attributes, find_bulk: FindBulk) -> Pieces:
    decoder = TextDecoder([str(name) for name in values_of(attributes, "SpecificCharacterSet") if name], ())
    text_uris = frozenset(_iter_text_uris(attributes))

    def read_bulk(uri: str) -> Pieces:
        pieces = _join(_find(find_bulk, uri))
        return _as_unicode(pieces, decoder) if uri in text_uris else pieces

    encoder = AttributeEncoder(UTF_8, read_bulk, is_strict=True)
    syntax, made = _make_pixels(attributes, find_bulk)
    attributes[_CHARACTER_SETS] = {"vr": "CS", "Value": ["ISO_IR 192"]}
    pieces = Pieces()
    pieces.write(encode_file_meta(_uid(attributes, "SOPClassUID"), _uid(attributes, "SOPInstanceUID"), syntax.uid))
    for tag in sorted({*attributes, *made}):
        pieces.extend(made[tag] if tag in made else encoder.encode(int(tag, 16), attributes[tag]))
    return pieces


def _iter_text_uris(attributes: Attributes) -> Iterator[str]:
    for element in attributes.values():
        if "BulkDataURI" in element and element["vr"] in IN_CHARACTER_SET:
            yield element["BulkDataURI"]
        for item in element.get("Value", ()) if element["vr"] == "SQ" else ():
            yield from _iter_text_uris(item)


def _find(find_bulk: FindBulk, uri: str) -> Sequence[BulkPart]:
    parts = find_bulk(uri)
    if not parts:
        raise CannotAssemble(Reason.BULK_DATA_MISSING)
    return parts


def _join(parts: Sequence[BulkPart]) -> Pieces:
    pieces = Pieces()
    for part in parts:
        pieces.splice(part.source, part.start, part.end)
    if pieces.length_bytes > MAX_VALUE_BYTES:
        raise OverflowError
    return pieces


def _as_unicode(pieces: Pieces, decoder: TextDecoder) -> Pieces:
    """Return text in UTF-8.

    Text that is kept out of the metadata is bytes, and archives give it in the character set of the object: what is no
    UTF-8, or has escape sequences, is in the one that the metadata declare.
    """
    if pieces.length_bytes > MAX_TEXT_BYTES:
        return pieces
    value = b"".join(pieces.iter_chunks())
    try:
        is_unicode = "\x1b" not in value.decode(UTF_8)
    except UnicodeDecodeError:
        is_unicode = False
    if is_unicode:
        return pieces
    changed = Pieces()
    changed.write(decoder.decode(value).encode(UTF_8))
    return changed


def _uid(attributes: Attributes, keyword: str) -> str:
    """Return a UID for the file meta information; what is none is refused at the door, by what the data set says."""
    uid = text_of(attributes, keyword)
    return uid if is_uid(uid) else ""


def _make_pixels(attributes: Attributes, find_bulk: FindBulk) -> tuple[TransferSyntax, dict[str, Pieces]]:
    """Return the transfer syntax, and the elements that hold encapsulated pixels; the attributes are completed."""
    for tag in _OFFSET_TABLES:
        attributes.pop(tag, None)
    native = lookup(EXPLICIT_VR_LITTLE_ENDIAN)
    pixels = attributes.get(_PIXEL_DATA)
    if pixels is None:
        return native, {}
    if "BulkDataURI" in pixels:
        parts = _find(find_bulk, pixels["BulkDataURI"])
        syntax, codestream = _find_syntax(parts, attributes)
        if syntax.is_encapsulated:
            if codestream is not None:
                _complete(attributes, codestream, syntax, len(parts))
            return syntax, _encapsulate(parts, syntax, attributes)
    is_wide = text_of(attributes, "BitsAllocated") not in ("", "1", "8")
    attributes[_PIXEL_DATA] = {**pixels, "vr": "OB" if pixels["vr"] == "OB" and not is_wide else "OW"}
    return native, {}


def _find_syntax(parts: Sequence[BulkPart], attributes: Attributes) -> tuple[TransferSyntax, Codestream | None]:
    """Return the transfer syntax of the pixel data, and the codestream if the attributes do not describe it.

    Where the parts name no transfer syntax it is their codestream's, or the only or default one of their media type
    (PS3.18 Table 8.7.3-5).
    """
    first = parts[0]
    if any((one.media_type, one.transfer_syntax_uid) != (first.media_type, first.transfer_syntax_uid) for one in parts):
        raise CannotAssemble(Reason.UNSUPPORTED_TRANSFER_SYNTAX)
    uid, media_type = first.transfer_syntax_uid, first.media_type
    if media_type == OCTET_STREAM and uid in ("", EXPLICIT_VR_LITTLE_ENDIAN):
        return lookup(EXPLICIT_VR_LITTLE_ENDIAN), None
    is_described = all(attributes.get(tag, {}).get("Value") for tag in _DESCRIPTION)
    codestream = None
    if not (uid and is_described):
        with suppress(UnsupportedTransferSyntax):
            codestream = read_codestream(first.source, first.start, first.end)
    if not uid and codestream is not None:
        uid = codestream.transfer_syntax_uid
    elif not uid and media_type not in _SELF_DESCRIBING:
        uid = next((one.uid for one in SYNTAXES.values() if one.media_type.lower() == media_type), "")
    syntax = lookup(uid)
    if not uid or not syntax.is_encapsulated or media_type not in (OCTET_STREAM, syntax.media_type.lower()):
        raise CannotAssemble(Reason.UNSUPPORTED_TRANSFER_SYNTAX)
    if codestream is None and not is_described:
        raise CannotAssemble(Reason.INVALID_METADATA, "The image is not described, and its pixel data do not say.")
    return syntax, None if is_described else codestream


def _complete(attributes: Attributes, codestream: Codestream, syntax: TransferSyntax, frames: int) -> None:
    """Add what the codestream says of the image (PS3.18 10.5.2), where the sender says nothing."""
    derived = codestream.describe()
    if not syntax.is_lossless:
        derived[tag_of("LossyImageCompression")] = {"vr": "CS", "Value": ["01"]}
    if frames > 1:
        derived[tag_of("NumberOfFrames")] = {"vr": "IS", "Value": [frames]}
    for tag, element in derived.items():
        if not attributes.get(tag, {}).get("Value"):
            attributes[tag] = element


def _encapsulate(parts: Sequence[BulkPart], syntax: TransferSyntax, attributes: Attributes) -> dict[str, Pieces]:
    """Return Pixel Data, one fragment a frame, with its offset table: the extended one beyond 32 bits (PS3.5 A.4)."""
    promised = text_of(attributes, "NumberOfFrames")
    count = int(promised) if promised.isdecimal() and len(promised) < 10 and not syntax.is_video else 1
    if len(parts) != max(count, 1):
        raise CannotAssemble(Reason.FRAMES_MISMATCH)
    fragments, offsets = Pieces(), []
    for part in parts:
        offsets.append(fragments.length_bytes)
        for start in range(part.start, part.end, MAX_FRAGMENT_BYTES):
            end = min(start + MAX_FRAGMENT_BYTES, part.end)
            fragments.write(encode_item_header(end - start + (end - start) % 2))
            fragments.splice(part.source, start, end)
            fragments.write(b"\0" * ((end - start) % 2))
    if any(not part.length_bytes for part in parts):
        raise CannotAssemble(Reason.BULK_DATA_MISSING, "There is a frame without a byte.")
    made: dict[str, Pieces] = {}
    table = b""
    if len(parts) > 1 and fragments.length_bytes < BASIC_OFFSET_LIMIT:
        table = struct.pack(f"<{len(offsets)}L", *offsets)
    elif len(parts) > 1:
        lengths = [part.length_bytes for part in parts]
        for tag, values in (("7FE00001", offsets), ("7FE00002", lengths)):
            made[tag] = encode_element(int(tag, 16), "OV", struct.pack(f"<{len(values)}Q", *values))
    value = made[_PIXEL_DATA] = Pieces()
    value.write(encode_header(int(_PIXEL_DATA, 16), "OB", UNDEFINED) + encode_item_header(len(table)) + table)
    value.extend(fragments)
    value.write(END_OF_SEQUENCE)
    return made
