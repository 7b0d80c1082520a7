"""The storage contract: six verbs on an opaque key. It never grows; caches, tiers and encryption are wrappers."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Protocol

from storage.spool import Spool


@dataclass(frozen=True, slots=True)
class BlobStat:
    """What a store knows of a blob. ``modified_at`` is aware UTC: when it was stored or last put again."""

    key: str
    size_bytes: int
    modified_at: datetime


class BlobStore(Protocol):
    """Durable bytes under keys from ``storage.keys``; every method raises StorageUnavailable if the store is away."""

    def put(self, key: str, spool: Spool) -> BlobStat:
        """Store the spool's bytes durably; when this returns they survive a power cut.

        A key that exists already has its time renewed and is not written again; BlobConflict if its size differs.
        Raises StorageFull when there is no room, and leaves nothing behind. The spool may have been moved: only
        ``close`` may be called on it afterwards.
        """
        ...

    def open(self, key: str, start: int = 0, end: int | None = None) -> BinaryIO:
        """Return a stream of bytes ``start`` up to, not including, ``end``; the caller closes it. Or BlobNotFound."""
        ...

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Return bytes ``start`` up to, not including, ``end``; raise BlobNotFound if the key is unknown."""
        ...

    def stat(self, key: str) -> BlobStat:
        """Return size and time of a blob; raise BlobNotFound if the key is unknown."""
        ...

    def remove(self, key: str) -> None:
        """Remove a blob; a key that is not there is no error. Only the sweeper calls this."""
        ...

    def iter_keys(self) -> Iterator[str]:
        """Yield every key, in no promised order; what is stored or removed meanwhile may or may not appear."""
        ...
