"""A part of a store as a store of its own: what lies under one prefix, and nothing else can be named."""

from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO

from storage.base import BlobStat, BlobStore
from storage.errors import BlobNotFound
from storage.keys import check_key, is_valid_key
from storage.ranged import FileRange, InFiles
from storage.spool import Spool


class PrefixedStore:
    """A ``BlobStore`` of the blobs of ``store`` under ``prefix``, which is a part of a key, or some.

    Two of them with different prefixes have no blob in common, whatever keys they are asked for. ``iter_keys`` walks
    the whole store.
    """

    def __init__(self, store: BlobStore, prefix: str) -> None:
        """Make a part of a store; raise ValueError for a prefix that no key can begin with."""
        check_key(prefix)
        self._store = store
        self._files = store if isinstance(store, InFiles) else None
        self._prefix = f"{prefix}/"

    def put(self, key: str, spool: Spool) -> BlobStat:
        """Store under the prefix."""
        check_key(key)
        return replace(self._store.put(self._prefix + key, spool), key=key)

    def open(self, key: str, start: int = 0, end: int | None = None) -> BinaryIO:
        """Return a stream of bytes ``start`` up to, not including, ``end``."""
        return self._store.open(self._place(key), start, end)

    def open_file(self, key: str, start: int, end: int) -> FileRange | None:
        """Return the bytes in the blob's file if the store has them in one, as ``InFiles`` has it."""
        return None if self._files is None else self._files.open_file(self._place(key), start, end)

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Return bytes ``start`` up to, not including, ``end``, as far as the blob goes."""
        return self._store.read_range(self._place(key), start, end)

    def stat(self, key: str) -> BlobStat:
        """Return size and time of a blob."""
        return replace(self._store.stat(self._place(key)), key=key)

    def remove(self, key: str) -> None:
        """Remove a blob; a key that is not there is no error."""
        if is_valid_key(key):
            self._store.remove(self._prefix + key)

    def iter_keys(self) -> Iterator[str]:
        """Yield every key under the prefix, without it."""
        return (key.removeprefix(self._prefix) for key in self._store.iter_keys() if key.startswith(self._prefix))

    def _place(self, key: str) -> str:
        # Checked as it was asked for: behind the prefix it may be one that the store takes.
        if not is_valid_key(key):
            raise BlobNotFound(BlobNotFound.__doc__)
        return self._prefix + key
