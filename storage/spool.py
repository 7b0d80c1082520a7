"""Bytes on their way in: in memory while they are few, in a locked file once they are many.

A spool's file lives in the folder it was given; a store whose root holds that folder can rename it into place instead
of copying. The file is locked while its process lives, so that ``sweep_spools`` can tell what a killed process left.
"""

import errno
import fcntl
import hashlib
import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Self

from storage.errors import StorageFull, StorageUnavailable

MEMORY_LIMIT_BYTES = 16 * 1024 * 1024
CHUNK_BYTES = 1024 * 1024
_SUFFIX = ".spool"


@contextmanager
def disk_errors() -> Iterator[None]:
    """Translate what a file system says into this package's errors."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(StorageFull.__doc__) from error
        raise StorageUnavailable(f"{StorageUnavailable.__doc__} ({error.strerror})") from error


class Spool:
    """An append-only buffer that can be read while and after it is written; ``close`` frees it.

    With ``is_digested`` the digest of all bytes is taken while they are written, when they are at hand anyway.
    """

    def __init__(
        self, directory: Path, memory_limit_bytes: int = MEMORY_LIMIT_BYTES, *, is_digested: bool = False
    ) -> None:
        self._directory = directory
        self._memory_limit_bytes = memory_limit_bytes
        # All bytes, as long as none was written behind those that went to the file.
        self._buffer: bytearray | None = bytearray()
        self._descriptor: int | None = None
        self._path: Path | None = None
        self._running_digest = hashlib.sha256() if is_digested else None
        self._known_digest = (0, b"", 0, "")
        self.size_bytes = 0

    @property
    def path(self) -> Path | None:
        """The file that holds the bytes, or None while they are in memory."""
        return self._path

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Append bytes; raise StorageFull when they outgrow the disk."""
        if self._descriptor is None and self.size_bytes + len(data) > self._memory_limit_bytes:
            self._move_to_file()
        if self._descriptor is None:
            self._memory.extend(data)
        else:
            self._buffer = None
            with disk_errors():
                _pwrite_all(self._descriptor, data, self.size_bytes)
        if self._running_digest is not None:
            self._running_digest.update(data)
        self.size_bytes += len(data)
        return len(data)

    def read_range(self, start: int, end: int) -> bytes:
        """Return bytes ``start`` up to, not including, ``end``; short only at the end of what was written."""
        if self._buffer is not None:
            return bytes(memoryview(self._buffer)[start:end])
        assert self._descriptor is not None
        with disk_errors():
            return pread_all(self._descriptor, start, end)

    def iter_chunks(self, start: int = 0) -> Iterator[bytes]:
        """Yield the bytes from ``start`` on in pieces of at most one MiB."""
        for offset in range(start, self.size_bytes, CHUNK_BYTES):
            yield self.read_range(offset, min(offset + CHUNK_BYTES, self.size_bytes))

    def open(self) -> BinaryIO:
        """Return a reader of its own over everything written so far; the caller closes it before ``close``."""
        if self._buffer is not None:
            return io.BytesIO(self._buffer)
        assert self._path is not None
        with disk_errors():
            return self._path.open("rb")

    def digest(self, start: int = 0, prefix: bytes = b"") -> str:
        """Return the SHA-256 of ``prefix`` and the bytes from ``start`` on, in hex; asked again it costs nothing."""
        question = start, prefix, self.size_bytes
        if self._known_digest[:3] != question or not self._known_digest[3]:
            self._known_digest = *question, self._take_digest(start, prefix)
        return self._known_digest[3]

    def _take_digest(self, start: int, prefix: bytes) -> str:
        if self._running_digest is not None and start == 0 and not prefix:
            return self._running_digest.hexdigest()
        sha256 = hashlib.sha256(prefix)
        if self._buffer is not None:
            sha256.update(memoryview(self._buffer)[start:])
        else:
            for chunk in self.iter_chunks(start):
                sha256.update(chunk)
        return sha256.hexdigest()

    def begin_sync(self) -> None:
        """Have the bytes on their way to the disk, in this spool's file, so that ``sync_to_file`` waits for less."""
        descriptor, _ = self._have_file(None)
        if hasattr(os, "posix_fadvise"):
            # Linux begins to write what is not written yet, and waits for nothing.
            with disk_errors():
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def sync_to_file(self, directory: Path | None = None) -> Path:
        """Make sure that the bytes are in this spool's file and durable there; return its path.

        Bytes still in memory go to a file in ``directory``, or in the spool's own folder; if that fails they stay in
        memory and no file is left. A file that exists stays where it is.
        """
        descriptor, path = self._have_file(directory)
        with disk_errors():
            os.fsync(descriptor)
        return path

    def close(self) -> None:
        """Free memory and remove the file, unless a store has moved it away; a second ``close`` does nothing."""
        descriptor, path = self._descriptor, self._path
        self._descriptor, self._path, self._buffer, self._running_digest = None, None, bytearray(), None
        if path is not None:
            # Unlinked while the lock is still held: a sweeper never sees it free.
            with suppress(OSError):
                path.unlink()
        if descriptor is not None:
            with suppress(OSError):
                os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _memory(self) -> bytearray:
        assert self._buffer is not None, "what is in no file is in memory"
        return self._buffer

    def _have_file(self, directory: Path | None) -> tuple[int, Path]:
        if self._descriptor is None:
            self._move_to_file(directory)
        assert self._descriptor is not None
        assert self._path is not None
        return self._descriptor, self._path

    def _move_to_file(self, directory: Path | None = None) -> None:
        """Write what is in memory to a file; it stays in memory as well."""
        with disk_errors():
            descriptor, path = _create_locked(directory or self._directory)
            try:
                _pwrite_all(descriptor, self._memory, 0)
            except OSError:
                path.unlink(missing_ok=True)
                os.close(descriptor)
                raise
        self._descriptor, self._path = descriptor, path


def pread_all(descriptor: int, start: int, end: int) -> bytes:
    """Return bytes ``start`` up to, not including, ``end`` of a file; short only where the file ends."""
    data = os.pread(descriptor, max(0, end - start), start)
    if len(data) >= end - start or not data:
        return data
    # One call gives at most 2 GiB, and network file systems may give less.
    pieces = [data]
    while data and (start := start + len(data)) < end:
        data = os.pread(descriptor, end - start, start)
        pieces.append(data)
    return b"".join(pieces)


def _pwrite_all(descriptor: int, data: bytes | bytearray | memoryview, start: int) -> None:
    """Write bytes from byte ``start`` of a file on; what failed half-way is overwritten by the next attempt."""
    written = os.pwrite(descriptor, data, start)
    while written < len(data):  # at most 2 GiB a call, and less where the disk becomes full
        written += os.pwrite(descriptor, memoryview(data)[written:], start + written)


def _create_locked(directory: Path) -> tuple[int, Path]:
    """Return the descriptor of a new file that this process has locked, and its path."""
    while True:
        descriptor, name = tempfile.mkstemp(suffix=_SUFFIX, dir=directory)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink:
                return descriptor, Path(name)
        except OSError:
            os.close(descriptor)
            raise
        # A sweeper came between creating and locking and took the file for a dead process's.
        os.close(descriptor)


def sweep_spools(directory: Path) -> int:
    """Remove what killed processes left in ``directory`` and return how many; files in use are locked and stay."""
    removed = 0
    for path in directory.glob(f"*{_SUFFIX}"):
        with suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
            removed += 1
    return removed
