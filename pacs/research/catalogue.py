"""The catalogue: what a cohort can ask of a series and the clinical index does not hold. It follows the change log.

It is made of what is there and can be lost: a row that is missing, or not of the series as it is now, is made again.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection

from pacs.database.base import Database
from pacs.jobs import queue
from pacs.jobs.queue import Job, NewJob
from pacs.jobs.turn import Failed, Finished
from pacs.model import Change, ChangeKind
from pacs.research import catalogue_rows
from pacs.research.catalogue_values import describe

KIND = "research-catalogue"
KIND_MISSING = "research-catalogue-missing"
FOLLOWER = "research-catalogue"
QUIET = timedelta(seconds=5)
"""How long nothing has to come for a series before its row is made; one that grows would have it made each time."""

_PAGE = 50
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


class Catalogue:
    """Makes the rows of the catalogue. Any number of threads and processes may do so at once."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def plan(self, connection: Connection, changes: Sequence[Change]) -> list[NewJob]:  # noqa: ARG002 - it asks nothing
        """Return a job for every series that changed, or every study that was corrected: a follower's plan."""
        due_at = datetime.now(UTC) + QUIET
        keys = dict.fromkeys(
            f"{change.study_instance_uid} {change.series_instance_uid}".strip()
            for change in changes
            if change.kind in _CHANGING
        )
        return [NewJob(KIND, KIND, key, due_at=due_at) for key in keys]

    def work(self, jobs: Sequence[Job]) -> Iterator[Finished | Failed]:
        """Make the rows of some series: a task of the worker. One that is gone took its row with it."""
        for job in jobs:
            study_instance_uid, _, series_instance_uid = job.key.partition(" ")
            with self._database.read() as connection:
                row_ids = catalogue_rows.list_series_of(connection, study_instance_uid, series_instance_uid)
            for start in range(0, len(row_ids), _PAGE):
                self._make(row_ids[start : start + _PAGE])
            yield Finished(job, leaves_receipt=False)

    def begin(self) -> None:
        """List what is missing to be made: what was stored before there was a catalogue, or its rules are new."""
        with self._database.read() as connection:
            is_missing = bool(catalogue_rows.read_stale(connection, 0, 1))
        if is_missing:
            self._list_missing(0)

    def work_on_missing(self, jobs: Sequence[Job]) -> Iterator[Finished | Failed]:
        """Make the next rows that are missing, and list those behind them: a task of the worker."""
        for job in jobs:
            end = self._make_missing(int(job.key))
            if end:
                self._list_missing(end)
            yield Finished(job, leaves_receipt=False)

    def forget(self) -> None:
        """Remove every row; all of them are missing then."""
        self._database.write(catalogue_rows.remove_all)

    def count_missing(self) -> int:
        """Return how many rows ``iter_missing`` makes, as things are now."""
        with self._database.read() as connection:
            return catalogue_rows.count_stale(connection)

    def iter_missing(self) -> Iterator[int]:
        """Make every row that is missing or not of its series as it is now; yield how many after each page of them."""
        after = 0
        while True:
            with self._database.read() as connection:
                row_ids = catalogue_rows.read_stale(connection, after, _PAGE)
            if not row_ids:
                return
            self._make(row_ids)
            after = row_ids[-1]
            yield len(row_ids)

    def _make_missing(self, after: int) -> int:
        """Make the next rows that are missing behind a series; return the last of them, 0 if there are none."""
        with self._database.read() as connection:
            row_ids = catalogue_rows.read_stale(connection, after, _PAGE)
        self._make(row_ids)
        return row_ids[-1] if row_ids else 0

    def _list_missing(self, after: int) -> None:
        job = NewJob(KIND_MISSING, KIND_MISSING, str(after))
        self._database.write(lambda connection: queue.enqueue(connection, [job], datetime.now(UTC)))

    def _make(self, series_row_ids: Sequence[int]) -> None:
        with self._database.read() as connection:
            headers = [catalogue_rows.read_header(connection, row_id) for row_id in series_row_ids]
        made = [(header.state, describe(header.attributes)) for header in headers if header is not None]
        self._database.write(lambda connection: catalogue_rows.keep(connection, made))
