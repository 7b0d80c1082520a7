"""A folder of files that can be lost: shelves of entries, of which those not asked for the longest make room."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

TEMPORARY = ".new"
"""How the name of a file ends that is still being written beside its place."""

_BLOCK_BYTES = 4096
_SWEPT_SHARE = 16
_ABANDONED_SECONDS = 3600.0


class BoundedFolder:
    """Keeps ``folder`` within ``capacity_bytes``; any number of processes may share it.

    It is walked once for every sixteenth of the capacity that this process wrote, and not for every entry: so much it
    may be too large for a while, for every process. An entry was last asked for when its file says it was modified.
    """

    def __init__(self, folder: Path, capacity_bytes: int) -> None:
        self._folder = folder
        self._capacity_bytes = capacity_bytes
        self._lock = threading.Lock()
        self._until_sweep_bytes = 0  # what a process before this one left is counted at the first entry

    def count(self, file_bytes: int) -> None:
        """Take note of a new entry; now and then that makes room for the next ones."""
        with self._lock:
            self._until_sweep_bytes -= _occupied(file_bytes)
            if self._until_sweep_bytes > 0:
                return
            self._until_sweep_bytes = self._capacity_bytes // _SWEPT_SHARE
        self._sweep()

    def _sweep(self) -> None:
        """Remove what was not asked for the longest until all fits, with room for what is written before the next."""
        entries = sorted(self._iter_entries())
        excess = sum(size for _, size, _ in entries) - self._capacity_bytes + self._capacity_bytes // _SWEPT_SHARE
        for _, size, path in entries:
            if excess <= 0:
                return
            with suppress(OSError):  # another process was faster
                os.unlink(path)  # noqa: PTH108 - a path object for each of many thousands costs more than this
            excess -= size

    def _iter_entries(self) -> Iterator[tuple[float, int, str]]:
        """Yield when each entry was last asked for, what it occupies and its path; what nobody finished is removed."""
        abandoned_before = time.time() - _ABANDONED_SECONDS
        try:
            shelves = [shelf.path for shelf in os.scandir(self._folder) if shelf.is_dir(follow_symlinks=False)]
        except OSError:
            return
        for shelf in shelves:
            with suppress(OSError), os.scandir(shelf) as found:
                for entry in found:
                    with suppress(OSError):
                        facts = entry.stat(follow_symlinks=False)
                        if not entry.name.endswith(TEMPORARY):
                            yield facts.st_mtime, _occupied(facts.st_size), entry.path
                        elif facts.st_mtime < abandoned_before:
                            os.unlink(entry.path)  # noqa: PTH108


def _occupied(file_bytes: int) -> int:
    return -(-file_bytes // _BLOCK_BYTES) * _BLOCK_BYTES
