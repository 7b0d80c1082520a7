"""Whole blobs of a distant store, kept in a local folder so that the next read of them costs a file's.

A blob's key is the digest of its bytes. So nothing kept is ever stale, and what was read from the front is known to be
a whole blob, unharmed on its way, by its digest alone: that is the rule for what is kept. Bytes from the midst of a
blob go through, for one frame of a thousand is no reason to fetch the rest. Nothing depends on what is kept but time.
"""

import hashlib
import io
import logging
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from io import BufferedWriter
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Self

from storage.base import BlobStat, BlobStore
from storage.bounded import TEMPORARY, BoundedFolder
from storage.keys import blob_key, key_digest
from storage.ranged import FileRange, RangedReader, clip_range, open_range
from storage.spool import Spool, disk_errors, pread_all

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

LOGGER = logging.getLogger(__name__)

_LENGTH_BYTES = 8
_LARGEST_SHARE = 8
_SEEN_AGAIN_SECONDS = 60.0
_PAUSE_SECONDS = 60.0
_BUFFER_BYTES = 128 * 1024


class CachedStore:
    """A ``BlobStore`` in front of another one: reads are answered from ``folder`` where it holds the blob.

    ``stat`` and ``put`` are the store's own, and so is every promise of durability. Threads may share it, and processes
    may share the folder, which holds patients' images and is this process's user's alone.
    """

    def __init__(self, store: BlobStore, folder: Path, capacity_bytes: int) -> None:
        self._store = store
        self._kept = KeptBlobs(folder, capacity_bytes)

    def has(self, key: str) -> bool:
        """Return whether a blob seems to be here, so that nobody needs to fetch it ahead."""
        return self._kept.has(key)

    def put(self, key: str, spool: Spool) -> BlobStat:
        """Store in the store; what is never read is not kept here."""
        return self._store.put(key, spool)

    def open(self, key: str, start: int = 0, end: int | None = None) -> BinaryIO:
        """Return a stream over the bytes; a whole blob is kept when it was read to its end."""
        descriptor = self._kept.open(key)
        if descriptor is not None:
            size_bytes = os.fstat(descriptor).st_size - _LENGTH_BYTES
            return io.BufferedReader(RangedReader(descriptor, *clip_range(start, end, size_bytes)), _BUFFER_BYTES)
        stream = self._store.open(key, start, end)
        if start > 0 or not self._kept.may_keep(key):
            return stream
        return io.BufferedReader(_KeepingReader(stream, self._kept.begin(key)), _BUFFER_BYTES)

    def open_file(self, key: str, start: int, end: int) -> FileRange | None:
        """Return the bytes in the blob's file if it is kept here, as ``InFiles`` has it."""
        descriptor = self._kept.open(key)
        if descriptor is None:
            return None
        is_within = end <= os.fstat(descriptor).st_size - _LENGTH_BYTES
        return open_range(descriptor, start, end if is_within else start)

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Return the bytes; if they turn out to be the whole blob they are kept."""
        descriptor = self._kept.open(key)
        if descriptor is not None:
            try:
                size_bytes = os.fstat(descriptor).st_size - _LENGTH_BYTES
                with disk_errors():
                    return pread_all(descriptor, *clip_range(start, end, size_bytes))
            finally:
                os.close(descriptor)
        data = self._store.read_range(key, start, end)
        if start <= 0 and self._kept.may_keep(key):
            self._kept.keep(key, data)
        return data

    def stat(self, key: str) -> BlobStat:
        """Return size and time as the store knows them."""
        return self._store.stat(key)

    def remove(self, key: str) -> None:
        """Remove a blob, here first; and here again, for somebody may have read it meanwhile."""
        self._kept.remove(key)
        self._store.remove(key)
        self._kept.remove(key)

    def iter_keys(self) -> Iterator[str]:
        """Yield every key of the store."""
        return self._store.iter_keys()


class KeptBlobs:
    """A bounded folder of whole blobs, from which the one that was not asked for the longest goes first.

    A file is its blob's bytes and then their length, written beside its place and renamed without a sync: one that a
    power cut left short or empty has another size than it says, and is removed when it is met.
    """

    def __init__(self, folder: Path, capacity_bytes: int) -> None:
        self._folder = folder
        self._capacity_bytes = capacity_bytes
        self.bound = BoundedFolder(folder, capacity_bytes)
        self._paused_until = 0.0

    def has(self, key: str) -> bool:
        """Return whether there is an entry."""
        return os.path.exists(self._path(key))  # noqa: PTH110 - asked for every blob that is read ahead

    def open(self, key: str) -> int | None:
        """Return a descriptor of a blob's file, which the caller closes, or None."""
        if not _is_of_content(key):
            return None
        path = self._path(key)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return None
        facts = os.fstat(descriptor)
        if not _is_whole(descriptor, facts.st_size):
            os.close(descriptor)
            LOGGER.warning("A blob in the cache is damaged and is fetched again")
            self.remove(key)
            return None
        if abs(time.time() - facts.st_mtime) > _SEEN_AGAIN_SECONDS:
            with suppress(OSError):
                os.utime(path)
        return descriptor

    def may_keep(self, key: str) -> bool:
        """Return whether a blob may be kept: its key tells its content, and the disk was not full a moment ago."""
        return _is_of_content(key) and time.monotonic() >= self._paused_until

    def begin(self, key: str) -> "Entry":
        """Return what takes a blob from its first byte on."""
        return Entry(self, self._path(key))

    def keep(self, key: str, data: bytes) -> None:
        """Keep these bytes if they are the whole blob."""
        if len(data) > self.largest_bytes or hashlib.sha256(data).hexdigest() != key_digest(key):
            return
        with self.begin(key) as entry:
            entry.place(data)

    @property
    def largest_bytes(self) -> int:
        """How large a blob may be to be kept."""
        return self._capacity_bytes // _LARGEST_SHARE

    def pause(self, error: OSError) -> None:
        """Keep nothing for a minute: the disk is full, or worse."""
        LOGGER.warning("The cache of blobs keeps nothing for a minute: %s", error.strerror)
        self._paused_until = time.monotonic() + _PAUSE_SECONDS

    def remove(self, key: str) -> None:
        """Forget a blob."""
        if _is_of_content(key):
            with suppress(OSError):
                os.unlink(self._path(key))  # noqa: PTH108

    def _path(self, key: str) -> str:
        digest = key_digest(key)
        return f"{self._folder}/{digest[:2]}/{digest}"


