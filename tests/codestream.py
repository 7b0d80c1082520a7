"""JPEG 2000 codestreams read marker by marker (ISO 15444-1 Annex A), without any codec; and an image worth reading."""

import struct
from dataclasses import dataclass, field

import numpy as np

from pacs.imaging.codecs import PixelDescription


@dataclass
class TilePart:
    """One tile-part: where it ends, exclusive, and what its SOT marker segment says."""

    tile: int
    index: int
    count: int
    length_bytes: int
    end: int


@dataclass
class Codestream:
    """What the markers of a codestream say."""

    columns: int = 0
    rows: int = 0
    tile_columns: int = 0
    tile_rows: int = 0
    is_high_throughput: bool = False
    progression: int = -1
    levels: int = -1
    is_reversible: bool = False
    lengths: list[int] = field(default_factory=list)
    tile_parts: list[TilePart] = field(default_factory=list)


def parse(data):
    """Return what the markers say, up to the end of the codestream or of what there is of it."""
    assert data[:2] == b"\xff\x4f"
    found, position = Codestream(), 2
    while position + 4 <= len(data):
        marker, length = struct.unpack_from(">HH", data, position)
        body = data[position + 4 : position + 2 + length]
        match marker:
            case 0xFF51:  # SIZ
                right, bottom, left, top, found.tile_columns, found.tile_rows = struct.unpack_from(">6L", body, 2)
                found.columns, found.rows = right - left, bottom - top
            case 0xFF50:  # CAP
                found.is_high_throughput = True
            case 0xFF52:  # COD
                found.progression, found.levels, found.is_reversible = body[1], body[5], body[9] == 1
            case 0xFF55:  # TLM
                number, size = ">B" if body[1] >> 4 == 1 else ">H", 4 if body[1] & 0x40 else 2
                step = struct.calcsize(number) + size
                for entry in range(2, len(body), step):
                    found.lengths.append(int.from_bytes(body[entry + step - size : entry + step], "big"))
            case 0xFF90:  # SOT
                tile, size, index, count = struct.unpack(">HLBB", body)
                found.tile_parts.append(TilePart(tile, index, count, size, position + size))
                position += size
                continue
            case 0xFFD9:  # EOC
                break
        position += 2 + length
    return found


def ct_slice(shape=(512, 512)):
    """Return something like a slice of CT, smooth with some noise, twelve of sixteen bits; and its description."""
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]]
    noise = np.random.default_rng(3).normal(0, 8, shape)
    array = (1000 + 200 * np.sin(columns / 30) + 100 * np.cos(rows / 17) + noise).astype("<u2")
    return array, PixelDescription(*shape, 1, 16, 12, 0, "MONOCHROME2")
