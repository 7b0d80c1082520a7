"""How pictures are asked to look: the query parameters of rendered resources (PS3.18 8.3.5.1)."""

import math
import re

from starlette.requests import Request

from dicomweb.errors import InvalidAddress
from pacs.retrieve import (
    ANNOTATIONS,
    DEFAULT_QUALITY,
    MAX_VIEWPORT_PIXELS,
    Appearance,
    Profile,
    Shape,
    Viewport,
    Window,
)

PARAMETERS = ("accept", "window", "viewport", "quality", "annotation", "iccprofile")
"""What rendered resources understand."""

_SHAPES = {"linear": Shape.LINEAR, "linear-exact": Shape.LINEAR_EXACT, "sigmoid": Shape.SIGMOID}
_SIZE = re.compile(r"[0-9]{1,5}")


def parse_window(text: str) -> Window:
    """Return ``center,width,shape`` (PS3.18 8.3.5.1.4); raise InvalidAddress for anything else."""
    parts = text.split(",")
    try:
        center, width = (float(part) for part in parts[:2])
        (shape,) = parts[2:] or ["linear"]  # which servers of before 2019 did not ask for
        return Window(center, width, _SHAPES[shape.strip().lower()])
    except (ValueError, KeyError):
        raise InvalidAddress(
            "The window must be a center, a width that shows something, and linear, linear-exact or sigmoid."
        ) from None


def parse_viewport(text: str) -> Viewport:
    """Return ``width,height`` and maybe ``,left,top,width,height`` of the source (PS3.18 8.3.5.1.3).

    What is left out of the region is 0, or reaches to the end. Raises InvalidAddress for anything else.
    """
    parts = text.split(",")
    if len(parts) not in (2, 6) or not all(_SIZE.fullmatch(part) for part in parts[:2]):
        raise InvalidAddress("The viewport must be a width and a height, and maybe a region of four numbers.")
    width, height = int(parts[0]), int(parts[1])
    if not 0 < width * height <= MAX_VIEWPORT_PIXELS:
        raise InvalidAddress("The viewport is empty, or larger than this archive renders.")
    left, top, source_width, source_height = (_parse_length(part) for part in (parts[2:] or [""] * 4))
    if (left or 0) < 0 or (top or 0) < 0 or 0 in (source_width, source_height):
        raise InvalidAddress("The viewport's region is empty, or begins outside the image.")
    return Viewport(width, height, left or 0.0, top or 0.0, source_width, source_height)


def parse_quality(text: str) -> int:
    """Return the quality from 1 to 100 (PS3.18 8.3.5.1.2); raise InvalidAddress for anything else."""
    if not _SIZE.fullmatch(text) or not 1 <= int(text) <= 100:
        raise InvalidAddress("The quality must be a whole number from 1 to 100.")
    return int(text)


def parse_annotations(text: str) -> tuple[str, ...]:
    """Return what is to be burnt in (PS3.18 8.3.5.1.1), of ``ANNOTATIONS``; other words are passed over."""
    asked = [word.strip().lower() for word in text.split(",")[:16]]
    return tuple(word for word in ANNOTATIONS if word in asked)


def parse_appearance(request: Request) -> Appearance:
    """Return how a request wants its pictures to look, as JPEG; raise InvalidAddress for what makes no sense."""
    given = request.query_params
    try:
        profile = Profile(given.get("iccprofile", Profile.NO))
    except ValueError:
        raise InvalidAddress("The iccprofile must be no, yes, srgb, adobergb or rommrgb.") from None
    return Appearance(
        window=parse_window(given["window"]) if "window" in given else None,
        viewport=parse_viewport(given["viewport"]) if "viewport" in given else None,
        quality=parse_quality(given["quality"]) if "quality" in given else DEFAULT_QUALITY,
        annotations=parse_annotations(given.get("annotation", "")),
        profile=profile,
    )


def _parse_length(text: str) -> float | None:
    if not text:
        return None
    try:
        length = float(text)
    except ValueError:
        length = math.nan
    if not abs(length) < 1e6:
        raise InvalidAddress("The viewport's region must be numbers.")
    return length
