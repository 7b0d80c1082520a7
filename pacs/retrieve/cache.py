"""Frames that were made for clients, kept so that the next one costs a read, and so that ranges of them can be given.

A key names content and nothing else: the digest of the stored bytes, the frame, the syntax it was made in and what made
it. So an entry is never stale, nobody has to be told of a change, and whoever has the same object shares it. What is
kept can be lost at any time, and is never believed without its digest: nothing depends on it but time.
"""

import hashlib
import logging
import os
import threading
import time
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from storage.bounded import TEMPORARY, BoundedFolder

LOGGER = logging.getLogger(__name__)

_DIGEST_BYTES = 32
_LARGEST_SHARE = 8
_SEEN_AGAIN_SECONDS = 60.0


class FrameCache(Protocol):
    """Keeps frames by key, as long as there is room. Any number of threads may call it at once."""

    def find(self, key: str) -> bytes | None:
        """Return what was put under the key, every byte of it, or None."""
        ...

    def put(self, key: str, content: bytes) -> bool:
        """Keep bytes under a key if there is room; return whether they are kept. Never raises."""
        ...


def frame_key(*identity: str | int) -> str:
    """Return the key of what these parts identify, which none can imitate by moving a boundary."""
    return hashlib.sha256(repr(identity).encode()).hexdigest()


class MemoryFrameCache:
    """In memory, for tests and for archives without a disk; bounded as ``FolderFrameCache``, exactly."""

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity_bytes = capacity_bytes
        self._entries: OrderedDict[str, bytes] = OrderedDict()
        self._size_bytes = 0
        self._lock = threading.Lock()

    def find(self, key: str) -> bytes | None:
        """Return what was put under the key, or None."""
        with self._lock:
            content = self._entries.get(key)
            if content is not None:
                self._entries.move_to_end(key)
            return content

    def put(self, key: str, content: bytes) -> bool:
        """Keep bytes under a key; what was not asked for the longest goes."""
        if len(content) > self._capacity_bytes // _LARGEST_SHARE:
            return False
        with self._lock:
            self._size_bytes += len(content) - len(self._entries.pop(key, b""))
            self._entries[key] = content
            while self._size_bytes > self._capacity_bytes:
                self._size_bytes -= len(self._entries.popitem(last=False)[1])
        return True


class FolderFrameCache:
    """In a folder of its own, which any number of processes may share; only its owner can read what is in it.

    A file is written beside its place and renamed, without a sync: one that a power cut left short or empty has another
    digest than it says, and is removed when it is met.
    """

    def __init__(self, folder: Path, capacity_bytes: int) -> None:
        """Make a cache; the folder is made with the first entry, in one that is there."""
        self._folder = folder
        self._capacity_bytes = capacity_bytes
        self._bound = BoundedFolder(folder, capacity_bytes)

    def find(self, key: str) -> bytes | None:
        """Return what was put under the key, its digest checked, or None."""
        path = self._path(key)
        try:
            with path.open("rb") as file:
                digest, content = file.read(_DIGEST_BYTES), file.read()
                seen_at = os.fstat(file.fileno()).st_mtime
        except OSError:
            return None
        if digest != _digest(key, content):
            LOGGER.warning("A frame in the cache is damaged and is made anew")
            with suppress(OSError):
                path.unlink()
            return None
        if abs(time.time() - seen_at) > _SEEN_AGAIN_SECONDS:
            with suppress(OSError):
                os.utime(path)
        return content

    def put(self, key: str, content: bytes) -> bool:
        """Keep bytes under a key, durable or not; what was not asked for the longest goes."""
        if len(content) > self._capacity_bytes // _LARGEST_SHARE:
            return False
        path = self._path(key)
        temporary = path.with_name(f"{key}.{os.getpid()}-{threading.get_ident()}{TEMPORARY}")
        try:
            for folder in (self._folder, path.parent):
                folder.mkdir(mode=0o700, exist_ok=True)
            with open(temporary, "wb", opener=_open_private) as file:
                file.write(_digest(key, content))
                file.write(content)
            temporary.replace(path)
        except OSError as error:
            LOGGER.warning("A frame is not kept in the cache: %s", error.strerror)
            with suppress(OSError):
                temporary.unlink()
            return False
        self._bound.count(_DIGEST_BYTES + len(content))
        return True

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / key


def _digest(key: str, content: bytes) -> bytes:
    """Return the digest of an entry; the key is in it, so that one under another's name is not believed."""
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES, key=bytes.fromhex(key)).digest()


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)
