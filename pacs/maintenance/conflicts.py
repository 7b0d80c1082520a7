"""Conflicts that are none: copies that differ only in their encoding, as when a device resends in another syntax.

Both are decoded to Explicit VR Little Endian and compared by digest. What does not decode, or was lossy, is never
equal: then a person decides.
"""

import hashlib
import logging
import threading
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from sqlalchemy import Connection

from pacs.database.base import Database
from pacs.errors import PacsError, UnsupportedTransferSyntax
from pacs.imaging.frames import plan_frames
from pacs.imaging.opened import OpenInstance, closer
from pacs.imaging.transcode import FrameDecoder, to_explicit_little_endian
from pacs.index import changes, conflicts, writer
from pacs.index.conflicts import Conflict, ConflictKind
from pacs.ingest.header import parse_header
from pacs.model import ChangeKind, Location
from pacs.retrieve.stored import SpoolScratch, StoredBytes
from storage.base import BlobStore

LOGGER = logging.getLogger(__name__)

PAUSE_SECONDS = 5.0
"""Before a look at what has come: whoever resends does so many times, and nobody waits for the answer."""


class Comparer:
    """Compares stored copies by what they hold."""

    def __init__(self, store: BlobStore, decoder: FrameDecoder, spool_directory: Path) -> None:
        self._store = store
        self._decoder = decoder
        self._spool_directory = spool_directory

    def is_same_content(self, first: Location, second: Location) -> bool:
        """Whether both copies hold the same values and the same pixels; False also for what cannot be decoded."""
        try:
            return self._digest(first) == self._digest(second)
        except (PacsError, EOFError):
            return False

    def _digest(self, location: Location) -> str:
        source = StoredBytes(self._store, location)
        with ExitStack() as stack:
            inflated = stack.enter_context(closing(self._open_scratch()))
            header = parse_header(source, source.size_bytes, inflate_into=inflated)
            opened = OpenInstance(header, plan_frames(header, source), source)
            stack.callback(_release, opened)
            if not opened.syntax.is_lossless:
                raise UnsupportedTransferSyntax("What was lossy is equal to nothing but itself.")
            if header.is_deflated:
                opened.inflate(self._open_scratch())
            transcoded = stack.enter_context(
                closing(to_explicit_little_endian(opened, self._decoder, self._open_scratch))
            )
            sha256 = hashlib.sha256()
            for chunk in transcoded.iter_chunks():
                sha256.update(chunk)
            return sha256.hexdigest()

    def _open_scratch(self) -> SpoolScratch:
        return SpoolScratch(self._spool_directory)


class ConflictResolver:
    """Settles the conflicts between copies that are equal but for their encoding.

    Runs in a thread between ``with`` and its end, and looks at each conflict once.
    """

    def __init__(self, database: Database, comparer: Comparer, partition_id: int) -> None:
        self._database = database
        self._comparer = comparer
        self._partition_id = partition_id
        self._stopping = threading.Event()
        self._awake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="conflict-resolver", daemon=True)
        self._seen = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._awake.set()
        self._thread.join()

    def resolve_pending(self) -> int:
        """Look at the open conflicts that were not looked at yet; return how many were settled."""
        with self._database.read() as connection:
            pending = list(conflicts.iter_conflicts(connection, self._partition_id, after=self._seen))
        settled = 0
        for conflict in pending:
            self._seen = conflict.id
            if conflict.kind is ConflictKind.CONTENT and self._is_same_content(conflict):
                self._database.write(lambda connection, conflict=conflict: _settle(connection, conflict))  # type: ignore[misc]
                settled += 1
        return settled

    def _run(self) -> None:
        with self._database.watch(self._awake.set):
            while True:
                self._awake.wait()
                self._awake.clear()
                if self._stopping.wait(PAUSE_SECONDS):
                    return
                try:
                    self.resolve_pending()
                except PacsError:
                    LOGGER.exception("Conflicts cannot be looked at now")

    def _is_same_content(self, conflict: Conflict) -> bool:
        assert conflict.location is not None, "a conflict of content keeps a copy"
        with self._database.read() as connection:
            answering = writer.find_existing(connection, self._partition_id, conflict.sop_instance_uid)
        if answering is None or answering.transfer_syntax_uid == conflict.transfer_syntax_uid:
            return False  # two data sets in one syntax that differ do not only differ in their encoding
        return self._comparer.is_same_content(answering.location, conflict.location)


def _release(opened: OpenInstance) -> None:
    closer(opened.release())()


def _settle(connection: Connection, conflict: Conflict) -> None:
    at = datetime.now(UTC)
    if conflicts.resolve_conflict(connection, conflict.partition_id, conflict.id, conflicts.EQUAL_CONTENT, at):
        changes.append(
            connection,
            conflict.partition_id,
            ChangeKind.CONFLICT_RESOLVED,
            at=at,
            study_instance_uid=conflict.study_instance_uid,
            series_instance_uid=conflict.series_instance_uid,
            sop_instance_uid=conflict.sop_instance_uid,
        )
