"""The only door into the archive.

The order is the promise: spooled and parsed, checked, the bytes durable in the store, one committed transaction that
publishes them, and only then an answer that says stored. Whatever fails on the way leaves no more than a blob that
nothing refers to, which the sweeper removes.
"""

import logging
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from pacs.database.base import Database
from pacs.errors import HeaderTooLarge, InvalidHeader, OutOfResources, TruncatedDataSet, Unavailable
from pacs.imaging.frames import encode_layout, plan_frames
from pacs.index import conflicts, rows, writer
from pacs.ingest import rejection
from pacs.ingest.coercion import CoercionRule, coerce_in
from pacs.ingest.digests import digest_as_before, digest_data_set
from pacs.ingest.header import parse_header
from pacs.ingest.incoming import Incoming, IncomingSpool
from pacs.ingest.outcome import Disposition, Outcome, Reason
from pacs.ingest.publishing import Publication, publish, rejects_duplicates
from pacs.ingest.rules import check, is_uid, place
from pacs.model import FrameLayout, Header, Location
from pacs.tags import text_of
from storage.base import BlobStore
from storage.errors import BlobNotFound, StorageError, StorageFull
from storage.keys import blob_key
from storage.spool import Spool

MAX_LARGE_HEADERS = 2
"""How many headers of more than a megabyte are in memory at once: as Python objects each takes many times its bytes,
and every association may send one in the same second. Parsing holds the interpreter, so that waiting costs little."""

LOGGER = logging.getLogger(__name__)

_REASONS = {Disposition.CONFLICT: Reason.CONFLICT, Disposition.REJECTED: Reason.DUPLICATE_REJECTED}


