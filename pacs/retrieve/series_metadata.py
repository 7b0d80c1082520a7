"""Metadata of a series as one text: made once it is quiet, or when somebody asks, and kept in the index.

What is kept knows the revision that it shows, and is never given of another one. Addresses in it are relative to the
series, so that it is the same for all who ask, by whatever name they know this server.
"""

import logging
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection

from pacs.access import LOCAL, Principal
from pacs.database.base import Database
from pacs.errors import NotFound, SeriesNotFound, StudyNotFound
from pacs.index import metadata, reader, series_metadata
from pacs.index.series_metadata import Kept, SeriesState
from pacs.jobs.queue import Job, NewJob
from pacs.jobs.turn import Failed, Finished
from pacs.model import Change, ChangeKind
from pacs.retrieve.encoded import naming_video, with_bulk_base

__all__ = ["Kept", "SeriesMetadata", "SeriesText"]

LOGGER = logging.getLogger(__name__)

KIND = "series-metadata"
FOLLOWER = "series-metadata"
QUIET = timedelta(seconds=5)
"""How long nothing has to come for a series before its text is kept; one that grows is read anew each time."""

MAX_TEXT_BYTES = 16 * 1024 * 1024
"""Of one series; a longer text is never in memory, and is made while it is sent."""

_LEVEL = 1

_CHANGING = frozenset(
    {
        ChangeKind.INSTANCE_STORED,
        ChangeKind.INSTANCE_REPLACED,
        ChangeKind.INSTANCE_WITHHELD,
        ChangeKind.INSTANCE_RESTORED,
        ChangeKind.INSTANCE_RECOMPRESSED,
        ChangeKind.STUDY_CORRECTED,
    }
)


@dataclass(frozen=True, slots=True)
class SeriesText:
    """A JSON array of the instances of a series as they leave, under the digest of their ``Revision``.

    A BulkDataURI in it begins with ``/instances/``: it is relative to the address of the series (PS3.18 10.4.1).
    """

    digest: str
    text: bytes


class SeriesMetadata:
    """Finds the texts that are kept, and makes them. Any number of threads may call it at once."""

    def __init__(self, database: Database, partition_id: int) -> None:
        self._database = database
        self._partition_id = partition_id

    def find(
        self,
        principal: Principal,  # noqa: ARG002 - every use case takes one; reading is not restricted yet
        study_instance_uid: str,
        series_instance_uid: str,
    ) -> Kept | None:
        """Return what is kept of a series as it is now, by one statement that reads no instance; None if nothing is."""
        with self._database.read() as connection:
            return series_metadata.find_kept(connection, self._partition_id, study_instance_uid, series_instance_uid)

    def read(self, principal: Principal, kept: Kept) -> bytes | None:  # noqa: ARG002
        """Return the text that was found, as that of ``SeriesText``; None if it is gone by now."""
        with self._database.read() as connection:
            body = series_metadata.read_kept(connection, kept)
        return None if not body else zlib.decompress(body)

    def build(
        self,
        principal: Principal,  # noqa: ARG002
        study_instance_uid: str,
        series_instance_uid: str,
    ) -> SeriesText | None:
        """Return the text of a series, and keep it if nothing has come for a while; None if it is too long.

        Raises StudyNotFound or SeriesNotFound.
        """
        state, text = self._read(study_instance_uid, series_instance_uid)
        if state.updated_at + QUIET < datetime.now(UTC):
            self._keep(state, text)
        return text

    def plan(self, connection: Connection, changes: Sequence[Change]) -> list[NewJob]:
        """Return a job for every series that changed; one that waits already starts to wait anew."""
        due_at = datetime.now(UTC) + QUIET
        series = dict.fromkeys(
            (change.study_instance_uid, series_instance_uid)
            for change in changes
            if change.kind in _CHANGING
            for series_instance_uid in self._series_of(connection, change)
        )
        return [NewJob(KIND, KIND, " ".join(uids), due_at=due_at) for uids in series]

    def make(self, jobs: Sequence[Job]) -> Iterator[Finished | Failed]:
        """Make and keep the texts of some series: a task of the worker. A series that is gone needs none."""
        for job in jobs:
            study_instance_uid, series_instance_uid = job.key.split(" ")
            try:
                if self.find(LOCAL, study_instance_uid, series_instance_uid) is None:
                    self._keep(*self._read(study_instance_uid, series_instance_uid))
            except NotFound as error:
                LOGGER.info("A series has no metadata any more: %s", type(error).__name__)
            yield Finished(job, leaves_receipt=False)

    def _series_of(self, connection: Connection, change: Change) -> Sequence[str]:
        if change.series_instance_uid:
            return (change.series_instance_uid,)
        return series_metadata.list_series(connection, self._partition_id, change.study_instance_uid)

    def _read(self, study_instance_uid: str, series_instance_uid: str) -> tuple[SeriesState, SeriesText | None]:
        """Return which state of a series this is, and its text: the transaction sees one state of both."""
        uids = (self._partition_id, study_instance_uid, series_instance_uid)
        with self._database.read() as connection:
            state = series_metadata.find_series(connection, *uids)
            if state is None:
                known = reader.has_study(connection, self._partition_id, study_instance_uid)
                raise SeriesNotFound if known else StudyNotFound
            reading = metadata.SeriesReading(connection, state.row_id)
            items, length_bytes = [], 0
            with closing(iter(reading)) as instances:
                for sop_instance_uid, transfer_syntax_uid, attributes in instances:
                    item = naming_video(attributes, transfer_syntax_uid)
                    items.append(with_bulk_base(item, f"/instances/{sop_instance_uid}/bulkdata/"))
                    length_bytes += len(items[-1]) + 1
                    if length_bytes > MAX_TEXT_BYTES:
                        return state, None
        return state, SeriesText(reading.revision.digest, b"[" + b",".join(items) + b"]")

    def _keep(self, state: SeriesState, text: SeriesText | None) -> None:
        digest, body = (text.digest, zlib.compress(text.text, _LEVEL)) if text is not None else ("", b"")
        self._database.write(lambda connection: series_metadata.keep(connection, state, digest, body))
