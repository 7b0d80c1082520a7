"""The grayscale half of the pixel transformation sequence (PS3.4 N.2): stored values to what a screen is given.

Values are float arrays on the way and fractions of full brightness at its end. Nothing here knows of frames.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from pacs.model import Attributes
from pacs.tags import tag_of, text_of, values_of

Array = npt.NDArray[Any]

ReadValue = Callable[[Attributes], bytes]
"""Returns the bytes of a binary element, little endian, wherever they are kept."""

MAX_ENTRIES = 65_536


class Shape(StrEnum):
    """VOI LUT Function (0028,1056)."""

    LINEAR = "LINEAR"
    LINEAR_EXACT = "LINEAR_EXACT"
    SIGMOID = "SIGMOID"


@dataclass(frozen=True, slots=True)
class Window:
    """A window (PS3.3 C.11.2.1.2 and C.11.2.1.3); ``width`` is positive, of a linear one at least 1."""

    center: float
    width: float
    shape: Shape = Shape.LINEAR

    def __post_init__(self) -> None:
        """Raise ValueError for a window that shows nothing."""
        if not (math.isfinite(self.center) and math.isfinite(self.width)):
            raise ValueError("The window's center and width must be numbers.")
        if self.width <= 0 or (self.shape is Shape.LINEAR and self.width < 1):
            raise ValueError("The window's width must be positive, and at least 1 where it is linear.")

    def apply(self, values: Array) -> Array:
        """Return the fractions of full brightness."""
        if self.shape is Shape.SIGMOID:
            exponent = np.clip(-4 * (values - self.center) / self.width, -700, 700)
            return 1 / (1 + np.exp(exponent))
        if self.shape is Shape.LINEAR_EXACT:
            return np.clip((values - self.center) / self.width + 0.5, 0, 1)
        if self.width == 1:
            return (values > self.center - 0.5).astype(np.float64)
        return np.clip((values - (self.center - 0.5)) / (self.width - 1) + 0.5, 0, 1)


@dataclass(frozen=True, slots=True)
class Span:
    """All values from ``low`` to ``high``, both shown: what stands in where nothing says how to look at an image."""

    low: float
    high: float

    def apply(self, values: Array) -> Array:
        """Return the fractions of full brightness; an image of one value is black."""
        return np.clip((values - self.low) / ((self.high - self.low) or 1), 0, 1)


@dataclass(frozen=True, slots=True, eq=False)
class Lut:
    """A lookup table (PS3.3 C.11.1.1, C.11.2.1.1): what lies outside it gets its first or last entry."""

    first: int
    entries: Array
    bits: int

    def look_up(self, values: Array) -> Array:
        """Return the entries for these values."""
        indexes = np.clip(np.nan_to_num(values) - float(self.first), 0, len(self.entries) - 1).astype(np.intp)
        found: Array = self.entries[indexes]
        return found

    def apply(self, values: Array) -> Array:
        """Return the fractions of full brightness."""
        return self.look_up(values) / float((1 << self.bits) - 1)

    def apply_to_fractions(self, fractions: Array) -> Array:
        """Return the fractions of full brightness for others: the table spans all there can be, dark to bright."""
        return self.apply(self.first + np.rint(fractions * (len(self.entries) - 1)))


@dataclass(frozen=True, slots=True)
class Rescale:
    """Rescale Slope and Intercept (PS3.3 C.11.1)."""

    slope: float = 1.0
    intercept: float = 0.0

    def look_up(self, values: Array) -> Array:
        """Return the rescaled values."""
        return values * self.slope + self.intercept


Modality = Rescale | Lut
Voi = Window | Span | Lut


@dataclass(frozen=True, slots=True)
class Grayscale:
    """One frame's way from stored values to the screen."""

    modality: Modality
    voi: Voi
    is_inverted: bool = False
    presentation: Lut | None = None

    def to_gray(self, values: Array) -> npt.NDArray[np.uint8]:
        """Return gray levels, 0 black and 255 white; what is no number is black."""
        with np.errstate(all="ignore"):  # a slope of 1e300 is nobody's mistake here
            fractions = np.nan_to_num(self.voi.apply(self.modality.look_up(values.astype(np.float64))))
        if self.presentation is not None:
            fractions = self.presentation.apply_to_fractions(fractions)
        if self.is_inverted:
            fractions = 1 - fractions
        gray: npt.NDArray[np.uint8] = np.rint(np.clip(fractions, 0, 1) * 255).astype(np.uint8)
        return gray


