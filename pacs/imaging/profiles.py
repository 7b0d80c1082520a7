"""ICC profiles (PS3.18 8.3.5.1.5): the image's own passed on, or colours converted into a space that was asked for.

Only profiles of three curves and a matrix are computed with, here and in numpy: a profile comes with an image from
anywhere, and no library that interprets all a profile may hold reads it in this process. Any other kind is passed on
as it is, for the colours are right with it.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Pixels = npt.NDArray[np.uint8]

MAX_PROFILE_BYTES = 4 * 1024 * 1024
MAX_ENTRIES = 65_536
_ROWS_AT_ONCE = 64
_STEPS = 4096
_PRIMARIES = ("r", "g", "b")


class Profile(StrEnum):
    """The values of the iccprofile parameter."""

    NO = "no"
    YES = "yes"
    SRGB = "srgb"
    ADOBERGB = "adobergb"
    ROMMRGB = "rommrgb"


@dataclass(frozen=True, slots=True, eq=False)
class Space:
    """A space of red, green and blue: ``curves`` gives 3 x 256 amounts of light, ``matrix`` makes them XYZ of D50."""

    curves: Array
    matrix: Array


@dataclass(frozen=True, slots=True)
class _Definition:
    """A space by the numbers of its parametric curve of type 3 (ICC.1 10.18) and its primaries."""

    name: str
    curve: tuple[float, float, float, float, float]
    primaries: tuple[tuple[float, float, float], ...]


_DEFINITIONS = {
    Profile.SRGB: _Definition(
        "sRGB",
        (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045),
        ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410)),
    ),
    Profile.ADOBERGB: _Definition(
        "Adobe RGB (1998) compatible",
        (563 / 256, 1.0, 0.0, 0.0, 0.0),
        ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)),
    ),
    Profile.ROMMRGB: _Definition(
        "ROMM RGB",
        (1.8, 1.0, 0.0, 1 / 16, 1 / 32),
        ((0.79767, 0.28804, 0.0), (0.13519, 0.71188, 0.0), (0.03135, 0.00009, 0.82490)),
    ),
}


def convert(pixels: Pixels, own: bytes, wanted: Profile) -> tuple[Pixels, bytes]:
    """Return RGB pixels and the profile they are in, empty for none; what says nothing of its colours is sRGB."""
    if wanted is Profile.NO or pixels.ndim != 3:
        return pixels, b""
    if wanted is Profile.YES:
        return pixels, own or build_profile(Profile.SRGB)
    source = parse_profile(own) if own else _space(Profile.SRGB)
    if source is None:
        return pixels, own
    if own or wanted is not Profile.SRGB:
        pixels = _between(pixels, source, _space(wanted))
    return pixels, build_profile(wanted)


def parse_profile(data: bytes) -> Space | None:
    """Return the space of a profile (ICC.1 chapter 7) of curves and a matrix, None of any other and of nonsense."""
    if len(data) > MAX_PROFILE_BYTES or data[16:24] != b"RGB XYZ ":
        return None
    try:
        tags = _read_tags(data)
        matrix = [struct.unpack(">3i", tags[f"{primary}XYZ"][8:20]) for primary in _PRIMARIES]
        curves = [_read_curve(tags[f"{primary}TRC"]) for primary in _PRIMARIES]
    except (KeyError, ValueError, struct.error):
        return None
    columns = np.array(matrix).T / 65536
    if not np.isfinite(curves).all() or abs(np.linalg.det(columns)) < 1e-6:
        return None
    return Space(np.clip(np.array(curves), 0, 1), columns)


@cache
def build_profile(profile: Profile) -> bytes:
    """Return a display profile of version 4 for one of the spaces that can be asked for."""
    definition = _DEFINITIONS[profile]
    curve = b"para" + struct.pack(">IHH5i", 0, 3, 0, *(_fixed(value) for value in definition.curve))
    white = (0.96420, 1.0, 0.82491)
    content = {
        b"desc": _text(definition.name),
        b"cprt": _text("No copyright, use freely"),
        b"wtpt": _xyz(white),
        **{name.encode() + b"XYZ": _xyz(xyz) for name, xyz in zip(_PRIMARIES, definition.primaries, strict=True)},
        **{name.encode() + b"TRC": curve for name in _PRIMARIES},
    }
    offset = 128 + 4 + 12 * len(content)
    table, body = struct.pack(">I", len(content)), b""
    for tag, value in content.items():
        table += struct.pack(">4sII", tag, offset + len(body), len(value))
        body += value + b"\0" * (-len(value) % 4)
    header = struct.pack(
        ">I4sI4s4s4s6H4s28x12s48x",
        offset + len(body), b"", 0x04200000, b"mntr", b"RGB ", b"XYZ ", 2024, 1, 1, 0, 0, 0, b"acsp",
        struct.pack(">3i", *(_fixed(value) for value in white)),
    )  # fmt: skip
    return header + table + body


@cache
def _space(profile: Profile) -> Space:
    definition = _DEFINITIONS[profile]
    codes = np.arange(256) / 255
    curve = _parametric(3, definition.curve)(codes)
    return Space(np.stack([curve] * 3), np.array(definition.primaries).T)


def _between(pixels: Pixels, source: Space, target: Space) -> Pixels:
    matrix = np.linalg.inv(target.matrix) @ source.matrix
    light = np.linspace(0, 1, _STEPS) ** 2  # finer where it is dark, as eyes are
    codes = [np.rint(np.interp(light, curve, np.arange(256))).astype(np.uint8) for curve in target.curves]
    converted = np.empty_like(pixels)
    for row in range(0, len(pixels), _ROWS_AT_ONCE):
        band = pixels[row : row + _ROWS_AT_ONCE]
        linear = np.stack([source.curves[channel][band[..., channel]] for channel in range(3)], axis=-1)
        steps = np.rint(np.sqrt(np.clip(linear @ matrix.T, 0, 1)) * (_STEPS - 1)).astype(np.intp)
        for channel in range(3):
            converted[row : row + _ROWS_AT_ONCE, ..., channel] = codes[channel][steps[..., channel]]
    return converted


def _read_tags(data: bytes) -> dict[str, bytes]:
    (count,) = struct.unpack_from(">I", data, 128)
    tags = {}
    for index in range(min(count, 100)):
        name, offset, length = struct.unpack_from(">4sII", data, 132 + 12 * index)
        tags[name.decode("latin-1")] = data[offset : offset + length]
    return tags


def _read_curve(data: bytes) -> Array:
    """Return how much light each of 256 codes is; raise ValueError for what is no curve."""
    codes = np.arange(256) / 255
    if data[:4] == b"curv":
        (count,) = struct.unpack_from(">I", data, 8)
        entries = np.frombuffer(data, ">u2", offset=12, count=count) if count <= MAX_ENTRIES else np.zeros(0)
        if len(entries) != count:
            raise ValueError("not a curve")
        if count == 0:
            return codes
        if count == 1:
            return codes ** (float(entries[0]) / 256)
        return np.interp(codes, np.linspace(0, 1, len(entries)), entries / 65535)
    if data[:4] == b"para":
        (kind,) = struct.unpack_from(">H", data, 8)
        numbers = struct.unpack_from(f">{(1, 3, 4, 5, 7)[kind] if kind < 5 else 0}i", data, 12)
        return _parametric(kind, tuple(number / 65536 for number in numbers))(codes)
    raise ValueError("not a curve")


def _parametric(kind: int, numbers: tuple[float, ...]) -> Callable[[Array], Array]:
    """Return the function of a parametric curve (ICC.1 10.18)."""
    if kind > 4:
        raise ValueError("not a curve")
    g, a, b, c, d, e, f = (*numbers, *(0.0,) * 7)[:7]
    if kind == 0:
        a, b, d = 1.0, 0.0, 0.0
    elif kind in (1, 2):  # a power above -b/a, constant below it
        c, d, e, f = 0.0, -b / a if a else 0.0, c, c

    def curve(codes: Array) -> Array:
        power = np.maximum(a * codes + b, 0) ** g + e
        light: Array = np.where(codes >= d, power, c * codes + f)
        return light

    return curve


def _xyz(values: tuple[float, float, float]) -> bytes:
    return b"XYZ " + struct.pack(">4i", 0, *(_fixed(value) for value in values))


def _text(text: str) -> bytes:
    encoded = text.encode("utf-16-be")
    return b"mluc" + struct.pack(">III2s2sII", 0, 1, 12, b"en", b"US", len(encoded), 28) + encoded


def _fixed(value: float) -> int:
    return round(value * 65536)
