"""What has not been accepted yet: spooled bytes, where they came from, and what their sender said of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pacs.errors import OutOfResources, Unavailable
from pacs.imaging.filemeta import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, encode_file_meta
from pacs.model import Origin
from storage.errors import StorageFull, StorageUnavailable
from storage.spool import CHUNK_BYTES, Spool

__all__ = [
    "IMPLEMENTATION_CLASS_UID",
    "IMPLEMENTATION_VERSION_NAME",
    "Expected",
    "Incoming",
    "IncomingSpool",
    "encode_file_meta",
]


@dataclass(frozen=True, slots=True)
class Expected:
    """The UIDs that a C-STORE command or a STOW-RS address names; an empty one promises nothing."""

    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    study_instance_uid: str = ""


class IncomingSpool(Spool):
    """A spool as the edges see it: it fails with the archive's errors, for an edge knows nothing of storage."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, is_digested=True)

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Append bytes; raise OutOfResources when they outgrow the disk."""
        try:
            return super().write(data)
        except StorageFull as error:
            raise OutOfResources from error
        except StorageUnavailable as error:
            raise Unavailable from error

    def iter_range(self, start: int, end: int) -> Iterator[bytes]:
        """Yield bytes ``start`` up to, not including, ``end`` in chunks; raise Unavailable if the disk gives none."""
        for offset in range(start, end, CHUNK_BYTES):
            try:
                yield self.read_range(offset, min(end, offset + CHUNK_BYTES))
            except StorageUnavailable as error:
                raise Unavailable from error

    def open_file(self, start: int, end: int) -> None:
        """Return None: what is on its way in lies in no file yet."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """One DICOM file on its way in. The caller keeps and closes the spool."""

    spool: Spool
    origin: Origin
    expected: Expected = Expected()
