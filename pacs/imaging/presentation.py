"""Grayscale and colour softcopy presentation states (PS3.3 A.33, PS3.4 N): how another's image is to be looked at.

A state's transformations take the place of the image's own, and one that the state lacks is none at all (PS3.4 N.2).
"""

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from pacs.imaging.grayscale import ReadValue, number_of
from pacs.imaging.labels import lab_to_rgb
from pacs.model import Attributes
from pacs.tags import tag_of, text_of, values_of

Array = npt.NDArray[Any]
Pixels = npt.NDArray[np.uint8]

MAX_REFERENCES = 2_000
MAX_INLINE_BYTES = 64 * 1024 * 1024
MAX_VERTICES = 4096
_ROWS_AT_ONCE = 64
_FAR = 1e9
_POINTS = {"FL": "<f4", "FD": "<f8"}

_MODALITY = ("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept")
_VOI = ("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence")
_PRESENTATION = ("PresentationLUTShape", "PresentationLUTSequence")
_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_OVERLAYS = tuple(f"{group:04X}" for group in range(0x6000, 0x6020, 2))


@dataclass(frozen=True, slots=True)
class Subject:
    """An image that a state applies to; without ``frame_numbers`` all of its frames."""

    series_instance_uid: str
    sop_instance_uid: str
    frame_numbers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Spot:
    """One frame of one image, for which a state may say something of its own."""

    sop_instance_uid: str
    frame_number: int


def list_subjects(state: Attributes) -> list[Subject]:
    """Return the images that a state applies to, in its order (PS3.3 C.11.11); at most ``MAX_REFERENCES``."""
    return [
        Subject(text_of(series, "SeriesInstanceUID"), *_subject(image))
        for series in items_of(state, "ReferencedSeriesSequence")
        for image in items_of(series, "ReferencedImageSequence")
    ][:MAX_REFERENCES]


def inline(attributes: Attributes, read: ReadValue) -> Attributes:
    """Return a state whose tables and overlays are in it, to be laid over what lies in another file."""
    left = MAX_INLINE_BYTES

    def inlined(level: Attributes) -> Attributes:
        nonlocal left
        copy: Attributes = {}
        for tag, element in level.items():
            if element.get("vr") == "SQ":
                items = [inlined(item) for item in element.get("Value", []) if isinstance(item, dict)]
                copy[tag] = {"vr": "SQ", "Value": items}
            elif "BulkDataURI" in element:
                data = read(element)
                left -= len(data)
                if left >= 0:
                    copy[tag] = _element(element["vr"], data)
            else:
                copy[tag] = element
        return copy

    return inlined(attributes)


def lay_over(image: Attributes, state: Attributes, spot: Spot) -> Attributes:
    """Return the image's data set with the state's transformations and overlays in place of its own."""
    merged = {tag: element for tag, element in image.items() if tag[:4] not in _OVERLAYS}
    for keyword in (*_MODALITY, *_VOI, *_PRESENTATION, *_GROUPS):
        merged.pop(tag_of(keyword), None)
    for keyword in (*_MODALITY, *_PRESENTATION):
        if tag_of(keyword) in state:
            merged[tag_of(keyword)] = state[tag_of(keyword)]
    voi = next(iter_applicable(state, "SoftcopyVOILUTSequence", spot), {})
    merged |= {tag_of(keyword): voi[tag_of(keyword)] for keyword in _VOI if tag_of(keyword) in voi}
    for group in _OVERLAYS:
        merged |= _overlay(image, state, group)
    if text_of(image, "PhotometricInterpretation") == "MONOCHROME1":
        # What comes out of a state are P-Values: 0 is black, whatever the image's stored values meant.
        merged[tag_of("PhotometricInterpretation")] = {"vr": "CS", "Value": ["MONOCHROME2"]}
    return merged


def iter_applicable(state: Attributes, keyword: str, spot: Spot) -> Iterator[Attributes]:
    """Yield the items of a sequence that apply to a frame: those that name it, or no image at all."""
    for item in items_of(state, keyword):
        named = [_subject(image) for image in items_of(item, "ReferencedImageSequence")]
        if not named or any(
            uid == spot.sop_instance_uid and (not numbers or spot.frame_number in numbers) for uid, numbers in named
        ):
            yield item


