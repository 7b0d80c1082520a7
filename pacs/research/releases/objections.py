"""Who has objected since a release was begun is taken out of it before it is published, and ends it afterwards."""

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime

from sqlalchemy import Connection, bindparam, select, union

from pacs.access import LOCAL
from pacs.database.base import Database
from pacs.database.tables import patient, study
from pacs.deid import ProjectKey
from pacs.errors import KeyDestroyed
from pacs.index.removing import chunks
from pacs.model import CLINICAL_PARTITION
from pacs.research.exclusions import Excluded, Named
from pacs.research.keyring import Keyring
from pacs.research.model import Project, Release, ReleaseState
from pacs.research.recording import note
from pacs.research.releases import contents, rows
from pacs.research.subjects import find_pseudonyms

WITHDRAWN = "Somebody in it has objected since; the next version is without them."

FindExcluded = Callable[[Connection, Project, Sequence[int] | None], Excluded]
"""Returns what a project leaves out of the archive as it is now, or only of what these patients have there."""

_HOLDING = (*rows.UNFINISHED, ReleaseState.PUBLISHED)


class Objections:
    """Holds releases against what their project leaves out. Any number of threads may call it at once."""

    def __init__(self, database: Database, keys: Keyring, find_excluded: FindExcluded) -> None:
        self._database = database
        self._keys = keys
        self._find_excluded = find_excluded

    def tidy(self, release: Release, project: Project, key: ProjectKey) -> None:
        """Take out of a release that is not published what must not be in it.

        That is what is objected to, and what a kill has left in it that was never said to be made.
        """
        at = datetime.now(UTC)
        with self._database.read() as connection:
            uids = self._find_released(connection, project, key)
        removals: tuple[Callable[[Connection], int], ...] = (
            lambda connection: contents.remove_studies(connection, release, uids, at),
            lambda connection: contents.remove_strays(connection, release, at),
        )
        for remove in removals:
            while self._database.write(remove):
                pass

    def concern(self, connection: Connection, release: Release, project: Project, key: ProjectKey) -> bool:
        """Return whether something is in the release that is objected to."""
        return contents.has_any_study(connection, release, self._find_released(connection, project, key))

    def among(
        self, connection: Connection, project: Project, key: ProjectKey, study_instance_uids: Collection[str]
    ) -> set[str]:
        """Return those of some clinical studies that are objected to."""
        patients = _patients_of(connection, [("study", uid) for uid in sorted(study_instance_uids)])
        released = set(self._find_released(connection, project, key, patients))
        return {uid for uid in study_instance_uids if key.derive_uid(uid) in released}

    def end(self, connection: Connection, project: Project | None, named: Named) -> None:
        """End what holds whom an objection names, in a project or in all of them: a hook of ``Exclusions``.

        It is in the caller's transaction: from the objection on nobody reads a release that holds him, and he is in
        none that is being made. That he is not in the archive any more makes no difference.
        """
        for one in rows.list_projects(connection) if project is None else (project,):
            rows.lock_project(connection, one.id)
            releases = [stored.release for stored in rows.read_all(connection, one.id)]
            held = [release for release in releases if release.state in _HOLDING]
            if not held:
                continue
            try:
                key = self._keys.open(connection, one)
            except KeyDestroyed:
                continue  # nobody can tell any more who is in them
            uids = set(self._find_released(connection, one, key, _patients_of(connection, named)))
            uids.update(key.derive_uid(uid) for kind, uid in named if kind == "study")
            pseudonyms = find_pseudonyms(connection, one, key, [name for kind, name in named if kind == "identity"])
            for release in held:
                of_patients = contents.list_studies(connection, release, pseudonyms)
                self._end(connection, one, release, sorted({*uids, *of_patients}))

    def _end(self, connection: Connection, project: Project, release: Release, uids: Sequence[str]) -> None:
        at = datetime.now(UTC)
        if release.state is not ReleaseState.PUBLISHED:
            while contents.remove_studies(connection, release, uids, at):
                pass
        elif contents.has_any_study(connection, release, uids):
            values = {"withdrawn_by": LOCAL.name, "withdrawn_at": at, "problem": WITHDRAWN}
            before = [ReleaseState.PUBLISHED]
            rows.change_state(connection, release.id, before, ReleaseState.WITHDRAWN, **values)
            note(connection, LOCAL, project, "release.withdraw", str(release.version), reason=WITHDRAWN)

    def _find_released(
        self,
        connection: Connection,
        project: Project,
        key: ProjectKey,
        patient_row_ids: Sequence[int] | None = None,
    ) -> list[str]:
        """Return the Study Instance UIDs that what is left out has, or would have, in releases of the project."""
        excluded = self._find_excluded(connection, project, patient_row_ids)
        found: set[str] = set()
        for column, row_ids in (
            (study.c.patient_row_id, excluded.patient_row_ids),
            (study.c.id, excluded.study_row_ids),
        ):
            statement = select(study.c.study_instance_uid).where(column.in_(bindparam("row_ids", expanding=True)))
            for chunk in chunks(sorted(row_ids)):
                found.update(connection.execute(statement, {"row_ids": chunk}).scalars())
        return sorted(key.derive_uid(uid) for uid in found)


def _patients_of(connection: Connection, named: Named) -> list[int]:
    """Return the rows of the patients that are named, those they are merged into, and those of the named studies."""
    parameters = {
        "identities": [name for kind, name in named if kind == "identity"],
        "uids": [name for kind, name in named if kind == "study"],
    }
    found: set[int] = set()
    waiting = set(connection.execute(_NAMED, parameters).scalars())
    while waiting := waiting - found:
        found |= waiting
        into = connection.execute(_MERGED_INTO, {"row_ids": sorted(waiting)}).scalars()
        waiting = {row_id for row_id in into if row_id is not None}
    return sorted(found)


_NAMED = union(
    select(patient.c.id).where(
        patient.c.partition_id == CLINICAL_PARTITION, patient.c.identity.in_(bindparam("identities", expanding=True))
    ),
    select(study.c.patient_row_id).where(
        study.c.partition_id == CLINICAL_PARTITION, study.c.study_instance_uid.in_(bindparam("uids", expanding=True))
    ),
)
_MERGED_INTO = select(patient.c.merged_into_row_id).where(patient.c.id.in_(bindparam("row_ids", expanding=True)))
