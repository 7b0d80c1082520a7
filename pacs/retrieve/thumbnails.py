"""Thumbnails made ahead: one of each series, once nothing has come for it for a while.

Made in the background they cost a reader one look into the index, and the way in nothing. What shows another state of
its instance than the one that is there is never shown.
"""

import logging
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection

from pacs.access import LOCAL, Principal
from pacs.database.base import Database
from pacs.errors import CorruptPixelData, InvalidHeader, NotAcceptable, NotFound
from pacs.imaging.picture import JPEG, Appearance, Viewport
from pacs.imaging.rendition import is_presentation_state
from pacs.index import thumbnails
from pacs.jobs.queue import Job, NewJob
from pacs.jobs.turn import Failed, Finished
from pacs.model import Change, ChangeKind, InstanceRecord
from pacs.retrieve.rendering import Renderer
from pacs.retrieve.retriever import Retriever

LOGGER = logging.getLogger(__name__)

THUMBNAIL = Appearance(JPEG, viewport=Viewport(256, 256), quality=75)
"""How a thumbnail looks where nobody asks for anything else: some 6 KB of a CT slice."""

KIND = "thumbnail"
FOLLOWER = "thumbnail"
QUIET = timedelta(seconds=5)
"""How long nothing has to come for a series; its middle instance is another one until all are there."""

_CHANGING = frozenset(
    {
        ChangeKind.INSTANCE_STORED,
        ChangeKind.INSTANCE_REPLACED,
        ChangeKind.INSTANCE_WITHHELD,
        ChangeKind.INSTANCE_RESTORED,
        ChangeKind.INSTANCE_RECOMPRESSED,  # to the eye it is the same, but not to a revision
    }
)


class Thumbnails:
    """Finds the thumbnails that there are, and makes those that there should be."""

    def __init__(self, database: Database, retriever: Retriever, renderer: Renderer) -> None:
        self._database = database
        self._retriever = retriever
        self._renderer = renderer

    def give(
        self, principal: Principal, records: Sequence[InstanceRecord], appearance: Appearance
    ) -> tuple[InstanceRecord, bytes]:
        """Return which of these instances stands for them, and its picture: made ahead, or now.

        Raises as ``Renderer.render_thumbnail`` does.
        """
        found = self.find(principal, records) if appearance == THUMBNAIL else None
        return found or self._renderer.render_thumbnail(principal, records, appearance)

    def find(
        self,
        principal: Principal,  # noqa: ARG002 - who may see the records may see these
        records: Sequence[InstanceRecord],
    ) -> tuple[InstanceRecord, bytes] | None:
        """Return which of these instances a thumbnail shows, and the thumbnail; None if none was made of them yet."""
        by_row_id = {record.row_id: record for record in records}
        with self._database.read() as connection:
            found = thumbnails.find_of_series(connection, records[len(records) // 2].row_id)
        if found is None or found.instance_row_id not in by_row_id:
            return None
        return by_row_id[found.instance_row_id], found.picture

    def plan(self, connection: Connection, changes: Sequence[Change]) -> list[NewJob]:  # noqa: ARG002
        """Return a job for every series that changed; one that waits already starts to wait anew."""
        due_at = datetime.now(UTC) + QUIET
        series = dict.fromkeys(
            f"{change.study_instance_uid} {change.series_instance_uid}"
            for change in changes
            if change.kind in _CHANGING
        )
        return [NewJob(KIND, KIND, key, due_at=due_at) for key in series]

    def make(self, jobs: Sequence[Job]) -> Iterator[Finished | Failed]:
        """Make the thumbnails of some series: a task of the worker. What has no picture needs none."""
        for job in jobs:
            try:
                self._make(*job.key.split(" "))
            except (NotFound, NotAcceptable, CorruptPixelData, InvalidHeader) as error:
                LOGGER.info("A series has no thumbnail: %s", type(error).__name__)
            yield Finished(job, leaves_receipt=False)

    def _make(self, study_instance_uid: str, series_instance_uid: str) -> None:
        records = self._retriever.find_instances(LOCAL, study_instance_uid, series_instance_uid)
        before = self._retriever.read_revision(LOCAL, records)
        record, picture = self._renderer.render_thumbnail(LOCAL, records, THUMBNAIL)
        if is_presentation_state(record.sop_class_uid):  # what it shows lies in other series, and changes with them
            return
        revision = self._retriever.read_revision(LOCAL, [record]).digest
        if self._retriever.read_revision(LOCAL, records) == before:  # else the change that it was has a job of its own
            self._database.write(
                lambda connection: thumbnails.replace(connection, record.row_id, revision, picture),
            )
