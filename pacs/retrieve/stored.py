"""Stored bytes and scratch space as the imaging code reads them, failing with the archive's errors."""

import logging
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

from pacs.errors import OutOfResources, Unavailable
from pacs.model import Location
from storage.base import BlobStore
from storage.errors import BlobNotFound, StorageError, StorageFull
from storage.ranged import FileRange, InFiles
from storage.spool import Spool

LOGGER = logging.getLogger(__name__)

T = TypeVar("T")

_CHUNK_BYTES = 1024 * 1024


class StoredBytes:
    """One instance's bytes in the store, read with the archive's errors.

    A blob may be packed into another between the look-up and the read: the location is looked up once more.
    """

    def __init__(
        self,
        store: BlobStore,
        location: Location,
        relocate: Callable[[], Location] | None = None,
        files: InFiles | None = None,
    ) -> None:
        """Read from ``store``; ``files`` is the same store, if it has blobs in files."""
        self._store = store
        self._files = files
        self._location = location
        self._relocate = relocate

    @property
    def size_bytes(self) -> int:
        """How many bytes the instance has."""
        return self._location.length_bytes

    def read_range(self, start: int, end: int) -> bytes:
        """Return bytes ``start`` up to, not including, ``end``; short only where the instance ends."""
        if start >= (end := min(end, self.size_bytes)):
            return b""
        return self._located(
            lambda place: self._store.read_range(place.blob_key, place.offset + start, place.offset + end)
        )

    def iter_range(self, start: int, end: int) -> Iterator[bytes]:
        """Yield the same bytes in chunks, from one stream that is closed with the iterator."""
        if end - start <= _CHUNK_BYTES:
            yield self.read_range(start, end)
            return
        end = min(end, self.size_bytes)
        stream = self._located(lambda place: self._store.open(place.blob_key, place.offset + start, place.offset + end))
        with closing(stream):
            while True:
                with store_errors():
                    chunk = stream.read(_CHUNK_BYTES)
                if not chunk:
                    return
                yield chunk

    def open_file(self, start: int, end: int) -> FileRange | None:
        """Return bytes ``start`` up to, not including, ``end`` in their file; None if they are to be read."""
        files = self._files
        if files is None or end > self.size_bytes:
            return None
        return self._located(lambda place: files.open_file(place.blob_key, place.offset + start, place.offset + end))

    def _located(self, read: Callable[[Location], T]) -> T:
        with store_errors():
            try:
                return read(self._location)
            except BlobNotFound:
                if self._relocate is None:
                    raise
            self._location, self._relocate = self._relocate(), None
            return read(self._location)


class SpoolScratch:
    """A spool as scratch space: it fails with the archive's errors."""

    def __init__(self, directory: Path) -> None:
        self._spool = Spool(directory)

    @property
    def size_bytes(self) -> int:
        """How many bytes were written."""
        return self._spool.size_bytes

    def write(self, data: bytes) -> int:
        """Append bytes; raise OutOfResources when they outgrow the disk."""
        with store_errors():
            return self._spool.write(data)

    def read_range(self, start: int, end: int) -> bytes:
        """Return bytes ``start`` up to, not including, ``end``; short only at the end of what was written."""
        with store_errors():
            return self._spool.read_range(start, end)

    def iter_range(self, start: int, end: int) -> Iterator[bytes]:
        """Yield the same bytes in chunks."""
        for offset in range(start, end, _CHUNK_BYTES):
            yield self.read_range(offset, min(end, offset + _CHUNK_BYTES))

    def open_file(self, start: int, end: int) -> None:
        """Return None: what was made on the way is in memory, or in a file that ends with it."""

    def close(self) -> None:
        """Free memory and disk."""
        self._spool.close()


@contextmanager
def store_errors() -> Iterator[None]:
    """Translate what the store says into the archive's errors."""
    try:
        yield
    except StorageFull as error:
        raise OutOfResources from error
    except BlobNotFound as error:
        LOGGER.exception("A blob that the index names is not in the store")
        raise Unavailable("The bytes of an instance are missing from the store.") from error
    except StorageError as error:
        raise Unavailable from error
