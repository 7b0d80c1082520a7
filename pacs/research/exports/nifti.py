"""A series as NIfTI, made by dcm2niix: a program of its own, with limits, in a folder of its own.

It sees de-identified instances and nothing else, under names that are numbers. What it says in its sidecar, which is
BIDS JSON, it takes from them; it is told to leave out dates and comments besides, and what it is called after is the
word "series". Its settings file is ignored, so that the same series gives the same file everywhere.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import BoundedSemaphore

from pacs.errors import NotAcceptable, NotInstalled, OutOfResources
from pacs.imaging.limited import Limits, running
from pacs.imaging.representation import Representation
from pacs.research.exports.extra import load
from pacs.retrieve.stored import store_errors
from storage.spool import disk_errors

MAX_SERIES_BYTES = 8 * 1024**3
"""A series that is larger is not made into one volume: nobody could open it either."""

LIMITS = Limits(memory_bytes=8 * 1024**3, file_bytes=8 * 1024**3, seconds=600.0)

_PREFIX = "nifti-"
_OPTIONS = ("-g", "i", "-z", "i", "-b", "y", "-ba", "y", "-c", "", "-f", "series", "-d", "0", "-w", "2")
"""No settings file; compressed by itself; with a sidecar, without dates; no comment; this name; this folder only."""

_SUFFIXES = (".nii.gz", ".json", ".bval", ".bvec")


def find_dcm2niix() -> str:
    """Return where dcm2niix is; raise NotInstalled, which says how to get it."""
    package = load("dcm2niix")
    program = str(package.bin)
    if not os.access(program, os.X_OK):
        raise NotInstalled
    return program


class Converter:
    """Runs dcm2niix, ``at_once`` times at the same time and no more. Any number of threads may call it."""

    def __init__(self, scratch: Path, limits: Limits = LIMITS, at_once: int = 2) -> None:
        """Make a converter; ``scratch`` is a folder with room for a series and for what is made of it."""
        self._scratch = scratch
        self._limits = limits
        self._turns = BoundedSemaphore(at_once)

    @contextmanager
    def convert(self, instances: Iterable[Representation]) -> Iterator[tuple[Path, ...]]:
        """Give the files that dcm2niix makes of the instances of one series, by name; they are gone after the block.

        The instances are opened one at a time, and closed. Raises NotAcceptable for a series that is no volume,
        NotInstalled without dcm2niix.
        """
        program = find_dcm2niix()
        with _own_folder(self._scratch) as folder:
            source, target = folder / "in", folder / "out"
            source.mkdir()
            target.mkdir()
            with self._turns:  # nobody waits for whoever takes what was made
                _write_instances(instances, source)
                command = [program, *_OPTIONS, "-o", str(target), str(source)]
                with running(command, self._limits, folder=folder) as process:
                    process.wait()
                shutil.rmtree(source)
            made = tuple(sorted(path for path in target.iterdir() if path.name.endswith(_SUFFIXES)))
            # What it says of its success means little: it may have made one of two volumes, or a sidecar of nothing.
            if not any(path.name.endswith(".nii.gz") for path in made):
                raise NotAcceptable("No NIfTI can be made of this series.")
            yield made


def sweep_folders(scratch: Path) -> int:
    """Remove what killed processes left in ``scratch`` and return how many folders; those in use are locked."""
    removed = 0
    for path in scratch.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path)
                removed += 1
            finally:
                os.close(descriptor)
    return removed


@contextmanager
def _own_folder(scratch: Path) -> Iterator[Path]:
    """Give a new folder, locked while this process lives, and remove it after the block."""
    folder, descriptor = _create_locked(scratch)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _create_locked(scratch: Path) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=scratch))
        with suppress(FileNotFoundError):  # a sweeper came before the lock, and took it for a dead process's
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if folder.exists():
                return folder, descriptor
            os.close(descriptor)


def _write_instances(instances: Iterable[Representation], folder: Path) -> None:
    left = MAX_SERIES_BYTES
    for index, instance in enumerate(instances):
        with instance:
            left -= instance.length_bytes
            if left < 0:
                raise NotAcceptable("The series is too large to be made into NIfTI.")
            if instance.length_bytes > shutil.disk_usage(folder).free // 2:
                raise OutOfResources
            with store_errors(), disk_errors(), (folder / f"{index:08d}").open("wb") as file:
                for chunk in instance.iter_chunks():
                    file.write(chunk)
