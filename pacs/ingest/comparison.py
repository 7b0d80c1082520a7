"""Whether two stored copies differ in nothing but their encoding, as when a device sends again in another syntax.

Both are decoded to Explicit VR Little Endian and compared by digest. What does not decode, or was lossy, is never
equal: then a person decides.
"""

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

from pacs.errors import PacsError
from pacs.imaging.frames import plan_frames
from pacs.imaging.sandbox import Sandbox
from pacs.imaging.syntaxes import lookup
from pacs.imaging.transcode import to_explicit_little_endian
from pacs.ingest.header import parse_header
from pacs.model import Location
from storage.base import BlobStore
from storage.errors import StorageError
from storage.spool import Spool

_CHUNK_BYTES = 1024 * 1024


class Comparer:
    """Compares copies in one store. Pixels are decoded in child processes."""

    def __init__(self, store: BlobStore, decoder: Sandbox, spool_directory: Path) -> None:
        self._store = store
        self._decoder = decoder
        self._spool_directory = spool_directory

    def is_same_content(self, first: Location, second: Location) -> bool:
        """Whether both copies hold the same values and the same pixels; False also for what cannot be decoded."""
        try:
            return self._digest(first) == self._digest(second)
        except (PacsError, StorageError, EOFError):
            return False

    def _digest(self, location: Location) -> str:
        with ExitStack() as stack:
            source = _Copy(self._store, location)
            inflated = stack.enter_context(Spool(self._spool_directory))
            header = parse_header(source, source.size_bytes, inflate_into=inflated)
            if not lookup(header.transfer_syntax_uid).is_lossless:
                raise PacsError("What was lossy is equal to nothing but itself.")
            layout = plan_frames(header, inflated if header.is_deflated else source)
            transcoded = to_explicit_little_endian(
                header, layout, source, self._decoder, lambda: stack.enter_context(_Scratch(self._spool_directory))
            )
            stack.enter_context(closing(transcoded))
            sha256 = hashlib.sha256()
            for chunk in transcoded.iter_chunks():
                sha256.update(chunk)
            return sha256.hexdigest()


class _Copy:
    """One stored copy as a source of ranges."""

    def __init__(self, store: BlobStore, location: Location) -> None:
        self._store = store
        self._location = location

    @property
    def size_bytes(self) -> int:
        return self._location.length_bytes

    def read_range(self, start: int, end: int) -> bytes:
        offset = self._location.offset
        return self._store.read_range(self._location.blob_key, offset + start, offset + min(end, self.size_bytes))

    def iter_range(self, start: int, end: int) -> Iterator[bytes]:
        for offset in range(start, end, _CHUNK_BYTES):
            yield self.read_range(offset, min(end, offset + _CHUNK_BYTES))


class _Scratch(Spool):
    """A spool that is read as a source."""

    def iter_range(self, start: int, end: int) -> Iterator[bytes]:
        for offset in range(start, end, _CHUNK_BYTES):
            yield self.read_range(offset, min(end, offset + _CHUNK_BYTES))
