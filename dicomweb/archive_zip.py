"""A ZIP file of instances, written as it is sent: one instance is open at a time, and none is held in memory.

Sizes and checksums follow each file's data, so nothing is known ahead; what outgrows 4 GiB is written as ZIP64. Names
are numbers, of at most eight characters (PS3.10 8.2): no UID and nothing of a patient.
"""

import zipfile
from collections.abc import Iterable, Iterator
from io import RawIOBase
from typing import Any

from dicomweb.multipart import Part

_LEVEL = 1
"""Native pixels shrink by half on the quickest level, which a slow link is glad of; others cost little to try."""
_PER_DIRECTORY = 1000
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time of every file: when an instance was stored is nobody's business, and the same study gives the same file."""


class _Outlet(RawIOBase):
    """Takes what the ZIP file consists of, in order, until it is taken away to be sent."""

    def __init__(self) -> None:
        super().__init__()
        self._pending: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._pending.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        """Return what was written since the last time."""
        taken, self._pending = b"".join(self._pending), []
        return taken


def name_of(index: int) -> str:
    """Return the name of a file, which counts from 0."""
    return f"DICOM/{index // _PER_DIRECTORY:08d}/{index % _PER_DIRECTORY:08d}"


def write_zip(files: Iterable[tuple[str, Part]]) -> Iterator[bytes]:
    """Yield a ZIP file of names and what goes under them, in order; each is taken when its turn comes, and closed."""
    outlet = _Outlet()
    # Not seekable, so that zipfile writes data descriptors instead of going back.
    with zipfile.ZipFile(outlet, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as archive:
        for name, part in files:
            yield from _write_file(archive, outlet, name, part)
    yield outlet.take()


def _write_file(archive: zipfile.ZipFile, outlet: _Outlet, name: str, part: Part) -> Iterator[bytes]:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    # From the expected size zipfile decides whether 32 bits will do.
    entry.file_size = part.length_bytes or 0
    try:
        with archive.open(entry, "w", force_zip64=part.length_bytes is None) as file:
            for chunk in part.iter_chunks():
                file.write(chunk)
                yield outlet.take()
    finally:
        part.close()
