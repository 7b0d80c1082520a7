"""Colours for the labels of a label map segmentation (PS3.3 C.8.20.2), whose numbers mean nothing as brightness."""

import colorsys
from typing import Any

import numpy as np
import numpy.typing as npt

from pacs.imaging.grayscale import number_of
from pacs.model import Attributes
from pacs.tags import text_of, values_of

Pixels = npt.NDArray[np.uint8]

LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"

_GOLDEN = 0.618034  # turns of the hue: whatever the number of labels, neighbours look different
_WHITE_D50 = (0.96422, 1.0, 0.82521)
_TO_LINEAR_SRGB = (
    (3.1338561, -1.6168667, -0.4906146),
    (-0.9787684, 1.9161415, 0.0334540),
    (0.0719453, -0.2289914, 1.4052427),
)


def is_label_map(attributes: Attributes) -> bool:
    """Whether stored values are numbers of segments, and no palette says how they look."""
    is_monochrome = text_of(attributes, "PhotometricInterpretation") == "MONOCHROME2"
    return is_monochrome and text_of(attributes, "SOPClassUID") == LABEL_MAP


def color_labels(attributes: Attributes, count: int) -> Pixels:
    """Return ``count`` x 3, the colour of each label: as recommended, else one that differs from its neighbours'.

    Label 0 is black, and so is the value that pads (PS3.3 C.8.20.2.3: both mean that nothing was found there), unless
    they are recommended a colour.
    """
    table = np.array([_other_colour(label) for label in range(min(count, 256))], np.uint8)
    table = np.resize(table, (count, 3))
    padding = number_of(attributes, "PixelPaddingValue")
    for label in (0, 0 if padding is None else int(padding)):
        if 0 <= label < count:
            table[label] = 0
    for segment in values_of(attributes, "SegmentSequence"):
        number = number_of(segment, "SegmentNumber") if isinstance(segment, dict) else None
        lab = values_of(segment, "RecommendedDisplayCIELabValue") if number is not None else []
        if number is not None and 0 <= number < count and len(lab) == 3:
            table[int(number)] = lab_to_rgb(lab)
    return table


def lab_to_rgb(values: list[Any]) -> tuple[int, int, int]:
    """Return a CIELab value of DICOM, three numbers of 16 bits (PS3.3 C.10.7.1.1), as sRGB; black if it is none."""
    if not all(isinstance(value, int | float) and 0 <= value <= 0xFFFF for value in values):
        return (0, 0, 0)
    lightness = values[0] * 100 / 0xFFFF
    a, b = (value * 255 / 0xFFFF - 128 for value in values[1:])
    y = (lightness + 16) / 116
    xyz = [_light(part) * white for part, white in zip((y + a / 500, y, y - b / 200), _WHITE_D50, strict=True)]
    linear = np.clip(np.array(_TO_LINEAR_SRGB) @ xyz, 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    red, green, blue = (int(value) for value in np.rint(encoded * 255))
    return red, green, blue


def _light(part: float) -> float:
    return part**3 if part > 6 / 29 else 3 * (6 / 29) ** 2 * (part - 4 / 29)


def _other_colour(label: int) -> tuple[int, ...]:
    return tuple(round(part * 255) for part in colorsys.hsv_to_rgb(label * _GOLDEN % 1, 0.75, 1.0))
