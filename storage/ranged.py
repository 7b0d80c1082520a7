"""A part of a file, for stores that keep a blob in one: as a stream, or to be sent without being read."""

import io
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from storage.spool import disk_errors

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


def clip_range(start: int, end: int | None, size_bytes: int) -> tuple[int, int]:
    """Return the part of ``start`` up to, not including, ``end`` that lies in a blob of this size; None is its end."""
    start = min(max(start, 0), size_bytes)
    return start, size_bytes if end is None else min(max(end, start), size_bytes)


_LOOK_EVERY_BYTES = 128 * 1024


class FileRange:
    """Bytes from ``start`` of an open file on, for the kernel to send: nobody has to read them. ``close`` closes it."""

    def __init__(self, descriptor: int, start: int, length_bytes: int) -> None:
        self.start = start
        self._file = io.FileIO(descriptor)
        self._length_bytes = length_bytes

    def __len__(self) -> int:
        return self._length_bytes

    @property
    def file(self) -> io.FileIO:
        """The open file, unbuffered."""
        return self._file

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        self._file.close()


@runtime_checkable
class InFiles(Protocol):
    """What a store can do beside the six verbs if it has blobs in files of this machine."""

    def open_file(self, key: str, start: int, end: int) -> FileRange | None:
        """Return bytes ``start`` up to, not including, ``end`` in their file; the caller closes it.

        None if they are not all in one here, or not in memory either: whoever sends a file without reading it would
        wait for the disk where others are served.
        """
        ...


def open_range(descriptor: int, start: int, end: int) -> FileRange | None:
    """Return a range of an open file, which it owns; None, and the file is closed, as for ``InFiles.open_file``.

    Whether the bytes are in memory is asked of one here and there.
    """
    if start < end and hasattr(os, "RWF_NOWAIT"):
        byte = bytearray(1)
        with suppress(OSError):  # the kernel would have to wait, or cannot tell
            looks = (*range(start, end, _LOOK_EVERY_BYTES), end - 1)
            if all(os.preadv(descriptor, [byte], offset, os.RWF_NOWAIT) for offset in looks):
                return FileRange(descriptor, start, end - start)
    os.close(descriptor)
    return None


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
