"""What is made of a release and can be made again: kept in a folder, so that ranges of it cost a read.

A release is never altered, and what is made of it is the same each time: so nothing here can be stale, every host may
have a folder of its own, and all of it may be deleted at any time. What is made of a release that is not there any more
for anybody goes, too.
"""

import os
import tempfile
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from pacs.retrieve.stored import store_errors
from storage.spool import disk_errors

_TEMPORARY = ".new"
_ABANDONED_SECONDS = 3600.0


class DerivedFiles:
    """Files by a release and a name. Any number of threads and processes may share the folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()

    def get(self, release_id: int, name: str, make: Callable[[BinaryIO], object]) -> Path:
        """Return the file, which ``make`` writes if it is not there yet; it appears whole, or not at all.

        One is made at a time: whoever else wants it waits, and finds it. Raises what ``make`` raises, Unavailable for
        what the disk says, OutOfResources if it is full.
        """
        path = self._folder / f"{release_id}-{name}"
        if path.exists():
            return path
        with self._lock:
            if not path.exists():
                self._make(path, make)
        return path

    def keep_only(self, release_ids: Collection[int]) -> None:
        """Remove what was made of any other release, and what a killed process left half made."""
        for path in self._folder.glob("*-*"):
            release_id = path.name.partition("-")[0]
            if not (release_id.isdecimal() and int(release_id) in release_ids):
                with suppress(OSError):
                    path.unlink()
        abandoned_before = time.time() - _ABANDONED_SECONDS
        for path in self._folder.glob(f"*{_TEMPORARY}"):
            with suppress(OSError):
                if path.stat().st_mtime < abandoned_before:
                    path.unlink()

    def _make(self, path: Path, make: Callable[[BinaryIO], object]) -> None:
        with store_errors(), disk_errors():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(_TEMPORARY, dir=self._folder)
            made = Path(name)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    make(file)
                made.replace(path)
            except BaseException:
                made.unlink(missing_ok=True)
                raise
