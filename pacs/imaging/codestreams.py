"""What a compressed frame says of itself: its transfer syntax and its Image Pixel Description (PS3.18 10.5.2).

Only markers are walked, as far as the first coded sample; nothing is decoded. The bytes are a stranger's: every length
is bounded, and whatever is not understood raises UnsupportedTransferSyntax.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pacs.errors import UnsupportedTransferSyntax
from pacs.imaging import syntaxes
from pacs.imaging.sources import RangedSource
from pacs.model import Attributes
from pacs.tags import tag_of

MAX_SEGMENTS = 1000
_SEGMENT_BYTES: Final = 256

# The second bytes of markers (ITU-T T.81 Table B.1, T.87 C.1.1, T.800 Table A.2).
_BASELINE, _EXTENDED, _LOSSLESS, _JPEG_LS = 0xC0, 0xC1, 0xC3, 0xF7
_FRAMES = frozenset({*range(0xC0, 0xD0), _JPEG_LS} - {0xC4, 0xC8, 0xCC})
_SCAN, _ADOBE = 0xDA, 0xEE
_SIZE, _CAPABILITIES, _CODING, _LENGTHS, _TILE = 0x51, 0x50, 0x52, 0x55, 0x90
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
_RPCL = 2


@dataclass(frozen=True, slots=True)
class Codestream:
    """One compressed frame. ``bits_stored`` are those of a sample."""

    transfer_syntax_uid: str
    rows: int
    columns: int
    samples_per_pixel: int
    bits_stored: int
    is_signed: bool
    photometric_interpretation: str

    def describe(self) -> Attributes:
        """Return the attributes of the Image Pixel Description Macro (PS3.3 Table C.7-11c), in the DICOM JSON model."""
        values: dict[str, tuple[str, int | str]] = {
            "SamplesPerPixel": ("US", self.samples_per_pixel),
            "PhotometricInterpretation": ("CS", self.photometric_interpretation),
            "Rows": ("US", self.rows),
            "Columns": ("US", self.columns),
            "BitsAllocated": ("US", 8 if self.bits_stored <= 8 else 16),
            "BitsStored": ("US", self.bits_stored),
            "HighBit": ("US", self.bits_stored - 1),
            "PixelRepresentation": ("US", int(self.is_signed)),
        }
        if self.samples_per_pixel > 1:
            values["PlanarConfiguration"] = ("US", 0)
        return {tag_of(keyword): {"vr": vr, "Value": [value]} for keyword, (vr, value) in values.items()}


def read_codestream(source: RangedSource, start: int, end: int) -> Codestream:
    """Return what the JPEG, JPEG-LS or JPEG 2000 codestream from ``start`` up to, not including, ``end`` says.

    Raises UnsupportedTransferSyntax for anything else, and for what PS3.5 has no transfer syntax for.
    """
    magic = source.read_range(start, min(start + 4, end))
    try:
        if magic[:3] == b"\xff\xd8\xff":
            found = _read_jpeg(source, start + 2, end)
        elif magic == b"\xff\x4f\xff\x51":
            found = _read_jpeg_2000(source, start + 2, end)
        else:
            raise UnsupportedTransferSyntax
    except (struct.error, IndexError) as error:
        raise UnsupportedTransferSyntax from error
    is_whole = found.rows and found.columns and found.samples_per_pixel in (1, 3) and 1 <= found.bits_stored <= 16
    if not (is_whole and found.transfer_syntax_uid):
        raise UnsupportedTransferSyntax
    return found


def _segments(source: RangedSource, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Yield each marker and the first bytes of its segment, behind its length."""
    position = start
    for _ in range(MAX_SEGMENTS):
        head = source.read_range(position, min(position + _SEGMENT_BYTES, end))
        if len(head) < 4 or head[0] != 0xFF:
            return
        if head[1] == 0xFF:  # filling
            position += 1
            continue
        if head[1] in _WITHOUT_LENGTH:
            position += 2
            continue
        length = int.from_bytes(head[2:4], "big")
        yield head[1], head[4 : 2 + length]
        position += 2 + length


