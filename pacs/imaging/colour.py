"""The colour half of the pixel transformation sequence (PS3.4 N.2): palettes, luminance and chroma to RGB of 8 bits."""

from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.pixels.processing import convert_color_space

from pacs.errors import NotAcceptable
from pacs.imaging.grayscale import MAX_ENTRIES, Lut, ReadValue, read_lut
from pacs.model import Attributes
from pacs.tags import tag_of, values_of

Array = npt.NDArray[Any]

_ROWS_AT_ONCE = 64
_COLOURS = ("Red", "Green", "Blue")
_RGB = frozenset({"RGB", "YBR_ICT", "YBR_RCT"})
_YBR = frozenset({"YBR_FULL", "YBR_FULL_422"})
_NO_PALETTE = "The image's palette is missing or cannot be understood."


def to_rgb(samples: Array, photometric_interpretation: str, bits_stored: int) -> npt.NDArray[np.uint8]:
    """Return rows x columns x 3 as RGB; raise NotAcceptable for a colour space that this archive does not render.

    The reversible and irreversible colour transformations (YBR_RCT, YBR_ICT) are undone by the codec already.
    """
    if photometric_interpretation not in _RGB | _YBR:
        raise NotAcceptable("Images of this photometric interpretation are not rendered.")
    if samples.dtype != np.uint8 or bits_stored < 8:
        samples = np.rint(samples / ((1 << bits_stored) - 1) * 255).astype(np.uint8)
    if photometric_interpretation in _YBR:
        rgb = np.empty_like(samples)
        for row in range(0, len(samples), _ROWS_AT_ONCE):  # the conversion needs eight bytes a sample
            rgb[row : row + _ROWS_AT_ONCE] = convert_color_space(samples[row : row + _ROWS_AT_ONCE], "YBR_FULL", "RGB")
        return rgb
    return samples


def spread_chroma(frame: bytes, rows: int, columns: int) -> Array:
    """Return a native YBR_FULL_422 frame of 8 bits, Y1 Y2 Cb Cr (PS3.3 C.7.6.3.1.2), as rows x columns x 3."""
    quads = np.frombuffer(frame, np.uint8)[: rows * columns * 2].reshape(-1, 4)
    samples = np.empty((len(quads), 2, 3), np.uint8)
    samples[:, :, 0] = quads[:, :2]
    samples[:, :, 1] = quads[:, 2:3]
    samples[:, :, 2] = quads[:, 3:4]
    return samples.reshape(rows, columns, 3)


def read_palette(attributes: Attributes, read: ReadValue, *, is_signed: bool) -> tuple[Lut, Lut, Lut]:
    """Return the red, green and blue tables (PS3.3 C.7.9); raise NotAcceptable if they are not there."""
    red, green, blue = (_read_channel(attributes, colour, read, is_signed=is_signed) for colour in _COLOURS)
    return red, green, blue


def apply_palette(palette: tuple[Lut, Lut, Lut], values: Array) -> npt.NDArray[np.uint8]:
    """Return the colours of stored values, along a new last axis; of 16 bits the high ones."""
    channels = [lut.look_up(values) >> max(lut.bits - 8, 0) for lut in palette]
    return np.stack(channels, axis=-1).astype(np.uint8)


def expand_segments(data: Array, count: int) -> Array:
    """Return at most ``count`` entries of a segmented table (PS3.3 C.7.9.2); raise ValueError if it is malformed.

    ``data`` are the words, or the bytes of a table of 8 bits. An indirect segment may only copy discrete and linear
    ones, so that none calls itself; offsets count bytes.
    """
    words = [int(word) for word in data]
    entries: list[int] = []
    position = 0
    while len(entries) < count and position + 2 <= len(words):
        if words[position] == 2:
            segments, offset = words[position + 1], _offset(words[position + 2 :], data.dtype.itemsize)
            position += 4 if data.dtype.itemsize == 2 else 6
            for _ in range(segments):
                offset = _expand_one(words, offset, entries)
                if len(entries) >= count:
                    break
        else:
            position = _expand_one(words, position, entries)
    return np.array(entries[:count], data.dtype)


def _expand_one(words: list[int], position: int, entries: list[int]) -> int:
    """Append one discrete or linear segment and return where the next one begins."""
    if position + 3 > len(words) or words[position] > 1 or not words[position + 1]:
        raise ValueError("not a segment")
    kind, length = words[position : position + 2]
    if kind == 0:
        entries += words[position + 2 : position + 2 + length]
        return position + 2 + length
    if not entries:
        raise ValueError("a line from nowhere")
    start, end = entries[-1], words[position + 2]
    entries += [round(start + (end - start) * step / length) for step in range(1, length + 1)]
    return position + 3


def _offset(words: list[int], word_bytes: int) -> int:
    """Return the index an indirect segment points to: a byte offset of 32 bits, the least significant part first."""
    parts = words[: 4 // word_bytes]
    return sum(part << (8 * word_bytes * index) for index, part in enumerate(parts)) // word_bytes


def _read_channel(attributes: Attributes, colour: str, read: ReadValue, *, is_signed: bool) -> Lut:
    descriptor = values_of(attributes, f"{colour}PaletteColorLookupTableDescriptor")
    plain = attributes.get(tag_of(f"{colour}PaletteColorLookupTableData"))
    segmented = attributes.get(tag_of(f"Segmented{colour}PaletteColorLookupTableData"))
    lut = None
    if plain:
        lut = read_lut(descriptor, plain, read, is_signed=is_signed)
    elif segmented and len(descriptor) == 3:
        data = read(segmented)[: 4 * MAX_ENTRIES]
        kind = np.dtype("u1" if descriptor[2] == 8 else "<u2")
        try:
            words = np.frombuffer(data[: len(data) // kind.itemsize * kind.itemsize], kind)
            entries = expand_segments(words, int(descriptor[0]) or MAX_ENTRIES)
        except (ValueError, TypeError, OverflowError):
            raise NotAcceptable(_NO_PALETTE) from None
        lut = read_lut(descriptor, {}, lambda _: entries.tobytes(), is_signed=is_signed)
    if lut is None:
        raise NotAcceptable(_NO_PALETTE)
    # Entries of 8 bits may lie in words of 16; entries of 16 are told from them by what the descriptor says.
    return Lut(lut.first, lut.entries, max(lut.bits, 8))