class Entry:
    """A blob on its way into the cache. Nothing here ever raises: a blob that cannot be kept is just not kept."""

    def __init__(self, kept: KeptBlobs, path: str) -> None:
        self._kept = kept
        self._path = path
        self._temporary = f"{path}.{os.getpid()}-{id(self)}{TEMPORARY}"
        self._sha256 = hashlib.sha256()
        self._length_bytes = 0
        self._file = self._create()

    def write(self, data: bytes | memoryview) -> None:
        """Take the next bytes."""
        if self._file is None:
            return
        if self._length_bytes + len(data) > self._kept.largest_bytes:
            self.close()
            return
        self._sha256.update(data)
        self._append(data)

    def finish(self) -> None:
        """Put the entry in its place if its digest is what its name says."""
        if self._path.endswith(f"/{self._sha256.hexdigest()}"):
            self.place()
        else:
            self.close()

    def place(self, data: bytes = b"") -> None:
        """Put the entry in its place, with the bytes that are the rest of it."""
        self._append(data)
        if self._file is None:
            return
        try:
            with self._file as file:
                file.write(self._length_bytes.to_bytes(_LENGTH_BYTES, "big"))
            os.replace(self._temporary, self._path)  # noqa: PTH105
        except OSError as error:
            self._kept.pause(error)
            self.close()
            return
        self._file = None
        self._kept.bound.count(_LENGTH_BYTES + self._length_bytes)

    def close(self) -> None:
        """Forget what was written, unless it is in its place."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            with suppress(OSError):
                os.unlink(self._temporary)  # noqa: PTH108
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _append(self, data: bytes | memoryview) -> None:
        if self._file is None:
            return
        try:
            self._file.write(data)
        except OSError as error:
            self._kept.pause(error)
            self.close()
            return
        self._length_bytes += len(data)

    def _create(self) -> BufferedWriter | None:
        try:
            with suppress(FileNotFoundError):  # of each shelf, only the first entry has to make it
                return open(self._temporary, "wb", opener=_open_private)
            shelf = Path(self._path).parent
            for folder in (shelf.parent, shelf):
                folder.mkdir(mode=0o700, exist_ok=True)
            return open(self._temporary, "wb", opener=_open_private)
        except OSError as error:
            self._kept.pause(error)
            return None


class _KeepingReader(io.RawIOBase):
    """Reads a blob's stream and keeps what was read, if that is all of it."""

    def __init__(self, stream: BinaryIO, entry: Entry) -> None:
        self._stream = stream
        self._entry = entry

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer).cast("B")
        data = self._stream.read(len(view))
        view[: len(data)] = data
        if data:
            self._entry.write(data)
        elif len(view):
            self._entry.finish()
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._entry.close()
            self._stream.close()
        super().close()


def _is_of_content(key: str) -> bool:
    try:
        return blob_key(key_digest(key)) == key
    except ValueError:
        return False


def _is_whole(descriptor: int, file_bytes: int) -> bool:
    """Return whether a file ends in the length of what is before it."""
    length = os.pread(descriptor, _LENGTH_BYTES, max(0, file_bytes - _LENGTH_BYTES))
    return len(length) == _LENGTH_BYTES and int.from_bytes(length, "big") == file_bytes - _LENGTH_BYTES


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)
