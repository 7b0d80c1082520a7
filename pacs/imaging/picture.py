"""Pictures a browser shows: scaled to a viewport (PS3.18 8.3.5.1.3) and encoded as JPEG, PNG or GIF."""

import io
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from pacs.errors import NotAcceptable
from pacs.imaging.grayscale import Window
from pacs.imaging.profiles import Profile

JPEG, PNG, GIF = "image/jpeg", "image/png", "image/gif"
RENDERED_TYPES = (JPEG, PNG, GIF)
"""What images are rendered to, the default first (PS3.18 Table 8.7.4-1)."""

MAX_VIEWPORT_PIXELS = 2**25
MAX_ANIMATION_PIXELS = 2**27
MAX_ANIMATION_FRAMES = 2000
DEFAULT_QUALITY = 90
_MAX_JPEG_SIDE = 65_500

Pixels = npt.NDArray[np.uint8]
Bitmap = Image.Image


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
    """How images are to be rendered; ``quality`` is of JPEG and video, from 1 to 100.

    ``annotations`` are burnt in, see ``annotation``; ``profile`` is the colour space of colour images.
    """

    media_type: str = JPEG
    window: Window | None = None
    viewport: Viewport | None = None
    quality: int = DEFAULT_QUALITY
    annotations: tuple[str, ...] = ()
    profile: Profile = Profile.NO


@dataclass(frozen=True, slots=True)
class Placement:
    """Which region of an image goes into which size; mirrored from left to right, upended from top to bottom."""

    box: tuple[float, float, float, float]
    size: tuple[int, int]
    is_mirrored: bool
    is_upended: bool

    def apply(self, image: Bitmap) -> Bitmap:
        """Return the region, scaled and flipped."""
        scaled = image.resize(self.size, Image.Resampling.BILINEAR, self.box)
        if self.is_mirrored:
            scaled = scaled.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return scaled.transpose(Image.Transpose.FLIP_TOP_BOTTOM) if self.is_upended else scaled


def place(size: tuple[int, int], viewport: Viewport) -> Placement:
    """Return how an image of this size goes into a viewport as large as it fits, its aspect ratio kept.

    Raises NotAcceptable if the region lies outside the image.
    """
    width = size[0] - viewport.left if viewport.source_width is None else viewport.source_width
    height = size[1] - viewport.top if viewport.source_height is None else viewport.source_height
    right, bottom = viewport.left + abs(width), viewport.top + abs(height)
    box = (viewport.left, viewport.top, min(right, size[0]), min(bottom, size[1]))
    box_width, box_height = box[2] - box[0], box[3] - box[1]
    if min(box_width, box_height) <= 0 or min(box[:2]) < 0:
        raise NotAcceptable("The region that was asked for lies outside the image.")
    scale = min(viewport.width / box_width, viewport.height / box_height)
    fitted = max(1, round(box_width * scale)), max(1, round(box_height * scale))
    return Placement(box, fitted, width < 0, height < 0)


def fit(image: Bitmap, viewport: Viewport | None) -> Bitmap:
    """Return the region of an image as ``place`` says; all of it as it is without a viewport."""
    return image if viewport is None else place(image.size, viewport).apply(image)


def to_image(pixels: Pixels) -> Bitmap:
    """Return gray levels or RGB as an image."""
    return Image.fromarray(np.ascontiguousarray(pixels))


def encode(image: Bitmap, appearance: Appearance) -> bytes:
    """Return an image file, with the profile that the image has (``info["icc_profile"]``) where the format takes it."""
    options: dict[str, Any] = {}
    if appearance.media_type != GIF and image.info.get("icc_profile"):
        options["icc_profile"] = image.info["icc_profile"]
    if appearance.media_type == JPEG:
        if max(image.size) > _MAX_JPEG_SIDE:
            raise NotAcceptable("The image is too large for JPEG; ask for a smaller viewport.")
        # From 90 on colour keeps its full resolution: what is looked at for a diagnosis is no photograph.
        subsampling = 0 if appearance.quality >= DEFAULT_QUALITY else 2
        options |= {"quality": appearance.quality, "subsampling": subsampling}
    buffer = io.BytesIO()
    image.save(buffer, appearance.media_type.removeprefix("image/").upper(), **options)
    return buffer.getvalue()


def encode_animation(images: Iterable[Bitmap], milliseconds: float) -> bytes:
    """Return pictures as one GIF that plays for ever; raise NotAcceptable if it would be too long.

    Each is encoded as it comes, with the colours that are its own. Browsers slow down what is to be shown for less than
    20 ms, and GIF counts in hundredths of a second.
    """
    hundredths = min(max(2, round(milliseconds / 10)), 0xFFFF)
    buffer = io.BytesIO()
    pixel_count = 0
    for number, image in enumerate(images, 1):
        single = io.BytesIO()
        (image.quantize() if image.mode == "RGB" else image).save(single, "GIF", optimize=False)
        pixel_count += image.width * image.height
        if pixel_count > MAX_ANIMATION_PIXELS or number > MAX_ANIMATION_FRAMES:
            raise NotAcceptable("The images are too many for one animation; ask for single frames.")
        _append_frame(buffer, single.getvalue(), hundredths)
    buffer.write(b";")
    return buffer.getvalue()


def _append_frame(buffer: io.BytesIO, single: bytes, hundredths: int) -> None:
    """Append the one picture of a GIF file to another file, which begins with it if it is the first.

    The global colour table of the single one becomes the local one of the frame (GIF89a, chapters 17 to 22).
    """
    flags = single[10]
    table_bytes = 3 << ((flags & 7) + 1) if flags & 0x80 else 0
    table = single[13 : 13 + table_bytes]
    body = single[13 + table_bytes :]
    while body[:1] == b"!":  # extensions of the single one: none of them is wanted
        end = 2
        while body[end]:
            end += body[end] + 1
        body = body[end + 1 :]
    if not buffer.tell():
        buffer.write(b"GIF89a" + single[6:10] + bytes((flags & 0x70, 0, 0)))
        buffer.write(b"!\xff\x0bNETSCAPE2.0\x03\x01\0\0\0")
    buffer.write(b"!\xf9\x04\x04" + struct.pack("<H", hundredths) + b"\0\0")
    buffer.write(body[:9] + bytes((body[9] & 0x78 | 0x80 | flags & 7,)) + table + body[10:].removesuffix(b";"))
