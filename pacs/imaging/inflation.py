"""Deflated data sets (PS3.5 A.5) made plain, in pieces and within limits: a small file can hold a very large one."""

import zlib
from typing import Protocol

from pacs.errors import HeaderTooLarge, InvalidHeader, TruncatedDataSet
from pacs.imaging.fragments import ByteSource

_CHUNK_BYTES = 256 * 1024
_UNQUESTIONED_BYTES = 64 * 1024 * 1024


class Sink(Protocol):
    """What inflated bytes are written to and read from again: a spool."""

    def write(self, data: bytes, /) -> int:
        """Append bytes."""
        ...

    def read_range(self, start: int, end: int, /) -> bytes:
        """Return bytes ``start`` up to, not including, ``end``."""
        ...


class MemorySink:
    """A sink for small data sets, for callers without a spool."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def write(self, data: bytes, /) -> int:
        """Append bytes."""
        self._buffer += data
        return len(data)

    def read_range(self, start: int, end: int, /) -> bytes:
        """Return bytes ``start`` up to, not including, ``end``."""
        return bytes(self._buffer[start:end])


def inflate(
    source: ByteSource, start: int, end: int, sink: Sink, *, max_bytes: int = 2 << 30, max_ratio: int = 500
) -> int:
    """Write to ``sink`` what bytes ``start`` up to, not including, ``end`` inflate to, and return its length in bytes.

    Raises HeaderTooLarge for more than ``max_bytes``, or for more than ``max_ratio`` times what went in once that is
    64 MiB; TruncatedDataSet if the stream does not end; InvalidHeader if it is none. Bytes after its end are padding.
    """
    inflater = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
    written, position = 0, start
    pending = b""
    while not inflater.eof:
        if not pending:
            pending = source.read_range(position, min(position + _CHUNK_BYTES, end))
            if not pending:
                raise TruncatedDataSet(f"The data set is truncated: its deflated bytes end at {position}.")
            position += len(pending)
        try:
            inflated = inflater.decompress(pending, _CHUNK_BYTES)
        except zlib.error as error:
            raise InvalidHeader(f"The data set cannot be inflated, near byte {position}.") from error
        pending = inflater.unconsumed_tail
        written += len(inflated)
        allowed = max(_UNQUESTIONED_BYTES, max_ratio * (position - start))
        if written > min(allowed, max_bytes):
            raise HeaderTooLarge(f"The data set inflates to more than {min(allowed, max_bytes)} bytes.")
        sink.write(inflated)
    return written
