"""Blobs in this process's memory, for tests and demos; obeys the contract suite, except that nothing survives it."""

import io
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import BinaryIO

from storage.base import BlobStat
from storage.errors import BlobConflict, BlobNotFound
from storage.keys import check_key
from storage.ranged import clip_range
from storage.spool import Spool


class MemoryStore:
    """A ``BlobStore`` in a dictionary; threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blobs: dict[str, tuple[bytes, datetime]] = {}

    def put(self, key: str, spool: Spool) -> BlobStat:
        """Keep a copy of the spool's bytes; a key that exists has its time renewed."""
        check_key(key)
        data = spool.read_range(0, spool.size_bytes)
        with self._lock:
            known, _ = self._blobs.get(key, (data, None))
            if len(known) != len(data):
                raise BlobConflict(BlobConflict.__doc__)
            now = datetime.now(UTC)
            self._blobs[key] = (known, now)
        return BlobStat(key, len(data), now)

    def open(self, key: str, start: int = 0, end: int | None = None) -> BinaryIO:
        """Return a stream of bytes ``start`` up to, not including, ``end``."""
        data, _ = self._get(key)
        start, end = clip_range(start, end, len(data))
        return io.BytesIO(data[start:end])

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Return bytes ``start`` up to, not including, ``end``, as far as the blob goes."""
        data, _ = self._get(key)
        start, end = clip_range(start, end, len(data))
        return data[start:end]

    def stat(self, key: str) -> BlobStat:
        """Return size and time of a blob."""
        data, modified_at = self._get(key)
        return BlobStat(key, len(data), modified_at)

    def remove(self, key: str) -> None:
        """Forget a blob; a key that is not there is no error."""
        with self._lock:
            self._blobs.pop(key, None)

    def iter_keys(self) -> Iterator[str]:
        """Yield every key there was when the iteration began."""
        with self._lock:
            keys = list(self._blobs)
        yield from keys

    def _get(self, key: str) -> tuple[bytes, datetime]:
        try:
            return self._blobs[key]
        except KeyError:
            raise BlobNotFound(BlobNotFound.__doc__) from None
