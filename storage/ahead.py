"""Reading ahead: while one blob of a known sequence is sent, the next few are on their way.

A distant store answers each read after a while; a series that is read one blob after the other waits that long for
every instance. Only a read asks for more, so that nothing goes on once the reader has left.
"""

import io
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import BinaryIO

from storage.base import BlobStat, BlobStore
from storage.ranged import clip_range
from storage.spool import Spool

LARGEST_BYTES = 4 * 1024 * 1024
"""What is larger is not read ahead: its own stream keeps a connection busy for long enough."""
_WINDOW_BYTES = 6 * 1024 * 1024
_WINDOW_BLOBS = 8
_ALL_WINDOWS_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Extent:
    """Bytes ``offset`` up to, not including, ``offset + length_bytes`` of the blob ``key``."""

    key: str
    offset: int
    length_bytes: int


class ReadAhead:
    """Reads ahead in ``store`` for any number of readers, which share its threads and its memory.

    What ``is_near`` says is close at hand is left to its reader. One reader has at most eight blobs and 6 MiB ahead,
    and all together 64 MiB: what would be more is read when its turn comes.
    """

    def __init__(self, store: BlobStore, is_near: Callable[[str], bool] = lambda _: False) -> None:
        self.store = store
        self.is_near = is_near
        self._threads = ThreadPoolExecutor(_WINDOW_BLOBS, "read-ahead")
        self._lock = threading.Lock()
        self._free_bytes = _ALL_WINDOWS_BYTES
        # What is given back may be so by the garbage collector, in whose midst no lock can be waited for.
        self._given_back: SimpleQueue[int] = SimpleQueue()

    def over(self, extents: Sequence[Extent]) -> BlobStore:
        """Return the store for one reader, who reads these extents in about this order."""
        return _Sequential(self, extents)

    def start(self, extent: Extent) -> "Future[bytes] | None":
        """Begin to read an extent; None if there is no memory for it. Its bytes count until ``drop``."""
        with self._lock:
            while not self._given_back.empty():
                self._free_bytes += self._given_back.get()
            if self._free_bytes < extent.length_bytes:
                return None
            self._free_bytes -= extent.length_bytes
        end = extent.offset + extent.length_bytes
        return self._threads.submit(self.store.read_range, extent.key, extent.offset, end)

    def drop(self, ahead: "dict[int, tuple[Extent, Future[bytes]]]", before: int | None = None) -> None:
        """Forget what lies ``before`` an index, or everything; what has not begun never does."""
        for index in [index for index in ahead if before is None or index < before]:
            extent, future = ahead.pop(index)
            future.cancel()
            self._given_back.put(extent.length_bytes)

    def close(self) -> None:
        """End the threads; what is read already can still be taken."""
        self._threads.shutdown(cancel_futures=True)


class _Sequential:
    """A ``BlobStore`` for one reader at a time; each read of an extent asks for those that follow it."""

    def __init__(self, shared: ReadAhead, extents: Sequence[Extent]) -> None:
        self._shared = shared
        self._store = shared.store
        self._extents = extents
        self._indexes = {extent.key: index for index, extent in reversed(list(enumerate(extents)))}
        self._ahead: dict[int, tuple[Extent, Future[bytes]]] = {}
        self._left: set[int] = set()  # to the reader: what is near is looked for once, and not by each read before it
        # However the reader ends, and without a word from it.
        weakref.finalize(self, shared.drop, self._ahead)

    def put(self, key: str, spool: Spool) -> BlobStat:
        """Store as the store does."""
        return self._store.put(key, spool)

    def open(self, key: str, start: int = 0, end: int | None = None) -> BinaryIO:
        """Return a stream over the bytes, in memory if they came ahead."""
        found = self._take(key, start, end)
        return self._store.open(key, start, end) if found is None else io.BytesIO(found)

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Return the bytes, which may have come ahead."""
        found = self._take(key, start, end)
        return self._store.read_range(key, start, end) if found is None else found

    def stat(self, key: str) -> BlobStat:
        """Return size and time of a blob."""
        return self._store.stat(key)

    def remove(self, key: str) -> None:
        """Remove a blob from the store."""
        self._store.remove(key)

    def iter_keys(self) -> Iterator[str]:
        """Yield every key of the store."""
        return self._store.iter_keys()

    def _take(self, key: str, start: int, end: int | None) -> bytes | None:
        """Return the bytes if they came ahead, once they are all there, and ask for the next ones."""
        index = self._indexes.get(key)
        if index is None:
            return None
        self._shared.drop(self._ahead, before=index)
        self._fill(index)
        if index not in self._ahead:
            return None
        extent, future = self._ahead[index]
        first, last = start - extent.offset, extent.length_bytes if end is None else end - extent.offset
        if first < 0 or last > extent.length_bytes or (end is None and extent.offset > 0):
            return None
        if future.cancelled():  # the archive is being closed
            return None
        data = future.result()
        first, last = clip_range(first, last, len(data))
        return data if last - first == len(data) else data[first:last]

    def _fill(self, index: int) -> None:
        """Ask for what follows ``index``, and for it no more: its reader would only wait for a thread."""
        ahead_bytes = sum(extent.length_bytes for extent, _ in self._ahead.values())
        for following in range(index + 1, min(index + 1 + _WINDOW_BLOBS, len(self._extents))):
            extent = self._extents[following]
            if following in self._ahead or following in self._left:
                continue
            if extent.length_bytes > LARGEST_BYTES or self._shared.is_near(extent.key):
                self._left.add(following)
                continue
            if ahead_bytes + extent.length_bytes > _WINDOW_BYTES:
                return
            future = self._shared.start(extent)
            if future is None:
                return
            self._ahead[following] = extent, future
            ahead_bytes += extent.length_bytes
