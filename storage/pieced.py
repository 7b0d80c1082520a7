"""A long read of a distant blob as several short ones at once: one stream seldom has all that a network can carry.

Only a read asks for more, as in ``storage.ahead``, whose threads and bounded memory do the work.
"""

import io
from collections.abc import Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, BinaryIO

from storage.ahead import Extent, ReadAhead
from storage.base import BlobStat, BlobStore
from storage.spool import Spool

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

PIECE_BYTES = 4 * 1024 * 1024
LONG_BYTES = 2 * PIECE_BYTES
"""What is no longer is one stream of the store's own."""
_PIECES_AHEAD = 4
_BUFFER_BYTES = 128 * 1024


class PiecedStore:
    """A ``BlobStore`` whose long streams are read in pieces of 4 MiB: the one being taken and up to four more.

    All streams together have at most 64 MiB ahead; what would be more is read when its turn comes.
    """

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self._shared = ReadAhead(store)

    def put(self, key: str, spool: Spool) -> BlobStat:
        """Store as the store does."""
        return self._store.put(key, spool)

    def open(self, key: str, start: int = 0, end: int | None = None) -> BinaryIO:
        """Return a stream over the bytes, the first piece of which is there; the store's own if no end is known."""
        start = max(start, 0)
        if end is None or end - start <= LONG_BYTES:
            return self._store.open(key, start, end)
        return io.BufferedReader(_PiecedReader(self._shared, Extent(key, start, end - start)), _BUFFER_BYTES)

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Return the bytes."""
        return self._store.read_range(key, start, end)

    def stat(self, key: str) -> BlobStat:
        """Return size and time of a blob."""
        return self._store.stat(key)

    def remove(self, key: str) -> None:
        """Remove a blob from the store."""
        self._store.remove(key)

    def iter_keys(self) -> Iterator[str]:
        """Yield every key of the store."""
        return self._store.iter_keys()

    def close(self) -> None:
        """End the threads; what is read already can still be taken."""
        self._shared.close()


class _PiecedReader(io.RawIOBase):
    """Reads an extent piece by piece; a piece that comes short is the blob's end."""

    def __init__(self, shared: ReadAhead, whole: Extent) -> None:
        self._shared = shared
        self._pieces = [
            Extent(whole.key, whole.offset + at, min(PIECE_BYTES, whole.length_bytes - at))
            for at in range(0, whole.length_bytes, PIECE_BYTES)
        ]
        self._index = 0
        self._ahead: dict[int, tuple[Extent, Future[bytes]]] = {}
        self._taken = memoryview(b"")
        self._take()  # so that a blob that is not there is missed at once

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        if not self._taken:
            self._take()
        view = memoryview(buffer).cast("B")
        length_bytes = min(len(view), len(self._taken))
        view[:length_bytes] = self._taken[:length_bytes]
        self._taken = self._taken[length_bytes:]
        return length_bytes

    def close(self) -> None:
        if not self.closed:
            self._shared.drop(self._ahead)
            self._index = len(self._pieces)
            self._taken = memoryview(b"")
        super().close()

    def _take(self) -> None:
        """Have the next piece, and those behind it on their way."""
        if self._index == len(self._pieces):
            return
        index, piece = self._index, self._pieces[self._index]
        for following in range(index + 1, min(index + 1 + _PIECES_AHEAD, len(self._pieces))):
            if following not in self._ahead:
                future = self._shared.start(self._pieces[following])
                if future is None:
                    break
                self._ahead[following] = self._pieces[following], future
        found = self._ahead.get(index)
        if found is None or found[1].cancelled():
            data = self._shared.store.read_range(piece.key, piece.offset, piece.offset + piece.length_bytes)
        else:
            data = found[1].result()
        self._shared.drop(self._ahead, before=index + 1)
        self._taken = memoryview(data)
        if len(data) < piece.length_bytes:
            self._shared.drop(self._ahead)
            self._index = len(self._pieces)
        else:
            self._index = index + 1
