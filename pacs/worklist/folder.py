"""The watched folder: a file that appears, changes or vanishes adds, changes or removes its scheduled steps.

Files end in ``.wl``, DICOM data sets as DCMTK's wlmscpfs reads them, or ``.json``, the DICOM JSON model; they lie in
the folder or one level below, where wlmscpfs has a folder for every called AE title. A name may be a patient's: it is
never logged, its digest is.
"""

import hashlib
import logging
import os
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import orjson

from pacs.errors import InvalidEntry, InvalidHeader, PacsError, ScheduledStepExists
from pacs.model import Attributes
from pacs.worklist.entries import Entry, parse_entries
from pacs.worklist.scheduled import Worklist

LOGGER = logging.getLogger(__name__)

MAX_FILES = 100_000
MAX_FILE_BYTES = 1024 * 1024
SUFFIXES = (".wl", ".json")
POLL_SECONDS = 2.0

ParseDicom = Callable[[bytes], Attributes]
"""Returns the data set of a DICOM file in the DICOM JSON model, or raises a PacsError."""

_Look = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Scan:
    """What one look at the folder did, in files."""

    changed: int = 0
    removed: int = 0
    broken: int = 0


def parse_file(suffix: str, content: bytes, parse_dicom: ParseDicom) -> tuple[Entry, ...]:
    """Return the scheduled steps of a file with one entry, or a JSON array of them; raise a PacsError if it is none."""
    if suffix != ".json":
        return parse_entries(parse_dicom(content))
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        raise InvalidEntry("The file is not JSON.") from None
    return tuple(entry for one in (value if isinstance(value, list) else [value]) for entry in parse_entries(one))


class WatchedFolder:
    """Keeps the worklist like a folder. Looks in a thread between ``with`` and its end."""

    def __init__(
        self, worklist: Worklist, folder: Path, parse_dicom: ParseDicom, wait_seconds: float = POLL_SECONDS
    ) -> None:
        self._worklist = worklist
        self._folder = folder
        self._parse_dicom = parse_dicom
        self._wait_seconds = wait_seconds
        self._seen: dict[str, _Look] = {}
        self._contents: dict[str, str] | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="worklist-folder", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def scan(self) -> Scan:
        """Look once; a file that is broken changes nothing, and is logged once for every change of it.

        Raises OSError if the folder cannot be read, and then nothing is removed.
        """
        if self._contents is None:
            known = (source.partition(":") for source in self._worklist.read_sources())
            self._contents = {digest: content for digest, _, content in known}
        looks = {self._digest_of(path): (path, look) for path, look in self._iter_files()}
        changed = broken = 0
        for digest, (path, look) in looks.items():
            if self._seen.get(digest) == look:
                continue
            try:
                changed += self._take(digest, path)
            except OSError:
                continue  # gone since it was listed, or not readable yet
            except (InvalidEntry, InvalidHeader, ScheduledStepExists) as error:
                LOGGER.warning("The worklist file %s is passed over: %s", digest, error)
                broken += 1
            self._seen[digest] = look
        gone = [digest for digest in self._contents if digest not in looks]
        for digest in gone:
            self._worklist.sync_source(digest, "", ())
            del self._contents[digest]
        self._seen = {digest: look for digest, look in self._seen.items() if digest in looks}
        return Scan(changed, len(gone), broken)

    def _digest_of(self, path: Path) -> str:
        return _digest(os.fsencode(path.relative_to(self._folder)))

    def _take(self, digest: str, path: Path) -> bool:
        """Read one file and return whether its content is another than the one that is known."""
        assert self._contents is not None, "scan has asked for it"
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise InvalidEntry("The file is too large.")
        content_digest = _digest(content)
        if self._contents.get(digest) == content_digest:
            return False
        entries = parse_file(path.suffix.lower(), content, self._parse_dicom)
        self._worklist.sync_source(digest, content_digest, entries)
        self._contents[digest] = content_digest
        return True

    def _iter_files(self) -> Iterator[tuple[Path, _Look]]:
        """Yield regular files and what tells that they have changed; links are not followed out of the folder."""
        count = 0
        for path in _iter_paths(self._folder):
            if path.suffix.lower() not in SUFFIXES:
                continue
            try:
                found = path.stat(follow_symlinks=False)
            except OSError:
                continue  # gone since it was listed
            if not stat.S_ISREG(found.st_mode):
                continue
            count += 1
            if count > MAX_FILES:
                LOGGER.warning("The worklist folder holds more than %d files; the rest is passed over", MAX_FILES)
                return
            yield path, (found.st_mtime_ns, found.st_size, found.st_ino)

    def _run(self) -> None:
        was_readable = True
        while True:
            try:
                self.scan()
                was_readable = True
            except (PacsError, OSError) as error:
                if was_readable:
                    LOGGER.warning("worklist.folder cannot be read now (%s); it is tried again", type(error).__name__)
                was_readable = False
            except Exception:
                LOGGER.exception("Looking at the worklist folder failed")
            if self._stopping.wait(self._wait_seconds):
                return


def _iter_paths(folder: Path) -> Iterator[Path]:
    """Yield what lies in the folder and in the folders in it, by name."""
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda one: one.name):
            if entry.is_dir(follow_symlinks=False):
                with os.scandir(entry.path) as inner:
                    yield from (Path(one.path) for one in sorted(inner, key=lambda one: one.name))
            else:
                yield Path(entry.path)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
