"""Forward reading of a byte source in large windows, so that no element costs a read of its own."""

from collections.abc import Callable

from pacs.errors import HeaderTooLarge, TruncatedDataSet
from pacs.imaging.fragments import ByteSource

_FIRST_BYTES = 64 * 1024
_AFTER_JUMP_BYTES = 4 * 1024
_LARGEST_BYTES = 1024 * 1024
LARGE_BYTES = 1024 * 1024
"""From here on a header is worth asking whether there is room for it."""


def _nothing() -> None:
    pass


class Window:
    """The part of a source that is in memory: ``data``, whose first byte is the source's byte ``origin``.

    ``end`` is the end of the source, exclusive; nothing past it is read, and at most ``max_bytes`` altogether.
    ``on_large`` is called once, before more than ``LARGE_BYTES`` are read.
    """

    __slots__ = ("_loaded_bytes", "_max_bytes", "_next_bytes", "_on_large", "data", "end", "origin", "source")

    def __init__(self, source: ByteSource, end: int, max_bytes: int, on_large: Callable[[], None] = _nothing) -> None:
        self.source = source
        self.end = end
        self.data = b""
        self.origin = 0
        self._max_bytes = max_bytes
        self._loaded_bytes = 0
        self._next_bytes = _FIRST_BYTES
        self._on_large = on_large

    def load(self, position: int, length_bytes: int) -> None:
        """Have ``length_bytes`` from ``position`` on in ``data``, or what there is of them before the end.

        Raises TruncatedDataSet if the source is shorter than it said, HeaderTooLarge if too much was read already.
        """
        loaded_end = self.origin + len(self.data)
        needed_end = min(position + length_bytes, self.end)
        if self.origin <= position and needed_end <= loaded_end:
            return
        if not self.origin <= position <= loaded_end:
            # Behind a skipped value comes little or nothing: read little.
            self._next_bytes = min(self._next_bytes, _AFTER_JUMP_BYTES)
        end = min(max(needed_end, position + self._next_bytes), self.end)
        self._next_bytes = min(self._next_bytes * 4, _LARGEST_BYTES)
        self._loaded_bytes += max(0, end - position)
        if self._loaded_bytes > self._max_bytes:
            raise HeaderTooLarge(f"The header is larger than {self._max_bytes} bytes.")
        if self._loaded_bytes > LARGE_BYTES:
            on_large, self._on_large = self._on_large, _nothing
            on_large()
        self.data = self.source.read_range(position, end)
        self.origin = position
        if position + len(self.data) < needed_end:
            raise TruncatedDataSet(f"The data set is truncated: its bytes end at {position + len(self.data)}.")

    def read(self, start: int, end: int) -> bytes:
        """Return bytes ``start`` up to, not including, ``end``; short only at the end of the source."""
        self.load(start, end - start)
        return self.data[start - self.origin : end - self.origin]