def number_of(attributes: Attributes, keyword: str) -> float | None:
    """Return the first value as a finite number, or None."""
    try:
        number = float(text_of(attributes, keyword))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def read_modality(attributes: Attributes, read: ReadValue, *, is_signed: bool) -> Modality:
    """Return the modality transformation of a data set; none at all is the identity."""
    lut = _first_lut(attributes, "ModalityLUTSequence", read, is_signed=is_signed)
    if lut is not None:
        return lut
    slope, intercept = number_of(attributes, "RescaleSlope"), number_of(attributes, "RescaleIntercept")
    return Rescale(1.0 if slope is None else slope, intercept or 0.0)


def read_voi(attributes: Attributes, read: ReadValue, *, is_signed: bool) -> Window | Lut | None:
    """Return the first window of a data set, else its first VOI LUT, else None; what makes no sense is passed over."""
    center, width = number_of(attributes, "WindowCenter"), number_of(attributes, "WindowWidth")
    if center is not None and width is not None and width > 0:
        name = text_of(attributes, "VOILUTFunction").upper()
        shape = Shape(name) if name in set(Shape) else Shape.LINEAR
        # A linear window narrower than 1 is against C.11.2.1.2; PET in SUV has them, and means the exact one.
        return Window(center, width, Shape.LINEAR_EXACT if shape is Shape.LINEAR and width < 1 else shape)
    return _first_lut(attributes, "VOILUTSequence", read, is_signed=is_signed)


def read_presentation(attributes: Attributes, read: ReadValue) -> Lut | None:
    """Return the table of a presentation LUT (PS3.3 C.11.6), if there is one."""
    return _first_lut(attributes, "PresentationLUTSequence", read, is_signed=False)


def is_inverted(attributes: Attributes) -> bool:
    """Whether low values are bright: MONOCHROME1, or Presentation LUT Shape INVERSE, which says the same again."""
    photometric_interpretation = text_of(attributes, "PhotometricInterpretation")
    return photometric_interpretation == "MONOCHROME1" or text_of(attributes, "PresentationLUTShape") == "INVERSE"


def read_lut(descriptor: list[Any], element: Attributes, read: ReadValue, *, is_signed: bool) -> Lut | None:
    """Return a table from its descriptor and data; None if they do not fit together."""
    try:
        count, first, bits = (int(value) for value in descriptor[:3])
    except (ValueError, TypeError, OverflowError):
        return None
    count = count or MAX_ENTRIES
    if is_signed and first >= 0x8000:  # the descriptor is US or SS by Pixel Representation; not every writer knew
        first -= 0x10000
    values = element.get("Value")
    if isinstance(values, list):
        try:
            entries = np.array(values[:MAX_ENTRIES], np.int64).astype(np.uint16)
        except (ValueError, TypeError, OverflowError):
            return None
        if len(entries) < count <= 2 * len(entries):  # two entries of eight bits a word
            entries = np.frombuffer(entries.astype("<u2").tobytes(), np.uint8)
    else:
        data = read(element)
        entries = np.frombuffer(data[: len(data) // 2 * 2], "<u2") if len(data) >= 2 * count else _bytes(data)
    if not (0 < count <= len(entries) and 1 <= bits <= 16):
        return None
    entries = entries[:count]
    # Descriptors exist that claim 8 bits over entries of 12; the entries are right.
    return Lut(first, entries, max(bits, int(entries.max()).bit_length()))


def _bytes(data: bytes) -> Array:
    return np.frombuffer(data, np.uint8)


def _first_lut(attributes: Attributes, keyword: str, read: ReadValue, *, is_signed: bool) -> Lut | None:
    item = next(iter(values_of(attributes, keyword)), None)
    if not isinstance(item, dict):
        return None
    element = item.get(tag_of("LUTData"))
    return read_lut(values_of(item, "LUTDescriptor"), element, read, is_signed=is_signed) if element else None