def draw_shutters(pixels: Pixels, state: Attributes) -> Pixels:
    """Return the image with what lies outside its shutters covered (PS3.3 C.7.6.11); several all have to be open."""
    shapes = {str(shape) for shape in values_of(state, "ShutterShape")}
    if not shapes:
        return pixels
    covered = pixels.copy()
    shade: int | tuple[int, ...] = min(max(0, int(number_of(state, "ShutterPresentationValue") or 0)), 0xFFFF) >> 8
    colour = values_of(state, "ShutterPresentationColorCIELabValue")
    if pixels.ndim == 3 and len(colour) == 3:
        shade = lab_to_rgb(colour)
    polygon = _polygon(state, pixels) if "POLYGONAL" in shapes else None
    for row in range(0, len(pixels), _ROWS_AT_ONCE):
        band = covered[row : row + _ROWS_AT_ONCE]
        # Shutters count rows and columns from 1.
        rows, columns = np.ogrid[row + 1 : row + 1 + len(band), 1 : pixels.shape[1] + 1]
        is_open = np.ones(band.shape[:2], np.bool_)
        if "RECTANGULAR" in shapes:
            is_open &= _rectangle(state, rows, columns)
        if "CIRCULAR" in shapes:
            is_open &= _circle(state, rows, columns)
        if polygon is not None:
            is_open &= polygon[row : row + len(band)]
        band[~is_open] = shade
    return covered


def numbers_of(attributes: Attributes, keyword: str) -> list[float]:
    """Return the values of an attribute as numbers; none of them if one is no number, or one that nobody means."""
    try:
        numbers = [float(value) for value in values_of(attributes, keyword)]
    except (TypeError, ValueError, OverflowError):
        return []
    return numbers if all(abs(number) <= _FAR for number in numbers) else []


def _rectangle(state: Attributes, rows: Array, columns: Array) -> Array:
    left, right = (number_of(state, f"Shutter{side}VerticalEdge") for side in ("Left", "Right"))
    upper, lower = (number_of(state, f"Shutter{side}HorizontalEdge") for side in ("Upper", "Lower"))
    if left is None or right is None or upper is None or lower is None:
        return np.ones((1, 1), np.bool_)
    is_open: Array = (columns >= left) & (columns <= right) & (rows >= upper) & (rows <= lower)
    return is_open


def _circle(state: Attributes, rows: Array, columns: Array) -> Array:
    center, radius = numbers_of(state, "CenterOfCircularShutter"), numbers_of(state, "RadiusOfCircularShutter")
    if len(center) != 2 or len(radius) != 1:
        return np.ones((1, 1), np.bool_)
    is_open: Array = (rows - center[0]) ** 2 + (columns - center[1]) ** 2 <= radius[0] ** 2
    return is_open


def _polygon(state: Attributes, pixels: Pixels) -> Array | None:
    """Return which pixels lie in the polygon, whose vertices are row and column pairs; None if it is none."""
    vertices = numbers_of(state, "VerticesOfThePolygonalShutter")[:MAX_VERTICES]
    if len(vertices) < 6:
        return None
    corners = np.clip(np.array(vertices[: len(vertices) // 2 * 2]).reshape(-1, 2), -1e5, 1e5) - 1
    mask = Image.new("1", (pixels.shape[1], pixels.shape[0]))
    ImageDraw.Draw(mask).polygon([(column, row) for row, column in corners.tolist()], fill=1)
    return np.asarray(mask)


def _element(vr: str, data: bytes) -> Attributes:
    """Return a value that was kept apart: points as numbers, anything else as bytes."""
    if vr in _POINTS:
        numbers = np.frombuffer(data[: len(data) // 8 * 8], _POINTS[vr])
        return {"vr": vr, "Value": numbers.tolist()}
    return {"vr": vr, "InlineBinary": base64.b64encode(data).decode()}


def _overlay(image: Attributes, state: Attributes, group: str) -> Attributes:
    """Return an overlay plane that the state activates (PS3.3 C.11.7): its own, else the image's."""
    if not state.get(f"{group}1001", {}).get("Value"):
        return {}
    source = state if f"{group}3000" in state else image
    return {tag: element for tag, element in source.items() if tag[:4] == group}


def _subject(image: Attributes) -> tuple[str, tuple[int, ...]]:
    numbers = tuple(number for number in values_of(image, "ReferencedFrameNumber") if isinstance(number, int))
    return text_of(image, "ReferencedSOPInstanceUID"), numbers


def items_of(attributes: Attributes, keyword: str) -> list[Attributes]:
    """Return the items of a sequence; none of what is no sequence, whatever its tag says."""
    return [item for item in values_of(attributes, keyword) if isinstance(item, dict)]
