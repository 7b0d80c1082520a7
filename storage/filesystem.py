"""Blobs as files below one folder: temp file, fsync, link into place, fsync of the folder.

A file appears under its key only when it is whole and durable, so a reader never sees a part and a power cut leaves
either nothing or everything. What is not in place yet lies in ``incoming``, where ``sweep_spools`` finds the leftovers
of killed processes. Files are readable by this process's user alone, for they hold patients' images.
"""

# ruff: noqa: PTH102, PTH116, PTH120 - pathlib would take a third of what a put takes from the processor
import errno
import io
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from storage.base import BlobStat
from storage.errors import BlobConflict, BlobNotFound, StorageError, StorageUnavailable
from storage.keys import SPOOL_FOLDER, check_key, is_valid_key
from storage.ranged import FileRange, RangedReader, clip_range, open_range
from storage.spool import Spool, disk_errors, pread_all

# What opening a key says when there is no such blob: the key, or a folder of it, is absent or of the other kind.
_ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
_NO_HARD_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.ENOSYS})


class FilesystemStore:
    """A ``BlobStore`` in the folder ``root``, which is created; threads and processes may share it.

    Give ``spool_directory`` to every ``Spool``: what is spooled there is put in place without a copy.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self.spool_directory = self._root / SPOOL_FOLDER
        # Folders whose entries in their parents this process has made durable. Whoever created a folder may die
        # before its fsync, so that a folder that is merely there is not known to survive a power cut.
        self._durable_folders: set[str] = set()
        with disk_errors():
            _create_root(self.spool_directory)

    def put(self, key: str, spool: Spool) -> BlobStat:
        """Move or write the spool's bytes into place, durably; a key that exists has its time renewed."""
        check_key(key)
        path = f"{self._root}/{key}"
        with disk_errors():
            found = self._renew(key, path, spool) or self._publish(key, path, spool)
            # The entry of a file found here may be another process's that has not synced it yet.
            _sync_folder(os.path.dirname(path))
        return found

    def open(self, key: str, start: int = 0, end: int | None = None) -> BinaryIO:
        """Return a stream of bytes ``start`` up to, not including, ``end``; the caller closes it."""
        descriptor = self._open(key)
        if start <= 0 and end is None:
            return os.fdopen(descriptor, "rb")
        first, last = clip_range(start, end, os.fstat(descriptor).st_size)
        return io.BufferedReader(RangedReader(descriptor, first, last))

    def open_file(self, key: str, start: int, end: int) -> FileRange | None:
        """Return the same bytes in the blob's file, as ``InFiles`` has it."""
        return open_range(self._open(key), start, end)

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Return bytes ``start`` up to, not including, ``end``, as far as the blob goes."""
        descriptor = self._open(key)
        try:
            with disk_errors():
                return pread_all(descriptor, *clip_range(start, end, os.fstat(descriptor).st_size))
        finally:
            os.close(descriptor)

    def stat(self, key: str) -> BlobStat:
        """Return size and time of a blob."""
        if not is_valid_key(key):
            raise BlobNotFound(BlobNotFound.__doc__)
        try:
            with disk_errors():
                status = (self._root / key).stat()
        except StorageUnavailable as error:
            raise self._explain(error) from error
        if not stat.S_ISREG(status.st_mode):
            raise BlobNotFound(BlobNotFound.__doc__)
        return _describe(key, status)

    def remove(self, key: str) -> None:
        """Remove a blob; a key that is not there is no error. After a power cut the blob may be there again."""
        if not is_valid_key(key):
            return
        try:
            with disk_errors():
                (self._root / key).unlink()
        except StorageUnavailable as error:
            explained = self._explain(error)
            if not isinstance(explained, BlobNotFound):
                raise explained from error

    def iter_keys(self) -> Iterator[str]:
        """Yield every key, folder by folder; only one folder's names are in memory."""
        with disk_errors():
            yield from self._iter_folder("")

    def _renew(self, key: str, path: str, spool: Spool) -> BlobStat | None:
        """Renew the time of a blob that is there already; None if it is not."""
        try:
            if os.stat(path).st_size != spool.size_bytes:
                raise BlobConflict(BlobConflict.__doc__)
            os.utime(path)
            status = os.stat(path)
        except _ABSENT:
            return None
        self._make_folder(os.path.dirname(path))
        return _describe(key, status)

    def _publish(self, key: str, path: str, spool: Spool) -> BlobStat:
        """Make the spool's bytes durable in a file and give it the name ``path``."""
        if spool.path is not None:
            os.utime(spool.path)  # a long upload began long ago; what counts is when it was put
        source = spool.sync_to_file(self.spool_directory)
        self._make_folder(os.path.dirname(path))
        try:
            return self._link(key, source, path, spool)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
        with Spool(self.spool_directory, memory_limit_bytes=0) as copy:
            for chunk in spool.iter_chunks():
                copy.write(chunk)
            return self._link(key, copy.sync_to_file(self.spool_directory), path, copy)

    def _link(self, key: str, source: Path, path: str, spool: Spool) -> BlobStat:
        """Name the durable file ``source`` ``path``; whoever comes second renews what the first one stored.

        The file's first name goes with ``Spool.close``. A link, unlike a rename, never replaces another blob.
        """
        try:
            os.link(source, path)
        except FileExistsError:
            found = self._renew(key, path, spool)
            if found is None:  # removed in between, or not a file at all
                raise StorageUnavailable(StorageUnavailable.__doc__) from None
            return found
        except FileNotFoundError:
            # Someone removed empty folders, or the root is gone. The next put must not believe what we knew of them.
            self._durable_folders.clear()
            raise
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            # Some network file systems know no links; there the later of two puts of the same bytes replaces the first.
            source.replace(path)
        return _describe(key, os.stat(path))

    def _make_folder(self, folder: str) -> None:
        """Create ``folder`` and what is missing between it and the root, each entry durable in its parent."""
        if folder in self._durable_folders or folder == str(self._root):
            return
        parent = os.path.dirname(folder)
        with suppress(FileExistsError):
            try:
                os.mkdir(folder, 0o700)
            except FileNotFoundError:
                self._make_folder(parent)
                os.mkdir(folder, 0o700)
        self._make_folder(parent)
        _sync_folder(parent)
        self._durable_folders.add(folder)

    def _open(self, key: str) -> int:
        if not is_valid_key(key):
            raise BlobNotFound(BlobNotFound.__doc__)
        try:
            with disk_errors():
                descriptor = os.open(self._root / key, os.O_RDONLY | os.O_CLOEXEC)
        except StorageUnavailable as error:
            raise self._explain(error) from error
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        raise BlobNotFound(BlobNotFound.__doc__)

    def _explain(self, error: StorageError) -> StorageError:
        """Tell an unknown key from a root that is gone, such as one whose disk is not mounted any more."""
        if isinstance(error.__cause__, _ABSENT) and self.spool_directory.is_dir():
            return BlobNotFound(BlobNotFound.__doc__)
        return error

    def _iter_folder(self, prefix: str) -> Iterator[str]:
        try:
            with os.scandir(f"{self._root}/{prefix}") as listing:
                entries = list(listing)
        except FileNotFoundError:
            if not prefix or not self.spool_directory.is_dir():
                raise
            return  # an empty folder that someone removed meanwhile
        for entry in entries:
            key = prefix + entry.name
            if not is_valid_key(key):
                continue  # the spools, and what others put here: lost+found, hidden files
            if entry.is_dir(follow_symlinks=False):
                yield from self._iter_folder(f"{key}/")
            elif entry.is_file(follow_symlinks=False):
                yield key


def _create_root(folder: Path) -> None:
    """Create ``folder`` and its missing parents durably; what stood before is not ours to make durable."""
    missing = [path for path in (folder, *folder.parents) if not path.is_dir()]
    for path in reversed(missing):
        path.mkdir(mode=0o700, exist_ok=True)
        _sync_folder(path.parent)


def _describe(key: str, status: os.stat_result) -> BlobStat:
    return BlobStat(key, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))


def _sync_folder(folder: Path | str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
