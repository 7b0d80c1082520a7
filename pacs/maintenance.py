"""What keeps an archive trustworthy while nobody looks: digests compared, and conflicts settled that are none."""

import hashlib
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from sqlalchemy import Connection

from pacs.database.base import Database
from pacs.errors import PacsError
from pacs.index import changes, conflicts, inventory, writer
from pacs.index.conflicts import Conflict, ConflictKind
from pacs.index.inventory import StoredCopy
from pacs.ingest.comparison import Comparer
from pacs.model import ChangeKind
from storage.base import BlobStore
from storage.errors import BlobNotFound
from storage.keys import key_digest

LOGGER = logging.getLogger(__name__)

_PAGE = 500
_CHUNK_BYTES = 1024 * 1024
_ReadPage = Callable[[Connection, int, int, int], list[StoredCopy]]


@dataclass(frozen=True, slots=True)
class Checked:
    """One stored copy and what is wrong with it: an empty ``problem`` is a sound one."""

    copy: StoredCopy
    problem: str = ""


def count_copies(database: Database, partition_id: int) -> int:
    """Return how many instances the partition holds."""
    with database.read() as connection:
        return inventory.count_instances(connection, partition_id)


def verify_copies(database: Database, store: BlobStore, partition_id: int) -> Iterator[Checked]:
    """Read every instance and every copy that a conflict keeps, and compare it with its digest.

    Yields one result a copy, as it goes; what is stored meanwhile may or may not be among them.
    """
    for read_page in (inventory.read_instances, inventory.read_conflicting):
        for copy in _walk(database, partition_id, read_page):
            yield Checked(copy, _verify(store, copy))


class ConflictResolver:
    """Settles conflicts between copies that differ only in how they are encoded (a resend in another transfer syntax).

    Runs in a thread between ``with`` and its end, and looks at each conflict once.
    """

    def __init__(self, database: Database, comparer: Comparer, partition_id: int, wait_seconds: float = 5.0) -> None:
        self._database = database
        self._comparer = comparer
        self._partition_id = partition_id
        self._wait_seconds = wait_seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="conflict-resolver", daemon=True)
        self._seen = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
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
        while not self._stopping.wait(self._wait_seconds):
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


def _settle(connection: Connection, conflict: Conflict) -> None:
    at = datetime.now(UTC)
    if conflicts.resolve_conflict(connection, conflict.partition_id, conflict.id, "equal decoded content", at):
        changes.append(
            connection,
            conflict.partition_id,
            ChangeKind.CONFLICT_RESOLVED,
            at=at,
            study_instance_uid=conflict.study_instance_uid,
            series_instance_uid=conflict.series_instance_uid,
            sop_instance_uid=conflict.sop_instance_uid,
        )


def _walk(database: Database, partition_id: int, read_page: _ReadPage) -> Iterator[StoredCopy]:
    after = 0
    while True:
        with database.read() as connection:
            page = read_page(connection, partition_id, after, _PAGE)
        yield from page
        if len(page) < _PAGE:
            return
        after = page[-1].row_id


def _verify(store: BlobStore, copy: StoredCopy) -> str:
    """Return what is wrong with a copy, or nothing. The whole blob is read: its key is the digest of all of it."""
    end = copy.location.offset + copy.location.length_bytes
    sha256 = hashlib.sha256()
    size = 0
    try:
        with store.open(copy.location.blob_key) as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                sha256.update(chunk)
                size += len(chunk)
    except BlobNotFound:
        return "missing"
    if size < end:
        return "truncated"
    return "" if sha256.hexdigest() == key_digest(copy.location.blob_key) else "damaged"
