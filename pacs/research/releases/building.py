"""The job that makes a release, a little at a time: first the list of its candidates, then their objects.

Each turn does what takes a second or two and says how far it has come, so that memory stays as it is however large the
release, and whoever goes on after a kill does again what one turn had begun, and nothing twice: a candidate is listed
once by its digest, an object has one UID and the same bytes whenever it is made.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic

import orjson
from sqlalchemy import Connection

from pacs.access import LOCAL
from pacs.database.base import Database
from pacs.deid import ProjectKey
from pacs.errors import KeyDestroyed, NotFound
from pacs.jobs import queue
from pacs.jobs.queue import Job, NewJob
from pacs.jobs.turn import Finished, Postponed
from pacs.research.cohorts import find_cohort
from pacs.research.keyring import Keyring
from pacs.research.model import Candidate, Cohort, Project, Release, ReleaseState
from pacs.research.recording import note
from pacs.research.releases import clinical, reports, rows
from pacs.research.releases.clinical import Source
from pacs.research.releases.objections import Objections
from pacs.research.releases.objects import KeptBack, Made, ObjectMaker, Person, Recipe
from pacs.research.releases.partition import OpenPartition, Partition
from pacs.research.releases.residue import needles_of
from pacs.research.releases.rows import Entry, ObjectState, Stored
from pacs.research.releases.sweeping import Sweeper
from pacs.research.subjects import fix_subject

LOGGER = logging.getLogger(__name__)

KIND = "release"

SERIES_AT_ONCE = 100
OBJECTS_AT_ONCE = 50
TURN_SECONDS = 2.0

ReadCandidates = Callable[[Connection, Project, Cohort, int, int], tuple[Sequence[Candidate], int]]
"""Returns at most so many of the clinical series that a cohort holds now, after a place and without whoever has
objected, and the place to read on from; 0 at the end."""


@dataclass(slots=True)
class _Turn:
    """What is needed for the objects of one turn; the persons are those of the studies met in it."""

    project: Project
    recipe: Recipe
    persons: dict[str, Person] = field(default_factory=dict)


class Builder:
    """Makes releases. Any number of threads and processes may do it at once; the queue gives each release to one."""

    def __init__(
        self,
        database: Database,
        keys: Keyring,
        objections: Objections,
        maker: ObjectMaker,
        *,
        open_partition: OpenPartition,
        read_candidates: ReadCandidates,
        bring_up_to_date: Callable[[], Iterable[object]] = tuple,
    ) -> None:
        """Make a builder; ``bring_up_to_date`` is gone through before the candidates of a release are read."""
        self._database = database
        self._sweeper = Sweeper(database, open_partition)
        self._keys = keys
        self._objections = objections
        self._maker = maker
        self._open_partition = open_partition
        self._read_candidates = read_candidates
        self._bring_up_to_date = bring_up_to_date

    def work(self, jobs: Sequence[Job]) -> Iterator[Finished | Postponed]:
        """Go on with some releases: a task of the worker."""
        for job in jobs:
            goes_on = self.go_on(int(job.key))
            yield Postponed(job, datetime.now(UTC)) if goes_on else Finished(job, leaves_receipt=False)

    def read(self, release_id: int) -> Release:
        """Return how far a release has come, for whoever waits for it."""
        with self._database.read() as connection:
            return rows.get(connection, release_id).release

    def list_partitions(self) -> list[Partition]:
        """Return where every release lies that something is kept of, for whoever checks what is stored."""
        with self._database.read() as connection:
            kept = rows.list_kept(connection)
        return [self._open_partition(stored.release.partition_id, stored.prefix) for stored in kept]

    def go_on(self, release_id: int) -> bool:
        """Do a little of a release; return whether there is more to do."""
        with self._database.read() as connection:
            stored = rows.get(connection, release_id)
            project = rows.project_of(connection, stored.release)
        if stored.is_to_be_swept:
            return self._sweeper.go_on(stored)
        if stored.release.state is not ReleaseState.BUILDING:
            return False
        return self._build_some(stored, project)

    def _build_some(self, stored: Stored, project: Project) -> bool:
        try:
            with self._database.read() as connection:
                key = self._keys.open(connection, project)
        except KeyDestroyed:
            problem = str(KeyDestroyed())
            self._database.write(lambda connection: fail(connection, project, stored, problem))
            return True
        if not stored.is_listed:
            self._list_some(stored, project, key)
            return True
        with self._database.read() as connection:
            entries = rows.read_entries(connection, stored.release.id, ObjectState.PENDING, limit=OBJECTS_AT_ONCE)
        if entries:
            partition = self._open_partition(stored.release.partition_id, stored.prefix)
            self._make_some(_Turn(project, Recipe(partition, stored.release.profile, key)), entries)
            return True
        return self._finish(stored, project, key)

    def _list_some(self, stored: Stored, project: Project, key: ProjectKey) -> None:
        """List what the next series of the cohort hold; what is stored in them later is not of this release."""
        release = stored.release
        if not stored.listed_series:
            for _ in self._bring_up_to_date():
                pass
        with self._database.read() as connection:
            cohort = find_cohort(connection, project, release.cohort_id)
            page, place = self._read_candidates(connection, project, cohort, stored.listed_series, SERIES_AT_ONCE)
            uids = clinical.read_instances(connection, [candidate.series_row_id for candidate in page])
        digests = {digest_of(key, uid): uid for uid in uids}

        def write(connection: Connection) -> None:
            rows.add_candidates(connection, release.id, digests, listed_series=place)
            if not place:
                rows.end_list(connection, release.id, datetime.now(UTC))

        self._database.write(write)

    def _make_some(self, turn: _Turn, entries: Sequence[Entry]) -> None:
        made: list[tuple[Entry, Made | KeptBack | None]] = []
        until = monotonic() + TURN_SECONDS
        try:
            for entry in entries:
                made.append((entry, self._make(turn, entry)))
                if monotonic() > until:
                    break
        finally:  # what was made before the store or the disk went away is made
            if made:
                self._settle(turn, made)

    def _make(self, turn: _Turn, entry: Entry) -> Made | KeptBack | None:
        """Make one object; None if there is nothing any more to make it of."""
        with self._database.read() as connection:
            source = clinical.find_source(connection, entry.clinical_uid)
        if source is None:
            return None
        try:
            person = self._person_of(turn, source)
            return self._maker.make(turn.recipe, source, person, entry.released_reasons)
        except NotFound:
            return None

    def _person_of(self, turn: _Turn, source: Source) -> Person:
        """Return who the patient of a study is in the project, from now on if it is the first time that one asks."""
        uid = source.record.study_instance_uid
        person = turn.persons.get(uid)
        if person is None:
            key = turn.recipe.key
            subject = self._database.write(lambda connection: fix_subject(connection, turn.project, key, uid))
            person = Person(subject, needles_of(orjson.loads(source.study)))
            turn.persons[uid] = person
        return person

    def _settle(self, turn: _Turn, made: Sequence[tuple[Entry, Made | KeptBack | None]]) -> None:
        """Say what has become of the objects of a turn, in one transaction.

        Whoever has objected, or has gone, while an object was made found nothing of it to take out: it is left out.
        """
        at = datetime.now(UTC)
        packed = {entry.id: reports.pack(result.report) for entry, result in made if isinstance(result, Made)}

        def write(connection: Connection) -> None:
            rows.lock_project(connection, turn.project.id)
            row_ids = reports.keep(connection, dict(packed.values()))
            sources = {entry.id: clinical.find_source(connection, entry.clinical_uid) for entry, _ in made}
            studies = {source.record.study_instance_uid for source in sources.values() if source is not None}
            objected = self._objections.among(connection, turn.project, turn.recipe.key, studies)
            for entry, result in made:
                source = sources[entry.id]
                is_wanted = source is not None and source.record.study_instance_uid not in objected
                outcome = result if is_wanted else None
                match outcome:
                    case None:
                        state, values = ObjectState.LEFT_OUT, {}
                    case Made():
                        state = ObjectState.RELEASED
                        values = {
                            "sop_instance_uid": outcome.report.sop_instance_uid,
                            "report_row_id": row_ids[packed[entry.id][0]],
                        }
                    case KeptBack():
                        state = ObjectState.QUARANTINED
                        values = {
                            "reasons": orjson.dumps(list(outcome.reasons)).decode(),
                            "modality": outcome.modality,
                            "sop_class_uid": outcome.sop_class_uid,
                            "found_at": at,
                        }
                rows.settle(connection, entry.id, ObjectState.PENDING, state, **values)

        self._database.write(write)

    def _finish(self, stored: Stored, project: Project, key: ProjectKey) -> bool:
        """Show people what was made, once nothing is in it that should not be; return whether there is more to do."""
        release = stored.release
        self._objections.tidy(release, project, key)

        def write(connection: Connection) -> bool:
            if rows.count_states(connection, release.id)[ObjectState.PENDING]:
                return True
            if rows.change_state(connection, release.id, [ReleaseState.BUILDING], ReleaseState.QUARANTINE):
                states = rows.count_states(connection, release.id)
                facts = {state.value: count for state, count in states.items() if count}
                note(connection, LOCAL, project, "release.made", str(release.version), **facts)
            return False

        return self._database.write(write)


def digest_of(key: ProjectKey, sop_instance_uid: str) -> bytes:
    """Return what a candidate is known by, which tells nobody without the key which instance it is."""
    return key.derive("release-candidate", sop_instance_uid)


def enqueue(connection: Connection, release_id: int) -> None:
    """Have a release gone on with."""
    name = str(release_id)
    queue.enqueue(connection, [NewJob(KIND, name, name)], datetime.now(UTC))


def fail(connection: Connection, project: Project, stored: Stored, problem: str) -> None:
    """Give a release up that cannot be finished, in the caller's transaction; what there is of it is swept."""
    release = stored.release
    if rows.change_state(connection, release.id, rows.UNFINISHED, ReleaseState.FAILED, problem=problem):
        rows.abandon(connection, release.id, datetime.now(UTC))
        note(connection, LOCAL, project, "release.fail", str(release.version), problem=problem)
