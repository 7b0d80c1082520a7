"""A stream over a part of a file, for stores that keep a blob in a file."""

import io
import os
from typing import TYPE_CHECKING

from storage.spool import disk_errors

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


def clip_range(start: int, end: int | None, size_bytes: int) -> tuple[int, int]:
    """Return the part of ``start`` up to, not including, ``end`` that lies in a blob of this size; None is its end."""
    start = min(max(start, 0), size_bytes)
    return start, size_bytes if end is None else min(max(end, start), size_bytes)


class RangedReader(io.RawIOBase):
    """Reads bytes ``start`` up to, not including, ``end`` of an open file, which it owns and closes."""

    def __init__(self, descriptor: int, start: int, end: int) -> None:
        self._descriptor = descriptor
        self._position = start
        self._end = end

    def readable(self) -> bool:
        """Say that this can be read."""
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Fill ``buffer`` and return how many bytes were read; 0 at the end of the range."""
        view = memoryview(buffer).cast("B")[: max(0, self._end - self._position)]
        with disk_errors():
            count = os.preadv(self._descriptor, [view], self._position) if len(view) else 0
        self._position += count
        return count

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            os.close(self._descriptor)
        super().close()
