"""How a presentation state puts an image on the screen: area, rotation, flip (PS3.3 C.10.4, C.10.6), and its graphics.

A picture knows where the points of its image have gone, so that graphics are drawn once it has its final size: lines
and letters stay sharp however small the viewport.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from pacs.imaging.grayscale import number_of
from pacs.imaging.lettering import draw_text, letter_height
from pacs.imaging.picture import Viewport, place
from pacs.imaging.presentation import Spot, items_of, iter_applicable, numbers_of
from pacs.imaging.render import MAX_PIXELS
from pacs.model import Attributes
from pacs.tags import text_of

Points = npt.NDArray[np.float64]

MAX_POINTS = 100_000
"""Of all graphics of a picture; what lies beyond them is not drawn."""

MAX_TEXTS = 200
_CIRCLE_STEPS = 96
_SPLINE_STEPS = 16
_FAR = 1e6
_MAX_STRETCH = 64


@dataclass(frozen=True, slots=True)
class Picture:
    """An image on its way to the screen. ``matrix`` takes x, y, 1 of the image (0, 0 its upper left corner) there."""

    image: Image.Image
    matrix: Points

    def moved(self, image: Image.Image, step: Sequence[Sequence[float]]) -> "Picture":
        """Return what this becomes when its points go where the rows of ``step`` take them."""
        return Picture(image, np.array([*step, (0.0, 0.0, 1.0)]) @ self.matrix)


def present(image: Image.Image, state: Attributes, spot: Spot, viewport: Viewport | None) -> Image.Image:
    """Return the image as the state shows it, fitted into a viewport, with its graphics; raise as ``place`` does."""
    picture = Picture(image, np.eye(3))
    area = next(iter_applicable(state, "DisplayedAreaSelectionSequence", spot), {})
    picture = _square(_turn(_cut(picture, area), state), area, is_turned=_rotation(state) in (90, 270))
    if viewport is not None:
        picture = _fit(picture, viewport)
    _draw(picture, state, spot)
    return picture.image


def _cut(picture: Picture, area: Attributes) -> Picture:
    """Return the displayed area; where it goes beyond the image it is black, and where it is no area it is all."""
    corners = [
        *numbers_of(area, "DisplayedAreaTopLeftHandCorner"),
        *numbers_of(area, "DisplayedAreaBottomRightHandCorner"),
    ]
    if len(corners) != 4:
        return picture
    # The corners are those of the screen: on a turned image the first of them need not be the lesser.
    left, right = sorted((corners[0], corners[2]))
    top, bottom = sorted((corners[1], corners[3]))
    box = (int(left) - 1, int(top) - 1, int(right), int(bottom))
    if box == (0, 0, *picture.image.size) or (box[2] - box[0]) * (box[3] - box[1]) > MAX_PIXELS:
        return picture
    return picture.moved(picture.image.crop(box), ((1, 0, -box[0]), (0, 1, -box[1])))


def _turn(picture: Picture, state: Attributes) -> Picture:
    """Return the picture turned clockwise, then flipped."""
    width, height = picture.image.size
    match _rotation(state):
        case 90:
            picture = picture.moved(picture.image.transpose(Image.Transpose.ROTATE_270), ((0, -1, height), (1, 0, 0)))
        case 180:
            turned = picture.image.transpose(Image.Transpose.ROTATE_180)
            picture = picture.moved(turned, ((-1, 0, width), (0, -1, height)))
        case 270:
            picture = picture.moved(picture.image.transpose(Image.Transpose.ROTATE_90), ((0, 1, 0), (-1, 0, width)))
    if text_of(state, "ImageHorizontalFlip") == "Y":
        flipped = picture.image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        picture = picture.moved(flipped, ((-1, 0, picture.image.width), (0, 1, 0)))
    return picture


def _square(picture: Picture, area: Attributes, *, is_turned: bool) -> Picture:
    """Return the picture stretched so that its pixels are square, as the state says how tall and wide they are."""
    spacing = numbers_of(area, "PresentationPixelSpacing") or numbers_of(area, "PresentationPixelAspectRatio")
    if len(spacing) != 2 or min(spacing) <= 0:
        return picture
    ratio = spacing[1] / spacing[0] if is_turned else spacing[0] / spacing[1]
    if not 1 / _MAX_STRETCH <= ratio <= _MAX_STRETCH:
        return picture
    width, height = picture.image.size
    size = (width, round(height * ratio)) if ratio >= 1 else (round(width / ratio), height)
    if size == (width, height) or not 0 < size[0] * size[1] <= MAX_PIXELS:
        return picture
    stretched = picture.image.resize(size, Image.Resampling.BILINEAR)
    return picture.moved(stretched, ((size[0] / width, 0, 0), (0, size[1] / height, 0)))


def _fit(picture: Picture, viewport: Viewport) -> Picture:
    placement = place(picture.image.size, viewport)
    (width, height), (left, top, right, bottom) = placement.size, placement.box
    across, down = width / (right - left), height / (bottom - top)
    fitted = picture.moved(placement.apply(picture.image), ((across, 0, -left * across), (0, down, -top * down)))
    if placement.is_mirrored:
        fitted = fitted.moved(fitted.image, ((-1, 0, width), (0, 1, 0)))
    return fitted.moved(fitted.image, ((1, 0, 0), (0, -1, height))) if placement.is_upended else fitted


def _rotation(state: Attributes) -> int:
    return int(number_of(state, "ImageRotation") or 0) % 360


def _draw(picture: Picture, state: Attributes, spot: Spot) -> None:
    """Draw graphics and texts, the layers in their order; whatever makes no sense is passed over."""
    layers = {text_of(layer, "GraphicLayer"): layer for layer in items_of(state, "GraphicLayerSequence")}

    def order(annotation: Attributes) -> float:
        return number_of(layers.get(text_of(annotation, "GraphicLayer"), {}), "GraphicLayerOrder") or 0.0

    pen = ImageDraw.Draw(picture.image)
    points, texts = MAX_POINTS, MAX_TEXTS
    for annotation in sorted(iter_applicable(state, "GraphicAnnotationSequence", spot), key=order):
        ink = _ink(layers.get(text_of(annotation, "GraphicLayer"), {}))
        for graphic in items_of(annotation, "GraphicObjectSequence"):
            if points > 0:
                points -= _draw_graphic(picture, pen, graphic, ink)
        for text in items_of(annotation, "TextObjectSequence")[:texts]:
            _draw_note(picture, pen, text, ink)
            texts -= 1


def _ink(layer: Attributes) -> int:
    """Return the gray level that a layer recommends, white if it does not."""
    level = number_of(layer, "GraphicLayerRecommendedDisplayGrayscaleValue")
    return 255 if level is None else min(max(int(level), 0), 0xFFFF) >> 8


def _draw_graphic(picture: Picture, pen: ImageDraw.ImageDraw, graphic: Attributes, ink: int) -> int:
    """Draw one object and return of how many points it was drawn, at least 1."""
    data = numbers_of(graphic, "GraphicData")[: 2 * MAX_POINTS]
    if len(data) < 2:
        return 1
    corners = np.array(data[: len(data) // 2 * 2]).reshape(-1, 2)
    kind = text_of(graphic, "GraphicType")
    outline = _to_screen(picture, _outline(kind, corners), text_of(graphic, "GraphicAnnotationUnits"))
    width = max(1, round(letter_height(picture.image.size) / 10))
    if kind == "POINT":
        ((x, y), *_) = outline
        _draw_line(pen, [(x - 3 * width, y), (x + 3 * width, y)], ink, width)
        _draw_line(pen, [(x, y - 3 * width), (x, y + 3 * width)], ink, width)
    elif len(outline) > 1:
        if text_of(graphic, "GraphicFilled") == "Y" and len(outline) > 2:
            pen.polygon(outline, fill=_colour(pen, ink))
        _draw_line(pen, outline, ink, width)
    return len(outline)


def _draw_line(pen: ImageDraw.ImageDraw, points: list[tuple[float, float]], ink: int, width: int) -> None:
    """Draw a line with a rim of the opposite shade, so that it is seen on whatever it lies."""
    pen.line(points, fill=_colour(pen, 0 if ink > 127 else 255), width=width + 2)
    pen.line(points, fill=_colour(pen, ink), width=width)


def _draw_note(picture: Picture, pen: ImageDraw.ImageDraw, text: Attributes, ink: int) -> None:
    words = text_of(text, "UnformattedTextValue").replace("\r\n", "\n").replace("\r", "\n")[:1024]
    box = [*numbers_of(text, "BoundingBoxTopLeftHandCorner"), *numbers_of(text, "BoundingBoxBottomRightHandCorner")]
    anchor = numbers_of(text, "AnchorPoint")
    start: tuple[float, float] | None = None
    if len(box) == 4:
        units = text_of(text, "BoundingBoxAnnotationUnits")
        (x0, y0), (x1, y1) = _to_screen(picture, np.array(box).reshape(2, 2), units)
        start = min(x0, x1), min(y0, y1)
    if len(anchor) == 2:
        (point,) = _to_screen(picture, np.array([anchor]), text_of(text, "AnchorPointAnnotationUnits"))
        if start is None:
            start = point
        elif text_of(text, "AnchorPointVisibility") == "Y":
            _draw_line(pen, [point, start], ink, 1)
    if start is not None and words:
        draw_text(picture.image, words, start, ink)


def _outline(kind: str, corners: Points) -> Points:
    """Return the points between which lines are drawn (PS3.3 C.10.5.1.2)."""
    if kind == "CIRCLE" and len(corners) >= 2:
        center, rim = corners[:2]
        radius = math.dist(center, rim)
        return np.array([center + radius * np.array(step) for step in _circle()])
    if kind == "ELLIPSE" and len(corners) >= 4:
        # The ends of the longer axis, then those of the shorter one.
        center = corners[:2].mean(axis=0)
        along, across = (corners[1] - corners[0]) / 2, (corners[3] - corners[2]) / 2
        return np.array([center + cosine * along + sine * across for cosine, sine in _circle()])
    if kind == "INTERPOLATED" and 2 < len(corners) <= MAX_POINTS // _SPLINE_STEPS:
        return _curve(corners)
    return corners


def _circle() -> Iterator[tuple[float, float]]:
    for step in range(_CIRCLE_STEPS + 1):
        angle = 2 * math.pi * step / _CIRCLE_STEPS
        yield math.cos(angle), math.sin(angle)


def _curve(corners: Points) -> Points:
    """Return a smooth line through all of its points (Catmull-Rom); the standard leaves open which one."""
    is_closed = bool((corners[0] == corners[-1]).all())
    before, after = (corners[-2], corners[1]) if is_closed else (corners[0], corners[-1])
    padded = np.vstack([before, corners, after])
    steps = np.linspace(0, 1, _SPLINE_STEPS, endpoint=False)[:, None]
    parts: list[Any] = []
    for p0, p1, p2, p3 in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        bend = 2 * p0 - 5 * p1 + 4 * p2 - p3, 3 * p1 - p0 - 3 * p2 + p3
        parts.append(0.5 * (2 * p1 + (p2 - p0) * steps + bend[0] * steps**2 + bend[1] * steps**3))
    return np.vstack([*parts, corners[-1:]])


def _to_screen(picture: Picture, points: Points, units: str) -> list[tuple[float, float]]:
    """Return where points are in the picture; PIXEL counts from the image's upper left corner, DISPLAY from 0 to 1."""
    if units == "DISPLAY":
        placed = points * np.array(picture.image.size)
    else:
        placed = np.column_stack([points, np.ones(len(points))]) @ picture.matrix[:2].T
    return [(float(x), float(y)) for x, y in np.clip(placed, -_FAR, _FAR)]


def _colour(pen: ImageDraw.ImageDraw, level: int) -> int | tuple[int, int, int]:
    return level if pen.mode == "L" else (level, level, level)
