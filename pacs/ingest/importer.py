"""Folders, ZIP files and DICOMDIRs as a stream of incoming objects.

An entry that cannot be opened becomes a Rejection in the stream, never an exception: one bad file does not stop an
import. Only paths are named, for they are what the person running the import can act on.
"""

import lzma
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import pydicom

from pacs.errors import OutOfResources, Unavailable
from pacs.ingest.incoming import Incoming, IncomingSpool
from pacs.ingest.outcome import Disposition, Outcome, Reason
from pacs.ingest.pipeline import Ingestor
from pacs.model import Origin

CHUNK_BYTES = 1024 * 1024
MAX_ZIP_RATIO = 200
MAX_ZIP_BYTES_AT_ANY_RATIO = 256 * 1024 * 1024
_NO_DICOM_SUFFIXES = frozenset({".md", ".toml", ".txt", ".py", ".html", ".pdf", ".jpg", ".png", ".exe", ".inf", ".xml"})


@dataclass(frozen=True, slots=True)
class Entry:
    """One file to import: what to call it, its size if known, and how to open it."""

    name: str
    size_bytes: int
    open: Callable[[], BinaryIO]


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of one entry; ``problem`` is a sentence when there is no ``outcome``."""

    name: str
    size_bytes: int
    outcome: Outcome | None = None
    problem: str = ""


class EntryRefused(Exception):
    """The entry cannot be read."""


def iter_entries(paths: Sequence[Path]) -> Iterator[Entry]:
    """Yield every file below the paths, folders in name order, ZIP files opened, DICOMDIRs followed.

    A path that does not exist raises FileNotFoundError at once; nothing else raises before an entry is opened.
    """
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(path)
    for path in paths:
        if path.is_dir():
            for file in sorted(file for file in path.rglob("*") if file.is_file()):
                if file.suffix.lower() not in _NO_DICOM_SUFFIXES and file.name.upper() != "DICOMDIR":
                    yield from _iter_file(file)
        elif path.name.upper() == "DICOMDIR":
            yield from _iter_dicomdir(path)
        else:
            yield from _iter_file(path)


def import_entry(ingestor: Ingestor, entry: Entry, origin: Origin) -> Imported:
    """Store one entry and say what became of it; never raises."""
    try:
        with ingestor.open_spool() as spool:
            _copy(entry, spool)
            return Imported(entry.name, spool.size_bytes, ingestor.store(Incoming(spool, origin)))
    except (OutOfResources, Unavailable) as error:
        reason = Reason.OUT_OF_RESOURCES if isinstance(error, OutOfResources) else Reason.UNAVAILABLE
        return Imported(entry.name, entry.size_bytes, Outcome(Disposition.REJECTED, reason))
    except EntryRefused as error:
        return Imported(entry.name, entry.size_bytes, problem=str(error))
    except OSError as error:
        return Imported(entry.name, entry.size_bytes, problem=f"cannot be read: {error.strerror}")


def _copy(entry: Entry, spool: IncomingSpool) -> None:
    try:
        with entry.open() as source:
            while chunk := source.read(CHUNK_BYTES):
                spool.write(chunk)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError) as error:
        # RuntimeError is how zipfile says that an entry is encrypted, NotImplementedError an unknown compression.
        raise EntryRefused(f"cannot be unpacked ({type(error).__name__})") from error


def _iter_file(path: Path) -> Iterator[Entry]:
    if zipfile.is_zipfile(path) and not _has_dicom_prefix(path):
        yield from _iter_zip(path)
    else:
        yield _file_entry(path)


def _has_dicom_prefix(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _iter_zip(path: Path) -> Iterator[Entry]:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError):
        yield Entry(str(path), path.stat().st_size, lambda: _refuse("is a damaged ZIP file"))
        return
    # Not closed here: entries may be opened after all were listed. It is closed with the last of them.
    budget = _DenseBudget()
    for info in archive.infolist():
        name = f"{path}!{info.filename}"
        if info.is_dir() or Path(info.filename).suffix.lower() in _NO_DICOM_SUFFIXES:
            continue
        if Path(info.filename).name.upper() == "DICOMDIR":
            continue
        yield Entry(name, info.file_size, partial(_open_zip_entry, archive, info, budget))


@dataclass(slots=True)
class _DenseBudget:
    """How much one ZIP file may still unpack to at any ratio: a bomb may be one large entry or many small ones."""

    bytes_left: int = MAX_ZIP_BYTES_AT_ANY_RATIO


def _open_zip_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo, budget: _DenseBudget) -> BinaryIO:
    """Open an entry unless it is a bomb; zipfile itself ends the stream at the size that the directory declares."""
    if info.file_size > MAX_ZIP_RATIO * max(info.compress_size, 1):
        if info.file_size > budget.bytes_left:
            raise EntryRefused("is refused: it unpacks to more than 200 times its size")
        budget.bytes_left -= info.file_size
    return archive.open(info)  # type: ignore[return-value]


def _iter_dicomdir(path: Path) -> Iterator[Entry]:
    """Yield the files a DICOMDIR refers to (PS3.10 8), looked up without regard to case as CDs need."""
    try:
        # pydicom quotes the values that it warns of.
        with warnings.catch_warnings(action="ignore"):
            directory = pydicom.dcmread(path)
            records = directory.get("DirectoryRecordSequence") or []
            references = [record.get("ReferencedFileID") for record in records]
    except Exception:  # noqa: BLE001 - a DICOMDIR is outside input and pydicom raises whatever it stumbles on
        yield Entry(str(path), path.stat().st_size, lambda: _refuse("is not a readable DICOMDIR"))
        return
    for reference in references:
        if not reference:
            continue
        parts = [reference] if isinstance(reference, str) else [str(part) for part in reference]
        file = _find_file(path.parent, parts)
        if file is None:
            yield Entry(f"{path} -> {'/'.join(parts)}", 0, lambda: _refuse("is named in the DICOMDIR but not there"))
        else:
            yield _file_entry(file)


def _file_entry(file: Path) -> Entry:
    return Entry(str(file), file.stat().st_size, lambda: file.open("rb"))


def _find_file(folder: Path, parts: list[str]) -> Path | None:
    """Follow file ID components below ``folder``; None if one is not there or would lead outside."""
    for part in parts:
        if part in ("", ".", "..") or "/" in part or "\\" in part or "\0" in part or not folder.is_dir():
            return None
        exact = folder / part
        match = exact if exact.exists() else next((f for f in folder.iterdir() if f.name.upper() == part.upper()), None)
        if match is None or match.is_symlink():
            return None
        folder = match
    return folder if folder.is_file() else None


def _refuse(why: str) -> BinaryIO:
    raise EntryRefused(why)
