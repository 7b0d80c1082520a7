"""Releases as people see them: begun from an approved cohort, looked through, published, withdrawn; and read.

Whoever may not read a release is told what he would be told if there were none, after the same look-ups.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import Connection

from pacs.access import Principal
from pacs.database.base import Database
from pacs.errors import InvalidValue, NotNow, NotPermitted, ProjectNotFound, QuarantinedNotFound, ReleaseNotFound
from pacs.reading import Reading
from pacs.research.cohorts import find_cohort
from pacs.research.gate import Right, admit, check_is_running
from pacs.research.keyring import Keyring
from pacs.research.model import CohortState, Project, Quarantined, QuarantineState, Release, ReleaseState
from pacs.research.recording import note
from pacs.research.releases import building, contents, manifest, reports, rows
from pacs.research.releases.kept_back import is_releasable, sentence_of
from pacs.research.releases.objections import Objections
from pacs.research.releases.partition import OpenPartition
from pacs.research.releases.rows import NewRelease, ObjectState, Stored
from pacs.retrieve.stored import store_errors
from storage.keys import blob_key
from storage.spool import CHUNK_BYTES, Spool

MAX_REMARK = 2000

_NOTHING = 0
_DECISIONS = {
    QuarantineState.RELEASED: (ObjectState.PENDING, "quarantine.release"),
    QuarantineState.REFUSED: (ObjectState.REFUSED, "quarantine.refuse"),
}


class Releases:
    """The releases of all projects. Any number of threads may call it at once."""

    def __init__(
        self,
        database: Database,
        keys: Keyring,
        objections: Objections,
        open_partition: OpenPartition,
    ) -> None:
        self._database = database
        self._keys = keys
        self._objections = objections
        self._open_partition = open_partition

    def start(self, principal: Principal, slug: str, cohort_id: int) -> Release:
        """Begin a release of an approved cohort; a steward does. The archive makes it by itself.

        What is in it is what the cohort holds now, without whoever has objected. Raises NotNow if the cohort is not
        approved, the project may not go on, or has a release that is not finished.
        """

        def write(connection: Connection) -> Release:
            project = admit(connection, principal, slug, Right.DECIDE).project
            check_is_running(project)
            found = find_cohort(connection, project, cohort_id)
            if found.state is not CohortState.APPROVED:
                raise NotNow("Only a cohort that is approved can be released.")
            prefix = self._keys.open(connection, project).derive("blob-prefix", "").hex()[:32]
            at = datetime.now(UTC)
            stored = rows.create(
                connection, NewRelease(project.id, found.id, prefix, project.profile, principal.name, at)
            )
            building.enqueue(connection, stored.release.id)
            version = stored.release.version
            note(connection, principal, project, "release.start", str(version), cohort=found.name)
            return stored.release

        return self._database.write(write)

    def list_all(self, principal: Principal, slug: str) -> list[Release]:
        """Return every release of a project, the newest first, to whom the project shows."""
        with self._database.read() as connection:
            project = admit(connection, principal, slug, Right.SEE).project
            found = [stored.release for stored in rows.read_all(connection, project.id)]
        self._note(principal, project, "release.list")
        return found

    def get(self, principal: Principal, slug: str, version: int) -> Release:
        """Return a release in whatever state it is; raise ProjectNotFound or ReleaseNotFound."""
        with self._database.read() as connection:
            project, stored = self._get(connection, principal, slug, version, Right.SEE)
        self._note(principal, project, "release.view", str(version))
        return stored.release

    def find_readable(self, principal: Principal, slug: str, version: int | None = None) -> Release | None:
        """Return a published release that a member may read, the newest one without a version.

        None for a project that he is no member of, for one that is not there, and for what is not published or was
        withdrawn: whichever it is, the same was looked up.
        """
        with self._database.read() as connection:
            try:
                project_id = admit(connection, principal, slug, Right.WORK).project.id
            except (ProjectNotFound, NotPermitted):
                project_id = _NOTHING
            if version is None:
                stored = rows.find_newest(connection, project_id, ReleaseState.PUBLISHED)
            else:
                stored = rows.find(connection, project_id, version, ReleaseState.PUBLISHED)
        return None if stored is None else stored.release

    def open_archive(self, principal: Principal, slug: str, version: int | None = None) -> Reading:
        """Return what reads the release that ``find_readable`` finds; raise ReleaseNotFound for anything else."""
        release = self.find_readable(principal, slug, version)
        if release is None:
            raise ReleaseNotFound
        return self.open(release)

    def open(self, release: Release) -> Reading:
        """Return what reads a release that somebody was found to be permitted to read."""
        with self._database.read() as connection:
            stored = rows.get(connection, release.id)
        return self._open_partition(release.partition_id, stored.prefix).reading

    def open_manifest(
        self, principal: Principal, slug: str, version: int | None = None
    ) -> tuple[Release, Iterator[bytes]]:
        """Return the release and its manifest in chunks (``manifest.MEDIA_TYPE``); raise ReleaseNotFound as above."""
        release = self.find_readable(principal, slug, version)
        if release is None:
            raise ReleaseNotFound

        def write(connection: Connection) -> Stored:
            project = admit(connection, principal, slug, Right.WORK).project
            note(connection, principal, project, "release.manifest", str(release.version))
            return rows.get(connection, release.id)

        stored = self._database.write(write)
        return release, self._iter_blob(stored, stored.manifest_key)

    def read_report(self, principal: Principal, slug: str, version: int, sop_instance_uid: str) -> dict[str, Any]:
        """Return what was done to an object of a release, and by which rule; raise ReleaseNotFound if there is none."""
        release = self.find_readable(principal, slug, version)
        with self._database.read() as connection:
            report = reports.read(connection, _NOTHING if release is None else release.id, sop_instance_uid)
        if report is None:
            raise ReleaseNotFound
        self._note(principal, slug, "release.report", str(version), object=sop_instance_uid)
        return report | {"sop_instance_uid": sop_instance_uid}

    def list_quarantine(
        self, principal: Principal, slug: str, version: int, *, after: int = 0, limit: int = 100
    ) -> list[Quarantined]:
        """Return some objects that were kept back, by number after ``after``, to a steward.

        Nothing in them tells which clinical instances they are.
        """
        with self._database.read() as connection:
            project, stored = self._get(connection, principal, slug, version, Right.DECIDE)
            found = rows.read_quarantine(connection, stored.release.id, after=after, limit=limit)
        self._note(principal, project, "quarantine.list", str(version))
        return found

    def find_clinical(self, principal: Principal, slug: str, version: int, number: int) -> str:
        """Return the SOP Instance UID of what an object that waits is to be made of, to a steward who looks at it.

        It is put on record, and is gone once he has refused it or the object is made.
        """

        def write(connection: Connection) -> str:
            project, stored = self._get(connection, principal, slug, version, Right.DECIDE)
            entry = rows.find_entry(connection, stored.release.id, number)
            if entry is None or not entry.clinical_uid:
                raise QuarantinedNotFound
            note(connection, principal, project, "quarantine.view", str(version), object=number)
            return entry.clinical_uid

        return self._database.write(write)

    def decide(
        self,
        principal: Principal,
        slug: str,
        version: int,
        numbers: Sequence[int],
        state: QuarantineState,
        *,
        remark: str = "",
    ) -> Release:
        """Release or refuse objects that were kept back, by their numbers; a steward does, and says why.

        What is released is made again without regard to the reasons that were found, and may meet others. Raises
        QuarantinedNotFound for one that does not wait, InvalidValue if nobody may release it.
        """
        if state not in _DECISIONS or len(remark) > MAX_REMARK:
            raise InvalidValue(f"An object is released or refused, with a remark of at most {MAX_REMARK} characters.")
        after, kind = _DECISIONS[state]

        def write(connection: Connection) -> Release:
            project, stored = self._get(connection, principal, slug, version, Right.DECIDE)
            release = stored.release
            for number in numbers:
                entry = rows.find_entry(connection, release.id, number)
                if entry is None:
                    raise QuarantinedNotFound
                values: dict[str, Any] = {"decided_by": principal.name, "decided_at": datetime.now(UTC)}
                values["remark"] = remark.strip()
                if state is QuarantineState.RELEASED:
                    check_is_running(project)
                    waived = {*entry.released_reasons, *_checked(entry.reasons)}
                    values["released_reasons"] = orjson.dumps(sorted(waived)).decode()
                if not rows.settle(connection, number, ObjectState.QUARANTINED, after, **values):
                    raise QuarantinedNotFound
                note(connection, principal, project, kind, str(version), object=number, reasons=list(entry.reasons))
            if state is QuarantineState.RELEASED and numbers:
                rows.change_state(connection, release.id, [ReleaseState.QUARANTINE], ReleaseState.BUILDING)
                building.enqueue(connection, release.id)
            return rows.get(connection, release.id).release

        return self._database.write(write)

    def publish(self, principal: Principal, slug: str, version: int) -> Release:
        """Publish a release that nothing of waits any more, with its manifest; a steward does.

        Raises NotNow while something waits, or if fewer patients are in it than the project may be told of.
        """
        with self._database.read() as connection:
            project, stored = self._get(connection, principal, slug, version, Right.DECIDE)
            check_is_running(project)
            _check_waits_for_nothing(connection, stored)
            key = self._keys.open(connection, project)
        self._objections.tidy(stored.release, project, key)
        with self._database.read() as connection:
            if contents.has_gap(connection, stored.release):
                raise NotNow("An object of the release is missing; abandon it and begin another.")
            counts = contents.count(connection, stored.release.partition_id)
        if counts.patients < project.k:
            raise NotNow(f"Fewer than {project.k} patients are in the release; so few are not published.")
        manifest_key = self._put_manifest(stored)

        def write(connection: Connection) -> Release:
            project, stored = self._get(connection, principal, slug, version, Right.DECIDE)
            _check_waits_for_nothing(connection, stored)
            rows.lock_project(connection, project.id)
            if self._objections.concern(connection, stored.release, project, key):
                raise NotNow("Somebody has objected just now; publish again.")
            values = {
                "manifest_key": manifest_key,
                "counts": rows.counts_text(counts, stored.release.total),
                "published_by": principal.name,
                "published_at": datetime.now(UTC),
            }
            before = [ReleaseState.QUARANTINE]
            rows.change_state(connection, stored.release.id, before, ReleaseState.PUBLISHED, **values)
            note(connection, principal, project, "release.publish", str(version), instances=counts.instances)
            return rows.get(connection, stored.release.id).release

        return self._database.write(write)

    def withdraw(self, principal: Principal, slug: str, version: int, *, reason: str) -> Release:
        """Withdraw a published release: it is not there any more for anybody. A steward does, or an administrator."""
        _check_reason(reason)

        def write(connection: Connection) -> Release:
            project, stored = self._get_to_end(connection, principal, slug, version)
            values = {"withdrawn_by": principal.name, "withdrawn_at": datetime.now(UTC), "problem": reason.strip()}
            before = [ReleaseState.PUBLISHED]
            if not rows.change_state(connection, stored.release.id, before, ReleaseState.WITHDRAWN, **values):
                raise NotNow("Only a release that is published can be withdrawn.")
            note(connection, principal, project, "release.withdraw", str(version), reason=reason.strip())
            return rows.get(connection, stored.release.id).release

        return self._database.write(write)

    def abandon(self, principal: Principal, slug: str, version: int, *, reason: str) -> Release:
        """Give up a release that is not published, or have the objects of a withdrawn one go: the archive sweeps."""
        _check_reason(reason)

        def write(connection: Connection) -> Release:
            project, stored = self._get_to_end(connection, principal, slug, version)
            release = stored.release
            if (
                not rows.change_state(
                    connection, release.id, rows.UNFINISHED, ReleaseState.FAILED, problem=reason.strip()
                )
                and release.state is not ReleaseState.WITHDRAWN
            ):
                raise NotNow("What is published has to be withdrawn first.")
            rows.abandon(connection, release.id, datetime.now(UTC))
            building.enqueue(connection, release.id)
            note(connection, principal, project, "release.abandon", str(version), reason=reason.strip())
            return rows.get(connection, release.id).release

        return self._database.write(write)

    def end_with_key(self, connection: Connection, project: Project) -> None:
        """Give up what is not published of a project whose key is being destroyed: a hook of ``Projects``."""
        for stored in rows.read_all(connection, project.id):
            if stored.release.state in rows.UNFINISHED:
                building.fail(connection, project, stored, "The key of the project was destroyed.")
                building.enqueue(connection, stored.release.id)

    def _note(self, principal: Principal, project: Project | str, kind: str, subject: str = "", **facts: Any) -> None:
        """Put a look on record, before what was seen is handed out."""
        self._database.write(lambda connection: note(connection, principal, project, kind, subject, **facts))

    def _get(
        self, connection: Connection, principal: Principal, slug: str, version: int, right: Right
    ) -> tuple[Project, Stored]:
        project = admit(connection, principal, slug, right).project
        stored = rows.find(connection, project.id, version)
        if stored is None:
            raise ReleaseNotFound
        return project, stored

    def _get_to_end(
        self, connection: Connection, principal: Principal, slug: str, version: int
    ) -> tuple[Project, Stored]:
        """Return what a steward or an administrator wants to end."""
        try:
            return self._get(connection, principal, slug, version, Right.DECIDE)
        except NotPermitted:
            return self._get(connection, principal, slug, version, Right.MANAGE)

    def _put_manifest(self, stored: Stored) -> str:
        partition = self._open_partition(stored.release.partition_id, stored.prefix)
        with Spool(partition.spool_directory) as spool, store_errors():
            manifest.write_lines(contents.iter_lines(self._database, stored.release), spool)
            key = blob_key(spool.digest())
            partition.store.put(key, spool)
        return key

    def _iter_blob(self, stored: Stored, key: str) -> Iterator[bytes]:
        store = self._open_partition(stored.release.partition_id, stored.prefix).store
        with store_errors(), closing(store.open(key)) as stream:
            while chunk := stream.read(CHUNK_BYTES):
                yield chunk


def _check_waits_for_nothing(connection: Connection, stored: Stored) -> None:
    if stored.release.state is not ReleaseState.QUARANTINE:
        raise NotNow(f"The release is {stored.release.state}; only one that was made can be published.")
    states = rows.count_states(connection, stored.release.id)
    waiting = states[ObjectState.QUARANTINED] + states[ObjectState.PENDING]
    if waiting:
        raise NotNow(f"{waiting} objects of the release wait for a decision.")


def _checked(reasons: Sequence[str]) -> Sequence[str]:
    """Return reasons that a person may set aside; raise InvalidValue with the sentence of one that nobody may."""
    for reason in reasons:
        if not is_releasable(reason):
            raise InvalidValue(f"This object cannot be released: {sentence_of(reason)}")
    return reasons


def _check_reason(reason: str) -> None:
    if not reason.strip() or len(reason) > MAX_REMARK:
        raise InvalidValue(f"A reason must be given, with at most {MAX_REMARK} characters.")
