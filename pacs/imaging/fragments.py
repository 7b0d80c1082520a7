"""The items of an encapsulated value (PS3.5 A.4): where they lie, found by reading their headers and nothing else."""

import struct
from dataclasses import dataclass
from typing import Protocol

from pacs.errors import HeaderTooLarge, InvalidHeader, TruncatedDataSet

MAX_FRAGMENTS = 1_000_000

_ITEM = 0xFFFEE000
_SEQUENCE_DELIMITER = 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
_WINDOW_BYTES = 4096


class ByteSource(Protocol):
    """Bytes that can be read by range: a spool, or one blob of a store."""

    def read_range(self, start: int, end: int, /) -> bytes:
        """Return bytes ``start`` up to, not including, ``end``; short only at the end of what there is."""
        ...


@dataclass(frozen=True, slots=True)
class Fragments:
    """The items of one encapsulated value, in order; the first is the Basic Offset Table.

    ``starts`` and ``ends`` bound each item's value, ends exclusive; its 8 byte header lies before its start.
    ``items_end`` is where the sequence delimiter lies and ``next_start`` the first byte after it; they are equal if the
    delimiter is missing because the data end.
    """

    starts: tuple[int, ...]
    ends: tuple[int, ...]
    items_end: int
    next_start: int


def scan_fragments(source: ByteSource, start: int, limit: int, *, is_little_endian: bool = True) -> Fragments:
    """Return the items from ``start`` on, up to their delimiter or to ``limit``, the end of the data.

    Raises TruncatedDataSet if an item passes ``limit``, InvalidHeader if something else stands where an item must, and
    HeaderTooLarge beyond ``MAX_FRAGMENTS`` items.
    """
    header = struct.Struct("<HHL" if is_little_endian else ">HHL")
    starts: list[int] = []
    ends: list[int] = []
    window, origin = b"", start
    position = start
    while position != limit:
        at = position - origin
        if at + 8 > len(window):
            if position + 8 > limit:
                raise TruncatedDataSet(f"The data set is truncated in a fragment's header at byte {position}.")
            window, origin, at = source.read_range(position, min(position + _WINDOW_BYTES, limit)), position, 0
            if len(window) < 8:
                raise TruncatedDataSet(f"The data set is truncated in a fragment's header at byte {position}.")
        group, element, length = header.unpack_from(window, at)
        tag = group << 16 | element
        if tag == _SEQUENCE_DELIMITER:
            return Fragments(tuple(starts), tuple(ends), position, position + 8)
        if tag != _ITEM or length == _UNDEFINED:
            raise InvalidHeader(f"There is no fragment where one must be, at byte {position}.")
        if position + 8 + length > limit:
            raise TruncatedDataSet(f"The data set is truncated in a fragment at byte {position}.")
        if len(starts) > MAX_FRAGMENTS:
            raise HeaderTooLarge(f"The pixel data have more than {MAX_FRAGMENTS} fragments.")
        starts.append(position + 8)
        position += 8 + length
        ends.append(position)
    return Fragments(tuple(starts), tuple(ends), position, position)
