"""Writing behind: a blob is durable in a local journal when it is acknowledged, and goes to the distant store after.

The journal is a ``FilesystemStore``, with all that one promises; what lies in it has not arrived yet, and for so long
this machine's disk holds the only copy. Nothing leaves the journal before the distant store has acknowledged it, so
that a reader who looks here first and there second finds every blob at any moment.
"""

import fcntl
import logging
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from storage.base import BlobStat, BlobStore
from storage.errors import BlobConflict, BlobNotFound, StorageError, StorageUnavailable
from storage.filesystem import FilesystemStore
from storage.keys import blob_key, key_digest
from storage.ranged import FileRange, InFiles
from storage.spool import Spool, disk_errors

LOGGER = logging.getLogger(__name__)

_UPLOADS = 4
_BATCH = 256
_BUSY_BATCH = 16
_BUSY_SECONDS = 1.0
_LOOK_AGAIN_SECONDS = 5.0
"""How soon the uploader sees what another process has put into the journal."""
_GATHER_SECONDS = 0.25
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0
# No key begins with a dot: these are never listed as blobs.
_UPLOADER_LOCK = ".uploader"
_REMOVAL_LOCK = ".removal"


class Journal:
    """A folder of blobs that wait for the distant store; any number of processes of this machine may share it."""

    def __init__(self, folder: Path) -> None:
        self.blobs = FilesystemStore(folder)
        self._folder = folder.absolute()
        self.has_more = threading.Event()

    def has(self, key: str) -> bool:
        """Return whether a blob waits here."""
        try:
            self.blobs.stat(key)
        except StorageError:
            return False
        return True

    def count(self) -> int:
        """Return how many blobs wait."""
        return sum(1 for _ in self.blobs.iter_keys())

    def is_busy(self) -> bool:
        """Return whether any process has put something a moment ago, so that uploads should leave it room."""
        with disk_errors():
            put_at = self.blobs.spool_directory.stat().st_mtime
        return abs(time.time() - put_at) < _BUSY_SECONDS

    def open_waiting(self, key: str) -> "WaitingBlob":
        """Return a blob to be uploaded, which the caller closes; raise BlobNotFound if it waits no longer."""
        try:
            with disk_errors():
                return WaitingBlob(self._folder / key)
        except StorageUnavailable as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise BlobNotFound(BlobNotFound.__doc__) from error
            raise

    def try_lead(self) -> int | None:
        """Return a descriptor that makes its holder the only uploader until it is closed; None if there is one."""
        try:
            descriptor = os.open(self._folder / _UPLOADER_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            LOGGER.exception("The journal of the object store cannot be read")
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return None
        return descriptor

    @contextmanager
    def removing(self) -> Iterator[None]:
        """Keep everybody else from removing anything while the block lasts."""
        with disk_errors():
            descriptor = os.open(self._folder / _REMOVAL_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            with disk_errors():
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


class WaitingBlob(Spool):
    """A file of the journal as a spool, which reads it where it lies and leaves it there."""

    def __init__(self, path: Path) -> None:
        super().__init__(path.parent)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._path = path
        self._buffer = None
        self.size_bytes = os.fstat(self._descriptor).st_size

    def is_still(self) -> bool | None:
        """Return whether this very file still has its name; None if there is none of that name."""
        assert self._descriptor is not None
        assert self._path is not None
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return None
        # Held open, so that no other file can have its number.
        return there.st_ino == os.fstat(self._descriptor).st_ino

    def close(self) -> None:
        """Close the file, and leave it where it is."""
        self._path = None
        super().close()


class JournaledStore:
    """A ``BlobStore`` that looks into the journal first, and puts there if it ``writes_behind``.

    Then ``put`` asks the distant store nothing: that another size is stored there under the same digest is found out
    by the uploader. Until that is settled by a person, the blob of the journal is the one that is read.
    """

    def __init__(self, journal: Journal, distant: BlobStore, *, writes_behind: bool) -> None:
        self._journal = journal
        self._local = journal.blobs
        self._distant = distant
        self._writes_behind = writes_behind

    def put(self, key: str, spool: Spool) -> BlobStat:
        """Make the spool's bytes durable on this machine, or there; StorageFull if there is no room where they go."""
        if not self._writes_behind:
            return self._distant.put(key, spool)
        found = self._local.put(key, spool)
        self._journal.has_more.set()
        return found

    def open(self, key: str, start: int = 0, end: int | None = None) -> BinaryIO:
        """Return a stream over the bytes, wherever they are by now."""
        with suppress(BlobNotFound):
            return self._local.open(key, start, end)
        return self._distant.open(key, start, end)

    def open_file(self, key: str, start: int, end: int) -> FileRange | None:
        """Return the bytes in a file of this machine if they are in one, as ``InFiles`` has it."""
        with suppress(BlobNotFound):
            return self._local.open_file(key, start, end)
        return self._distant.open_file(key, start, end) if isinstance(self._distant, InFiles) else None

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Return the bytes, wherever they are by now."""
        with suppress(BlobNotFound):
            return self._local.read_range(key, start, end)
        return self._distant.read_range(key, start, end)

    def stat(self, key: str) -> BlobStat:
        """Return size and time of a blob."""
        with suppress(BlobNotFound):
            return self._local.stat(key)
        return self._distant.stat(key)

    def remove(self, key: str) -> None:
        """Remove a blob here and there; one that is on its way is removed when it arrives."""
        with self._journal.removing():
            self._local.remove(key)
            self._distant.remove(key)

    def iter_keys(self) -> Iterator[str]:
        """Yield every key once; those that wait are in memory meanwhile."""
        waiting = set(self._local.iter_keys())
        yield from waiting
        yield from (key for key in self._distant.iter_keys() if key not in waiting)


class Uploader:
    """Brings what waits in the journal to the distant store, in threads of its own, until it is closed.

    While objects are still coming in it sends one at a time, else four: a burst is taken in first. Of all processes
    that share the journal one uploads; when it ends, however it does, another takes over. What the
    store does not take is tried again after growing pauses, for ever; a blob that it can never take, or that is damaged
    here, stays in the journal, and the log says so once.
    """

    def __init__(self, journal: Journal, distant: BlobStore) -> None:
        self._journal = journal
        self._distant = distant
        self._stuck: set[str] = set()
        self._has_ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="uploader")
        self._thread.start()

    def close(self) -> None:
        """Finish what is under way; what waits is uploaded when the archive is opened again."""
        self._has_ended.set()
        self._journal.has_more.set()
        self._thread.join()

    def _run(self) -> None:
        leading = None
        while leading is None:
            leading = self._journal.try_lead()
            if leading is None and self._has_ended.wait(_LOOK_AGAIN_SECONDS):
                return
        try:
            with ThreadPoolExecutor(_UPLOADS, "upload") as threads:
                self._lead(threads)
        finally:
            os.close(leading)

    def _lead(self, threads: ThreadPoolExecutor) -> None:
        pause_seconds = 0.0
        while not self._has_ended.wait(pause_seconds):
            self._journal.has_more.clear()
            try:
                is_busy = self._journal.is_busy()
                waiting = (key for key in self._journal.blobs.iter_keys() if key not in self._stuck)
                batch = list(islice(waiting, _BUSY_BATCH if is_busy else _BATCH))
                results = list((map if is_busy else threads.map)(self._upload, batch))
            except Exception:
                LOGGER.exception("The journal of the object store cannot be read")
                results = [False]
            if all(results):
                if pause_seconds:
                    LOGGER.warning("The object store answers again")
                pause_seconds = 0.0
                if not batch:
                    self._journal.has_more.wait(_LOOK_AGAIN_SECONDS)
                if len(batch) < _BUSY_BATCH:
                    # Looking costs something, so that more than the one that has just come should be there.
                    self._has_ended.wait(_GATHER_SECONDS)
                continue
            pause_seconds = min(pause_seconds * 2 or _FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)
            if pause_seconds == _FIRST_PAUSE_SECONDS:
                LOGGER.warning("The object store does not take what waits in the journal; it is tried again")

    def _upload(self, key: str) -> bool:
        """Bring one blob to the store; return False if it should be tried again after a while."""
        if self._has_ended.is_set():
            return True
        try:
            with self._journal.open_waiting(key) as blob:
                if _is_damaged(key, blob):
                    self._leave(key, "its bytes are not those that were stored")
                    return True
                self._distant.put(key, blob)
                self._finish(key, blob)
        except BlobNotFound:
            return True
        except BlobConflict:
            self._leave(key, "the object store holds another size of it")
        except StorageError:
            return False
        return True

    def _finish(self, key: str, blob: WaitingBlob) -> None:
        """Take an uploaded blob out of the journal, unless somebody removed it meanwhile, or put it anew."""
        with self._journal.removing():
            is_still = blob.is_still()
            if is_still:
                self._journal.blobs.remove(key)
            elif is_still is None:
                self._distant.remove(key)

    def _leave(self, key: str, reason: str) -> None:
        self._stuck.add(key)
        LOGGER.error("Blob %s stays in the journal: %s", key, reason)


def _is_damaged(key: str, blob: Spool) -> bool:
    """Return whether a blob is not what its key says, if its key says that."""
    try:
        return blob_key(key_digest(key)) == key and blob.digest() != key_digest(key)
    except ValueError:
        return False
