"""One decoded frame to gray levels or RGB (PS3.4 N.2): modality and VOI, palettes, colour spaces, overlays.

Of samples up to 16 bits the whole way is walked once for every value there can be, and the frame is looked up in that
table: however large the frame, what it costs beside itself is one byte a sample.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pacs.errors import CorruptPixelData, NotAcceptable
from pacs.imaging.codecs import DecodedFrame, PixelDescription
from pacs.imaging.colour import apply_palette, read_palette, spread_chroma, to_rgb
from pacs.imaging.grayscale import (
    MAX_ENTRIES,
    Grayscale,
    Lut,
    Modality,
    ReadValue,
    Span,
    Voi,
    Window,
    is_inverted,
    number_of,
    read_modality,
    read_presentation,
    read_voi,
)
from pacs.imaging.labels import color_labels, is_label_map
from pacs.model import Attributes
from pacs.tags import text_of, values_of

Array = npt.NDArray[Any]
Pixels = npt.NDArray[np.uint8]

MAX_PIXELS = 2**26
_ROWS_AT_ONCE = 64
_FLOATS = {"7FE00008": "<f4", "7FE00009": "<f8"}
_OVERLAY_GROUPS = range(0x6000, 0x6020, 2)
_FRAME_GROUPS = ("PixelValueTransformationSequence", "FrameVOILUTSequence")
_SUPPLEMENTED = ("COLOR", "MIXED")
_WHITE = 255
_BITS = "Images of this many bits a pixel are not rendered."


@dataclass(frozen=True, slots=True)
class ImageSource:
    """What a frame is rendered from: the data set as received, and where its pixels lie.

    ``read`` gives the bytes of its binary elements; ``pixel_tag`` tells integers from floats. What a presentation state
    has laid over it ``is_presented``: then a transformation that is not there is the identity (PS3.4 N.2).
    """

    attributes: Attributes
    read: ReadValue
    pixel_tag: str = "7FE00010"
    is_presented: bool = False


def render_frame(source: ImageSource, frame: DecodedFrame, frame_index: int, window: Window | None = None) -> Pixels:
    """Return one frame as rows x columns of gray, or x 3 of RGB; ``window`` goes before the image's own.

    ``frame_index`` counts from 0. Raises NotAcceptable for what is not rendered, CorruptPixelData for a frame that is
    shorter than the data set says.
    """
    attributes = attributes_of_frame(source.attributes, frame_index)
    description = PixelDescription.from_attributes(attributes)
    check_size(description)
    if description.samples_per_pixel == 1:
        if source.pixel_tag in _FLOATS:
            return _render_floats(source, attributes, frame, description, window)
        raw = _read_plane(frame.pixels, description)
        pixels = _render_plane(source, attributes, raw, description, window)
    else:
        raw = np.empty((0, 0), np.uint8)
        pixels = to_rgb(_read_colours(frame, description), frame.photometric_interpretation, description.bits_stored)
    for group in _OVERLAY_GROUPS:
        _draw_overlay(pixels, raw, source, frame_index, f"{group:04X}")
    return pixels


def check_size(description: PixelDescription) -> None:
    """Raise NotAcceptable for a frame that is empty or too large to be rendered, or whose bits make no sense."""
    rows, columns = description.rows, description.columns
    if rows <= 0 or columns <= 0 or rows * columns > MAX_PIXELS:
        raise NotAcceptable("The frames are larger than this archive renders, or empty.")
    if not 1 <= description.bits_stored <= description.bits_allocated <= 64:
        raise NotAcceptable(_BITS)


def attributes_of_frame(attributes: Attributes, frame_index: int) -> Attributes:
    """Return the data set with what the functional groups (PS3.3 C.7.6.16) say of a frame laid over it."""
    merged = dict(attributes)
    shared = _item(values_of(attributes, "SharedFunctionalGroupsSequence"))
    own = _item(values_of(attributes, "PerFrameFunctionalGroupsSequence")[frame_index:])
    for groups in (shared, own):
        for keyword in _FRAME_GROUPS:
            merged |= _item(values_of(groups, keyword))
    return merged


def _item(items: list[Any]) -> Attributes:
    """Return the first item of a sequence; nothing where there is none, or the value is no sequence at all."""
    return items[0] if items and isinstance(items[0], dict) else {}


def _render_plane(
    source: ImageSource, attributes: Attributes, raw: Array, description: PixelDescription, window: Window | None
) -> Pixels:
    is_signed = description.pixel_representation == 1
    if raw.dtype.itemsize > 2:
        values = raw.view(f"<i{raw.dtype.itemsize}") if is_signed else raw
        return _in_bands(_grayscale(source, attributes, lambda: values, description, window), values)
    domain = np.arange(1 << description.bits_stored, dtype=np.int64)
    if is_signed:
        domain[len(domain) // 2 :] -= len(domain)
    if text_of(attributes, "PhotometricInterpretation") == "PALETTE COLOR":
        table = apply_palette(read_palette(attributes, source.read, is_signed=is_signed), domain)
        return _look_up(table, raw)
    if is_label_map(attributes):
        return _look_up(color_labels(attributes, len(domain)), raw)
    way = _grayscale(source, attributes, lambda: _present(domain, raw, description), description, window)
    table = way.to_gray(domain)
    if text_of(attributes, "PixelPresentation") in _SUPPLEMENTED and not source.is_presented:
        palette = read_palette(attributes, source.read, is_signed=is_signed)
        table = np.repeat(table[:, None], 3, axis=1)
        # The palette is for the values from its first one on; those below it are gray (PS3.3 C.7.6.23).
        is_coloured = domain >= palette[0].first
        table[is_coloured] = apply_palette(palette, domain[is_coloured])
    return _look_up(table, raw)


def _present(domain: Array, raw: Array, description: PixelDescription) -> Array:
    """Return which values of the domain the frame has."""
    is_present = np.zeros(len(domain), np.bool_)
    for band in _bands(raw):
        is_present[_stored_bits(band, description)] = True
    return domain[is_present]


def _look_up(table: Pixels, raw: Array) -> Pixels:
    """Return what the table, an entry for every stored value, says of each sample.

    Repeated for every value of the samples' type it needs nobody to take away the bits beside a stored value.
    """
    entries = np.resize(table, (1 << 8 * raw.dtype.itemsize, *table.shape[1:]))
    pixels = np.empty((*raw.shape, *table.shape[1:]), np.uint8)
    for source, target in zip(_bands(raw), _bands(pixels), strict=True):
        np.take(entries, source, axis=0, out=target, mode="clip")  # any other mode makes a copy first
    return pixels


def _bands(plane: Array) -> Iterator[Array]:
    """Yield a few rows at a time: numpy needs eight bytes a sample for what it does with them."""
    for row in range(0, len(plane), _ROWS_AT_ONCE):
        yield plane[row : row + _ROWS_AT_ONCE]


def _render_floats(
    source: ImageSource,
    attributes: Attributes,
    frame: DecodedFrame,
    description: PixelDescription,
    window: Window | None,
) -> Pixels:
    values = _shape(np.frombuffer(frame.pixels, _FLOATS[source.pixel_tag]), description)
    return _in_bands(_grayscale(source, attributes, lambda: values, description, window), values)


def _in_bands(grayscale: Grayscale, values: Array) -> Pixels:
    pixels = np.empty(values.shape, np.uint8)
    for source, target in zip(_bands(values), _bands(pixels), strict=True):
        target[:] = grayscale.to_gray(source)
    return pixels


def _grayscale(
    source: ImageSource,
    attributes: Attributes,
    find_values: Callable[[], Array],
    description: PixelDescription,
    window: Window | None,
) -> Grayscale:
    """Return the way for a frame; which values it has is asked only where nothing says what to show."""
    is_signed = description.pixel_representation == 1
    modality = read_modality(attributes, source.read, is_signed=is_signed)
    voi: Voi | None = window or read_voi(attributes, source.read, is_signed=is_signed)
    if voi is None and source.is_presented and source.pixel_tag not in _FLOATS:
        voi = _full_span(modality, description)
    voi = voi or _span(attributes, find_values(), modality, description)
    return Grayscale(modality, voi, is_inverted(attributes), read_presentation(attributes, source.read))


def _full_span(modality: Modality, description: PixelDescription) -> Span:
    """Return the range of everything that could have been stored, or be in the table."""
    if isinstance(modality, Lut):
        return Span(0, (1 << modality.bits) - 1)
    low = -(1 << (description.bits_stored - 1)) if description.pixel_representation == 1 else 0
    ends = modality.look_up(np.array([low, low + (1 << description.bits_stored) - 1], np.float64))
    return Span(float(ends.min()), float(ends.max()))


def _span(attributes: Attributes, values: Array, modality: Modality, description: PixelDescription) -> Span:
    """Return what to show where nothing says so: the range of the frame's values, but those that pad it.

    Unsigned values of up to 8 bits that mean nothing but brightness were made for a screen, and are shown as they are.
    """
    identity = ("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence")
    is_brightness = values.dtype.kind != "f" and description.bits_stored <= 8 and not description.pixel_representation
    if is_brightness and not any(values_of(attributes, keyword) for keyword in identity):
        return Span(0, (1 << description.bits_stored) - 1)
    shown = values[np.isfinite(values) & ~_is_padding(attributes, values)]
    if not shown.size:
        return Span(0, 1)
    # A rescaling is monotone, so that two values are enough; a table need not be, and comes with few values.
    with np.errstate(all="ignore"):
        ends = np.nan_to_num(
            modality.look_up(shown if shown.size <= MAX_ENTRIES else np.array([shown.min(), shown.max()]))
        )
    return Span(float(ends.min()), float(ends.max()))


def _is_padding(attributes: Attributes, values: Array) -> Array:
    """Return which values are Pixel Padding (PS3.3 C.7.5.1.1.2), a value or a range either way round."""
    keywords = ("FloatPixelPaddingValue", "DoubleFloatPixelPaddingValue", "PixelPaddingValue")
    value = next((number for keyword in keywords if (number := number_of(attributes, keyword)) is not None), None)
    if value is None:
        return np.zeros(values.shape, np.bool_)
    limit = number_of(attributes, "PixelPaddingRangeLimit")
    low, high = sorted((value, value if limit is None else limit))
    padding: Array = (values >= low) & (values <= high)
    return padding


def _read_plane(data: bytes, description: PixelDescription) -> Array:
    if description.bits_allocated == 1:
        bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
        return _shape(bits, description)
    if description.bits_allocated not in (8, 16, 32, 64):
        raise NotAcceptable(_BITS)
    width = description.sample_bytes
    return _shape(np.frombuffer(data[: len(data) // width * width], f"<u{width}"), description)


def _shape(samples: Array, description: PixelDescription) -> Array:
    count = description.rows * description.columns
    if len(samples) < count:
        raise CorruptPixelData("The frame is shorter than the data set says.")
    return samples[:count].reshape(description.rows, description.columns)


def _stored_bits(raw: Array, description: PixelDescription) -> Array:
    """Return the bits that are pixel value; whatever is beside them is an overlay's or nobody's."""
    stored: Array = raw & np.array((1 << description.bits_stored) - 1, raw.dtype)
    return stored


def _read_colours(frame: DecodedFrame, description: PixelDescription) -> Array:
    """Return rows x columns x 3 of a frame, however its samples lie."""
    rows, columns, samples = description.rows, description.columns, description.samples_per_pixel
    if samples != 3 or description.bits_allocated not in (8, 16, 32):
        raise NotAcceptable("Images of this many samples or bits a pixel are not rendered.")
    width = description.sample_bytes
    is_halved = frame.photometric_interpretation == "YBR_FULL_422" and len(frame.pixels) < description.frame_bytes
    if len(frame.pixels) < (rows * columns * 2 if is_halved else description.frame_bytes) or (
        is_halved and (width > 1 or columns % 2)
    ):
        raise CorruptPixelData("The frame is shorter than the data set says.")
    if is_halved:
        return spread_chroma(frame.pixels, rows, columns)
    flat = np.frombuffer(frame.pixels, f"<u{width}")[: rows * columns * 3]
    if description.planar_configuration == 1:
        return flat.reshape(3, rows, columns).transpose(1, 2, 0)
    return flat.reshape(rows, columns, 3)


def _draw_overlay(pixels: Pixels, raw: Array, source: ImageSource, frame_index: int, group: str) -> None:
    """Draw one overlay plane (PS3.3 C.9.2) in white; one that makes no sense is passed over."""
    plane = _overlay_plane(raw, source, frame_index, group)
    if plane is None:
        return
    row, column = _integers(source.attributes, f"{group}0050", (1, 1))
    top, left = row - 1, column - 1  # the origin counts from 1, and may lie outside the image
    plane = plane[max(0, -top) :, max(0, -left) :]
    target = pixels[max(0, top) :, max(0, left) :][: plane.shape[0], : plane.shape[1]]
    target[plane[: target.shape[0], : target.shape[1]].astype(np.bool_)] = _WHITE


def _overlay_plane(raw: Array, source: ImageSource, frame_index: int, group: str) -> Array | None:
    attributes = source.attributes
    rows, columns = (_integers(attributes, f"{group}{element}", (0,))[0] for element in ("0010", "0011"))
    if not 0 < rows * columns <= MAX_PIXELS or rows < 0:
        return None
    data = attributes.get(f"{group}3000")
    if data is None:
        position = _integers(attributes, f"{group}0102", (0,))[0]
        is_embedded = raw.size and 0 < position < 8 * raw.dtype.itemsize and f"{group}0010" in attributes
        return (raw >> position) & 1 if is_embedded else None
    count = _integers(attributes, f"{group}0015", (1,))[0]
    first = _integers(attributes, f"{group}0051", (1,))[0] - 1
    index = frame_index - first if count > 1 or f"{group}0051" in attributes else 0
    if not 0 <= index < max(1, count):
        return None
    start = index * rows * columns
    packed = np.frombuffer(source.read(data), np.uint8)[start // 8 : (start + rows * columns + 7) // 8]
    bits = np.unpackbits(packed, bitorder="little")[start % 8 : start % 8 + rows * columns]
    return bits.reshape(rows, columns) if len(bits) == rows * columns else None


def _integers(attributes: Attributes, tag: str, default: tuple[int, ...]) -> tuple[int, ...]:
    values = attributes.get(tag, {}).get("Value", [])
    try:
        numbers = tuple(int(value) for value in values[: len(default)])
    except (ValueError, TypeError, OverflowError):
        return default
    return numbers if len(numbers) == len(default) else default
