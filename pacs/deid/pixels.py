"""Pixels blacked out where text is, or may be; all the others stay what they were.

Frames are cleaned one by one and written native: what was compressed is decoded by whoever the engine was handed, for
codecs are not this package's affair, and stays decoded, so that nothing is lost a second time.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from pacs.deid.profile import DeviceRectangles
from pacs.deid.reading import Element, Elements, ParsedFile, PixelSource, swapped
from pacs.deid.reasons import Quarantine, Reason
from pacs.deid.risk import number_at, text_at

Mask = npt.NDArray[np.bool_]

_REGIONS = 0x00186011
_EDGES = (0x00186018, 0x0018601A, 0x0018601C, 0x0018601E)
ROWS, COLUMNS, SAMPLES, FRAMES = 0x00280010, 0x00280011, 0x00280002, 0x00280008
PHOTOMETRIC, PLANAR = 0x00280004, 0x00280006
BITS_ALLOCATED, BITS_STORED, SIGN = 0x00280100, 0x00280101, 0x00280103
_MAX_FRAME_BYTES = 1 << 30
_MAX_OFFSETS = 1 << 20
_MAX_PIXELS = 1 << 28
"""Of one frame: what is larger has no place in a mask in memory."""


@dataclass(frozen=True, slots=True)
class Image:
    """What the Image Pixel module says of one frame."""

    rows: int
    columns: int
    samples_per_pixel: int
    bits_allocated: int
    bits_stored: int
    pixel_representation: int
    photometric_interpretation: str
    planar_configuration: int
    frames: int

    @classmethod
    def of(cls, elements: Elements) -> "Image":
        """Read the description of an image."""
        bits_allocated = number_at(elements, BITS_ALLOCATED)
        return cls(
            rows=number_at(elements, ROWS),
            columns=number_at(elements, COLUMNS),
            samples_per_pixel=number_at(elements, SAMPLES, 1),
            bits_allocated=bits_allocated,
            bits_stored=number_at(elements, BITS_STORED, bits_allocated),
            pixel_representation=number_at(elements, SIGN),
            photometric_interpretation=text_at(elements, PHOTOMETRIC),
            planar_configuration=number_at(elements, PLANAR),
            # What is no number of frames makes an image of unknown length.
            frames=number_at(elements, FRAMES, 0 if text_at(elements, FRAMES) else 1),
        )

    @property
    def frame_bits(self) -> int:
        """The length of a native frame; 4:2:2 has half of the chroma."""
        bits = self.rows * self.columns * self.samples_per_pixel * self.bits_allocated
        return bits * 2 // 3 if self.photometric_interpretation == "YBR_FULL_422" else bits

    @property
    def total_bytes(self) -> int:
        """The length of all native frames, before padding."""
        return (self.frame_bits * self.frames + 7) // 8


class FrameDecoder(Protocol):
    """Decodes one encapsulated frame."""

    def __call__(self, transfer_syntax_uid: str, frame: bytes, image: Image) -> tuple[bytes, str]:
        """Return the native frame, little endian, and its Photometric Interpretation; raise PacsError if it cannot."""
        ...


Lettering = Callable[[npt.NDArray[Any]], bool]
"""Whether text is read in a frame of 8 bits, rows x columns."""


def ultrasound_mask(elements: Elements, image: Image) -> Mask | None:
    """Return what to black out: all but the union of the ultrasound regions. None if they do not say what is image.

    Regions that cover everything say nothing, for somewhere the device wrote its text.
    """
    sequence = elements.get(_REGIONS)
    if sequence is None or not sequence.items or not 0 < image.rows * image.columns <= _MAX_PIXELS:
        return None
    hidden: Mask = np.ones((image.rows, image.columns), dtype=np.bool_)
    for region in sequence.items:
        edges = [region.get(tag) for tag in _EDGES]
        numbers = [int.from_bytes(edge.value[:4], "little") for edge in edges if edge is not None and _is_number(edge)]
        if len(numbers) != len(_EDGES):
            return None
        left, top, right, bottom = numbers
        hidden[top : bottom + 1, left : right + 1] = False
    return hidden if hidden.any() and not hidden.all() else None


def _is_number(element: Element) -> bool:
    return element.vr in ("UL", "SL") and len(element.value) >= 4


def device_mask(device: DeviceRectangles, image: Image) -> Mask:
    """Return what to black out on the images of a device."""
    if image.rows * image.columns > _MAX_PIXELS:
        raise Quarantine([Reason.TOO_LARGE])
    hidden: Mask = np.zeros((image.rows, image.columns), dtype=np.bool_)
    for left, top, right, bottom in device.rectangles:
        hidden[top:bottom, left:right] = True
    return hidden


def iter_frames(parsed: ParsedFile, image: Image, decode: FrameDecoder | None) -> Iterator[tuple[bytes, str]]:
    """Yield every frame native and little endian, with its Photometric Interpretation.

    Raises Quarantine if one cannot be had.
    """
    pixels = parsed.pixels
    frame_bytes = image.frame_bits // 8
    if pixels is None or image.frames < 1 or image.frame_bits % 8 or not 0 < frame_bytes <= _MAX_FRAME_BYTES:
        raise Quarantine([Reason.UNDECODABLE])
    if pixels.is_encapsulated:
        for frame in _encapsulated_frames(parsed.stream, pixels, image.frames):
            if decode is None:
                raise Quarantine([Reason.UNDECODABLE])
            try:
                yield decode(parsed.transfer_syntax_uid, frame, image)
            except Exception as error:
                raise Quarantine([Reason.UNDECODABLE]) from error
        return
    if pixels.length < image.total_bytes:
        raise Quarantine([Reason.PIXEL_LENGTH])
    width = image.bits_allocated // 8
    for number in range(image.frames):
        parsed.stream.seek(pixels.offset + number * frame_bytes)
        frame = parsed.stream.read(frame_bytes)
        if parsed.is_big_endian and width > 1:
            frame = swapped(frame, width)
        yield frame, image.photometric_interpretation


def _encapsulated_frames(stream: BinaryIO, pixels: PixelSource, frames: int) -> Iterator[bytes]:
    groups: list[list[tuple[int, int]]]
    if frames == 1:
        groups = [list(pixels.fragments)]
    elif len(pixels.fragments) == frames:
        groups = [[fragment] for fragment in pixels.fragments]
    else:
        groups = _by_offset_table(pixels, frames)
    for group in groups:
        parts = []
        for offset, length in group:
            stream.seek(offset)
            parts.append(stream.read(length))
        yield b"".join(parts)


def _by_offset_table(pixels: PixelSource, frames: int) -> list[list[tuple[int, int]]]:
    table = pixels.offset_table
    starts = {int.from_bytes(table[place : place + 4], "little") for place in range(0, len(table), 4)}
    if len(starts) != frames or not pixels.fragments or len(table) > _MAX_OFFSETS:
        raise Quarantine([Reason.UNDECODABLE])
    first = pixels.fragments[0][0] - 8
    groups: list[list[tuple[int, int]]] = []
    for offset, length in pixels.fragments:
        if offset - 8 - first in starts:
            groups.append([])
        if not groups:
            raise Quarantine([Reason.UNDECODABLE])
        groups[-1].append((offset, length))
    if len(groups) != frames:
        raise Quarantine([Reason.UNDECODABLE])
    return groups


def black_out(frame: bytes, photometric_interpretation: str, image: Image, hidden: Mask) -> bytes:
    """Return a native frame whose pixels are black where ``hidden`` is true. Raises Quarantine for odd layouts."""
    if image.bits_allocated not in (8, 16, 32) or photometric_interpretation == "YBR_FULL_422":
        raise Quarantine([Reason.UNDECODABLE])
    kind = np.dtype(f"<u{image.bits_allocated // 8}")
    samples = np.frombuffer(frame, dtype=kind).copy()
    if samples.size != image.rows * image.columns * image.samples_per_pixel:
        raise Quarantine([Reason.UNDECODABLE])
    black = _black(photometric_interpretation, image)
    if image.samples_per_pixel == 1:
        samples.reshape(image.rows, image.columns)[hidden] = black[0]
    elif image.planar_configuration == 1:
        planes = samples.reshape(image.samples_per_pixel, image.rows, image.columns)
        for plane, value in zip(planes, black, strict=False):
            plane[hidden] = value
    else:
        samples.reshape(image.rows, image.columns, image.samples_per_pixel)[hidden] = black[: image.samples_per_pixel]
    return samples.tobytes()


def _black(photometric_interpretation: str, image: Image) -> list[int]:
    if photometric_interpretation == "MONOCHROME1":
        stored = image.bits_stored - image.pixel_representation
        return [(1 << stored) - 1]
    if photometric_interpretation.startswith("YBR"):
        middle = 1 << image.bits_stored - 1
        return [0, middle, middle, 0]
    return [0, 0, 0, 0]


def as_picture(frame: bytes, image: Image) -> npt.NDArray[Any] | None:
    """Return a native frame as 8 bits of gray, stretched to its range, to be read by machines; None if it is odd."""
    if image.bits_allocated not in (8, 16, 32):
        return None
    sign = "i" if image.pixel_representation else "u"
    samples = np.frombuffer(frame, dtype=np.dtype(f"<{sign}{image.bits_allocated // 8}"))
    if samples.size != image.rows * image.columns * image.samples_per_pixel or not samples.size:
        return None
    if image.samples_per_pixel > 1:
        shape = (image.rows, image.columns, image.samples_per_pixel)
        if image.planar_configuration == 1:
            samples = samples.reshape(shape[2], *shape[:2]).transpose(1, 2, 0)
        samples = samples.reshape(shape).max(axis=2)
    picture = samples.reshape(image.rows, image.columns).astype(np.float64)
    low, high = picture.min(), picture.max()
    gray: npt.NDArray[np.uint8] = ((picture - low) * (255 / (high - low or 1))).astype(np.uint8)
    return gray
