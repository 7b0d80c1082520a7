"""Tells peers which instances of a study can be had and which no longer, once the study has gone quiet (PS3.4 R).

Every change of a study puts its announcement off again; what is announced is what is there by then.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection

from pacs.database.base import Database
from pacs.errors import PacsError
from pacs.index import reader, withholding
from pacs.jobs.queue import Job, NewJob
from pacs.jobs.worker import Failed, Finished, LaneBlocked
from pacs.model import Change, ChangeKind

KIND = "availability"
FOLLOWER = "availability"

_CHANGING = frozenset(
    {
        ChangeKind.INSTANCE_STORED,
        ChangeKind.INSTANCE_REPLACED,
        ChangeKind.INSTANCE_WITHHELD,
        ChangeKind.INSTANCE_RESTORED,
    }
)


@dataclass(frozen=True, slots=True)
class Availability:
    """One instance, and whether it can be retrieved."""

    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    is_available: bool


@dataclass(frozen=True, slots=True)
class Notice:
    """What a peer is told of a study; instances of one series stand together."""

    study_instance_uid: str
    instances: tuple[Availability, ...]


Notify = Callable[[str, Notice], str]
"""Tells the peer of an AE title; returns what it has against the notice, nothing if it took it. Raises PacsError if it
cannot be told now."""


class Announcer:
    """Plans and makes announcements to peers, by their AE titles."""

    def __init__(
        self, database: Database, partition_id: int, ae_titles: Sequence[str], *, quiet_seconds: float
    ) -> None:
        self._database = database
        self._partition_id = partition_id
        self._ae_titles = tuple(ae_titles)
        self._quiet = timedelta(seconds=quiet_seconds)

    def plan(self, connection: Connection, changes: Sequence[Change]) -> list[NewJob]:  # noqa: ARG002
        """Return a job for every peer and changed study; one that waits already starts to wait anew."""
        due_at = datetime.now(UTC) + self._quiet
        studies = dict.fromkeys(change.study_instance_uid for change in changes if change.kind in _CHANGING)
        return [NewJob(KIND, title, study, due_at=due_at) for title in self._ae_titles for study in studies]

    def announce(self, jobs: Sequence[Job], notify: Notify) -> Iterator[Finished | Failed]:
        """Tell one peer of the studies of its jobs: a task of the worker."""
        for job in jobs:
            notice = self._read(job.key)
            try:
                problem = notify(job.lane, notice) if notice.instances else ""
            except PacsError as error:
                raise LaneBlocked(str(error)) from error
            yield Failed(job, problem) if problem else Finished(job)

    def _read(self, study_instance_uid: str) -> Notice:
        with self._database.read() as connection:
            records = reader.find_instances(connection, self._partition_id, study_instance_uid)
            hidden = self._read_hidden(connection, study_instance_uid)
        found = {
            record.sop_instance_uid: Availability(
                record.series_instance_uid, record.sop_class_uid, record.sop_instance_uid, is_available=True
            )
            for record in records
        }
        gone = {copy.sop_instance_uid: copy for copy in hidden if copy.sop_instance_uid not in found}
        found |= {
            uid: Availability(copy.series_instance_uid, copy.sop_class_uid, uid, is_available=False)
            for uid, copy in gone.items()
        }
        ordered = sorted(found.values(), key=lambda instance: instance.series_instance_uid)
        return Notice(study_instance_uid, tuple(ordered))

    def _read_hidden(self, connection: Connection, study_instance_uid: str) -> list[withholding.Withheld]:
        """Return what was there and is hidden now: no notes, and nothing that never came."""
        hidden: list[withholding.Withheld] = []
        after = 0
        while page := withholding.read_page(
            connection, self._partition_id, after=after, study_instance_uid=study_instance_uid
        ):
            hidden += [copy for copy in page if copy.location is not None and not copy.is_note]
            after = page[-1].id
        return hidden
