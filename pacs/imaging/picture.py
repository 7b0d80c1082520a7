"""Pictures a browser shows: scaled to a viewport (PS3.18 8.3.5.1.3) and encoded as JPEG, PNG or GIF."""

import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from pacs.errors import NotAcceptable
from pacs.imaging.grayscale import Window

JPEG, PNG, GIF = "image/jpeg", "image/png", "image/gif"
RENDERED_TYPES = (JPEG, PNG, GIF)
"""What images are rendered to, the default first (PS3.18 Table 8.7.4-1)."""

MAX_VIEWPORT_PIXELS = 2**25
MAX_ANIMATION_PIXELS = 2**27
DEFAULT_QUALITY = 90
_MAX_JPEG_SIDE = 65_500
_FRAME_MILLISECONDS = 100

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Viewport:
    """Where a picture has to fit, and the region of the source that goes there.

    ``left`` and ``top`` count from 0 in pixels of the source; a negative ``source_width`` or ``source_height`` flips
    the picture, and None is the whole of it from there on.
    """

    width: int
    height: int
    left: float = 0.0
    top: float = 0.0
    source_width: float | None = None
    source_height: float | None = None


@dataclass(frozen=True, slots=True)
class Appearance:
    """How images are to be rendered; ``quality`` is of JPEG, from 1 to 100."""

    media_type: str = JPEG
    window: Window | None = None
    viewport: Viewport | None = None
    quality: int = DEFAULT_QUALITY


def fit(image: Image.Image, viewport: Viewport | None) -> Image.Image:
    """Return the region of an image as large as it fits into the viewport, its aspect ratio kept.

    Raises NotAcceptable if the region lies outside the image.
    """
    if viewport is None:
        return image
    width = image.width - viewport.left if viewport.source_width is None else viewport.source_width
    height = image.height - viewport.top if viewport.source_height is None else viewport.source_height
    right, bottom = viewport.left + abs(width), viewport.top + abs(height)
    box = (viewport.left, viewport.top, min(right, image.width), min(bottom, image.height))
    box_width, box_height = box[2] - box[0], box[3] - box[1]
    if min(box_width, box_height) <= 0 or min(box[:2]) < 0:
        raise NotAcceptable("The region that was asked for lies outside the image.")
    scale = min(viewport.width / box_width, viewport.height / box_height)
    size = max(1, round(box_width * scale)), max(1, round(box_height * scale))
    scaled = image.resize(size, Image.Resampling.BILINEAR, box)
    if width < 0:
        scaled = scaled.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return scaled.transpose(Image.Transpose.FLIP_TOP_BOTTOM) if height < 0 else scaled


def encode(pixels: Pixels, appearance: Appearance) -> bytes:
    """Return gray levels or RGB as an image file."""
    image = _prepare(pixels, appearance)
    options: dict[str, Any] = {}
    if appearance.media_type == JPEG:
        if max(image.size) > _MAX_JPEG_SIDE:
            raise NotAcceptable("The image is too large for JPEG; ask for a smaller viewport.")
        # From 90 on colour keeps its full resolution: what is looked at for a diagnosis is no photograph.
        options = {"quality": appearance.quality, "subsampling": 0 if appearance.quality >= DEFAULT_QUALITY else 2}
    buffer = io.BytesIO()
    image.save(buffer, appearance.media_type.removeprefix("image/").upper(), **options)
    return buffer.getvalue()


def encode_animation(frames: Iterable[Pixels], appearance: Appearance, frame_milliseconds: float | None) -> bytes:
    """Return frames as one GIF that plays for ever; raise NotAcceptable if it would be too long.

    Browsers slow down what is to be shown for less than 20 ms, and GIF counts in hundredths of a second.
    """
    images: list[Image.Image] = []
    pixel_count = 0
    for frame in frames:
        images.append(_prepare(frame, appearance).quantize() if frame.ndim == 3 else _prepare(frame, appearance))
        pixel_count += images[-1].width * images[-1].height
        if pixel_count > MAX_ANIMATION_PIXELS:
            raise NotAcceptable("The images are too many for one animation; ask for single frames.")
    duration = max(20, round((frame_milliseconds or _FRAME_MILLISECONDS) / 10) * 10)
    buffer = io.BytesIO()
    images[0].save(buffer, "GIF", save_all=True, append_images=images[1:], duration=duration, loop=0)
    return buffer.getvalue()


def _prepare(pixels: Pixels, appearance: Appearance) -> Image.Image:
    return fit(Image.fromarray(np.ascontiguousarray(pixels)), appearance.viewport)
