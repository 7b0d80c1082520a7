"""A ZIP file of instances, written as it is sent: one instance is open at a time, and none is held in memory.

Sizes and checksums follow each file's data, so nothing is known ahead; what outgrows 4 GiB is written as ZIP64. Names
are numbers, of at most eight characters (PS3.10 8.2): no UID and nothing of a patient.
"""

import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import RawIOBase
from typing import Any, Protocol

from pacs.imaging.syntaxes import lookup

_LEVEL = 1
"""Native pixels shrink by half on the quickest level, which a slow link is glad of."""
_AS_IT_IS = 0
"""What is compressed already does not shrink. It goes as blocks of deflate that are merely stored: an entry that is
stored outright may have no data descriptor for readers that go from front to back, such as Java's ZipInputStream."""
_PER_DIRECTORY = 1000
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time of every file: when an instance was stored is nobody's business, and the same study gives the same file."""


class Content(Protocol):
    """What can be sent: how many bytes, if that is known, and the bytes; whoever sends it closes it."""

    @property
    def length_bytes(self) -> int | None:
        """How many bytes there are, or None."""
        ...

    def iter_chunks(self) -> Iterator[bytes]:
        """Yield the bytes."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


@dataclass(frozen=True, slots=True)
class File:
    """What goes under a name, and the transfer syntax that it is in; none for what is not an instance."""

    name: str
    content: Content
    transfer_syntax_uid: str = ""
    is_compressed: bool = False

    @property
    def is_dense(self) -> bool:
        """Whether it is compressed already."""
        syntax = lookup(self.transfer_syntax_uid)
        has_syntax = bool(self.transfer_syntax_uid)
        return self.is_compressed or (has_syntax and (syntax.is_encapsulated or syntax.is_deflated))


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


def write_zip(files: Iterable[File]) -> Iterator[bytes]:
    """Yield a ZIP file of these files, in order; each is taken when its turn comes, and closed."""
    outlet = _Outlet()
    # Not seekable, so that zipfile writes data descriptors instead of going back.
    with zipfile.ZipFile(outlet, "w") as archive:
        for file in files:
            yield from _write_file(archive, outlet, file)
    yield outlet.take()


def _write_file(archive: zipfile.ZipFile, outlet: _Outlet, file: File) -> Iterator[bytes]:
    content = file.content
    entry = zipfile.ZipInfo(file.name, _EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    # Nothing public sets the level of a single streamed entry before Python 3.13, which keeps this name.
    entry._compresslevel = _AS_IT_IS if file.is_dense else _LEVEL  # type: ignore[attr-defined]  # noqa: SLF001
    entry.external_attr = 0o644 << 16
    # From the expected size zipfile decides whether 32 bits will do.
    entry.file_size = content.length_bytes or 0
    try:
        with archive.open(entry, "w", force_zip64=content.length_bytes is None) as sink:
            for chunk in content.iter_chunks():
                sink.write(chunk)
                yield outlet.take()
    finally:
        content.close()