class Ingestor:
    """Stores incoming objects. Any number of threads may call it at once."""

    def __init__(
        self,
        database: Database,
        store: BlobStore,
        partition_id: int,
        spool_directory: Path,
        character_set: str = "ISO_IR 100",
        *,
        coercion: Sequence[CoercionRule] = (),
        takes_files: bool = False,
    ) -> None:
        """Make an ingestor; ``character_set`` is the site's, for text that neither declaration nor sender explains.

        ``takes_files`` says that the store makes the spool's file its own: it is begun while rows are made.
        """
        self._database = database
        self._store = store
        self._partition_id = partition_id
        self._spool_directory = spool_directory
        self._character_set = character_set
        self._coercion = coercion
        self._takes_files = takes_files
        self._large_headers = threading.BoundedSemaphore(MAX_LARGE_HEADERS)

    def open_spool(self) -> IncomingSpool:
        """Return an empty spool for one object; the caller closes it, whatever becomes of the object."""
        return IncomingSpool(self._spool_directory)

    def store(self, incoming: Incoming) -> Outcome:
        """Take one object in and say what became of it; what the outcome calls stored survives a power cut.

        Never raises for anything that the sender, the disk, the store or the database did.
        """
        try:
            with ExitStack() as held:
                outcome = self._store_parsed(incoming, held)
        except (StorageFull, OutOfResources):
            outcome = _refuse(incoming, Reason.OUT_OF_RESOURCES)
        except (StorageError, Unavailable):
            LOGGER.exception("The store or the index did not answer")
            outcome = _refuse(incoming, Reason.UNAVAILABLE)
        if outcome.reason is not None:
            LOGGER.info(
                "%s from %s: %s (instance %s)%s",
                outcome.disposition,
                incoming.origin.calling_ae_title or incoming.origin.door,
                outcome.reason.name,
                outcome.sop_instance_uid,
                "".join(f"; {warning}" for warning in outcome.warnings),
            )
        return outcome

    def _store_parsed(self, incoming: Incoming, held: ExitStack) -> Outcome:
        """Parse, check and publish; what ``held`` holds is given back once nothing of the header is needed."""
        with Spool(self._spool_directory) as inflated:
            try:
                header = parse_header(
                    incoming.spool,
                    incoming.spool.size_bytes,
                    (incoming.origin.character_set, self._character_set),
                    inflate_into=inflated,
                    on_large=lambda: self._wait_for_room(held),
                )
                layout = plan_frames(header, incoming.spool)
            except InvalidHeader as error:
                return _refuse(incoming, _header_reason(error), (str(error),))
        header = place(header)
        refusal, findings = check(header, incoming.expected)
        refusal = refusal or rejection.refuse(header, incoming.origin)
        if refusal is not None:
            return _outcome(header, Disposition.REJECTED, refusal, findings)
        return self._publish(incoming, header, layout, findings)

    def _wait_for_room(self, held: ExitStack) -> None:
        """Wait until there is room for a large header; ``held`` gives the room back."""
        held.enter_context(self._large_headers)

    def _publish(self, incoming: Incoming, header: Header, layout: FrameLayout, findings: tuple[str, ...]) -> Outcome:
        with self._database.read() as connection:
            existing = writer.find_existing(
                connection, self._partition_id, text_of(header.attributes, "SOPInstanceUID")
            )
        if existing is None and self._takes_files:
            incoming.spool.begin_sync()
        dataset_digest = digest_data_set(incoming.spool, header)
        if existing is not None:
            dataset_digest = self._recall_digest(incoming.spool, header, existing, dataset_digest)
            if existing.dataset_digest == dataset_digest and self._is_stored(existing.location):
                return _outcome(header, Disposition.DUPLICATE, None, findings)
            if existing.dataset_digest != dataset_digest and rejects_duplicates(incoming.origin):
                return _outcome(header, Disposition.REJECTED, Reason.DUPLICATE_REJECTED, findings)
        location = Location(blob_key(incoming.spool.digest()), 0, incoming.spool.size_bytes)
        prepared = rows.prepare(
            rows.NewInstance(
                partition_id=self._partition_id,
                header=header,
                layout=encode_layout(layout),
                location=location,
                dataset_digest=dataset_digest,
                origin=incoming.origin,
                stored_at=datetime.now(UTC),
                steps=coerce_in(self._coercion, header.attributes, incoming.origin),
            )
        )
        self._store.put(location.blob_key, incoming.spool)
        publication = Publication(prepared, location, header.transfer_syntax_uid, dataset_digest)
        disposition = self._database.write(lambda connection: publish(connection, publication))
        return _outcome(header, disposition, _REASONS.get(disposition), findings)

    def _recall_digest(self, spool: Spool, header: Header, existing: writer.Existing, dataset_digest: str) -> str:
        """Return the former digest of a data set that is known by it, or else the one that is given."""
        if existing.dataset_digest == dataset_digest:
            return dataset_digest
        former = digest_as_before(spool, header)
        if existing.dataset_digest == former:
            return former
        sop_instance_uid = text_of(header.attributes, "SOPInstanceUID")
        with self._database.read() as connection:
            is_listed = conflicts.is_listed(connection, self._partition_id, sop_instance_uid, former)
        return former if is_listed else dataset_digest

    def _is_stored(self, location: Location) -> bool:
        """Whether the bytes that a duplicate would be told are safe still are: it may be the last copy there is."""
        try:
            self._store.stat(location.blob_key)
        except BlobNotFound:
            return False
        return True


def _header_reason(error: InvalidHeader) -> Reason:
    match error:
        case HeaderTooLarge():
            return Reason.TOO_COMPLEX
        case TruncatedDataSet():
            return Reason.TRUNCATED
        case _:
            return Reason.NOT_DICOM


def _refuse(incoming: Incoming, reason: Reason, warnings: tuple[str, ...] = ()) -> Outcome:
    return Outcome(
        Disposition.REJECTED,
        reason,
        sop_class_uid=incoming.expected.sop_class_uid,
        sop_instance_uid=incoming.expected.sop_instance_uid,
        study_instance_uid=incoming.expected.study_instance_uid,
        warnings=warnings,
    )


def _outcome(header: Header, disposition: Disposition, reason: Reason | None, findings: tuple[str, ...]) -> Outcome:
    """Return the answer; what a rule finds is told to the sender, oddities of single values only to the log."""
    if reason is None and findings:
        reason = Reason.DATA_SET_MISMATCH
    return Outcome(
        disposition,
        reason,
        sop_class_uid=_uid_of(header, "SOPClassUID"),
        sop_instance_uid=_uid_of(header, "SOPInstanceUID"),
        study_instance_uid=_uid_of(header, "StudyInstanceUID"),
        series_instance_uid=_uid_of(header, "SeriesInstanceUID"),
        warnings=(*findings, *header.warnings),
    )


def _uid_of(header: Header, keyword: str) -> str:
    """Return a UID, or nothing if it is malformed: who repeats it in an answer or a log may repeat a patient's name."""
    uid = text_of(header.attributes, keyword)
    return uid if is_uid(uid) else ""