def _read_jpeg(source: RangedSource, start: int, end: int) -> Codestream:
    frame, process, transform = b"", 0, -1
    for marker, segment in _segments(source, start, end):
        if marker == _ADOBE and segment.startswith(b"Adobe"):
            transform = segment[11]
        elif marker in _FRAMES:
            frame, process = segment, marker
        elif marker == _SCAN:
            selection = segment[1 + 2 * segment[0]]
            bits_stored, rows, columns, samples = struct.unpack_from(">BHHB", frame)
            return Codestream(
                _choose_jpeg(process, bits_stored, selection),
                rows,
                columns,
                samples,
                bits_stored,
                is_signed=False,
                photometric_interpretation=_colour_of_jpeg(frame, process, transform),
            )
    raise UnsupportedTransferSyntax


def _choose_jpeg(process: int, bits_stored: int, selection: int) -> str:
    """Return the transfer syntax, empty if there is none; ``selection`` is the predictor, or NEAR of JPEG-LS."""
    if process == _JPEG_LS:
        return syntaxes.JPEG_LS_NEAR_LOSSLESS if selection else syntaxes.JPEG_LS_LOSSLESS
    if process == _LOSSLESS:
        return syntaxes.JPEG_LOSSLESS_SV1 if selection == 1 else syntaxes.JPEG_LOSSLESS
    if process == _BASELINE and bits_stored == 8:
        return syntaxes.JPEG_BASELINE
    return syntaxes.JPEG_EXTENDED if process == _EXTENDED else ""


def _colour_of_jpeg(frame: bytes, process: int, transform: int) -> str:
    """Return the Photometric Interpretation; ``transform`` is Adobe's, -1 if it says nothing."""
    if frame[5] == 1:
        return "MONOCHROME2"
    identifiers = frame[6], frame[9], frame[12]
    is_rgb = transform == 0 or (transform < 0 and bytes(identifiers) == b"RGB")
    if is_rgb or process in (_LOSSLESS, _JPEG_LS):
        return "RGB"
    # PS3.5 8.2.1: subsampled in any way it is called 422.
    return "YBR_FULL" if frame[7] == frame[10] == frame[13] else "YBR_FULL_422"


def _read_jpeg_2000(source: RangedSource, start: int, end: int) -> Codestream:
    size, coding, is_high_throughput, has_lengths = b"", b"", False, False
    for marker, segment in _segments(source, start, end):
        if marker == _SIZE:
            size = segment
            is_high_throughput |= bool(segment[0] & 0x40)
        elif marker == _CODING:
            coding = segment
        elif marker == _TILE:
            break
        is_high_throughput |= marker == _CAPABILITIES
        has_lengths |= marker == _LENGTHS
    _, width, height, left, top = struct.unpack_from(">HLLLL", size)
    (samples,) = struct.unpack_from(">H", size, 34)
    _, progression, _, transform, _, _, _, _, wavelet = struct.unpack_from(">BBHBBBBBB", coding)
    is_reversible = wavelet == 1
    if is_high_throughput and is_reversible:
        is_progressive = progression == _RPCL and has_lengths
        uid = syntaxes.HTJ2K_LOSSLESS_RPCL if is_progressive else syntaxes.HTJ2K_LOSSLESS
    elif is_high_throughput:
        uid = syntaxes.HTJ2K
    else:
        uid = syntaxes.JPEG_2000_LOSSLESS if is_reversible else syntaxes.JPEG_2000
    colour = ("YBR_RCT" if is_reversible else "YBR_ICT") if transform else "RGB"
    return Codestream(
        uid,
        height - top if 0 < height - top < 0x10000 else 0,
        width - left if 0 < width - left < 0x10000 else 0,
        samples,
        bits_stored=(size[36] & 0x7F) + 1,
        is_signed=bool(size[36] & 0x80),
        photometric_interpretation="MONOCHROME2" if samples == 1 else colour,
    )
