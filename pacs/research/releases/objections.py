"""Who has objected since a release was begun is taken out of it before it is published, and ends it afterwards."""

from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy import Connection, bindparam, select

from pacs.access import LOCAL
from pacs.database.base import Database
from pacs.database.tables import study
from pacs.deid import ProjectKey
from pacs.errors import KeyDestroyed
from pacs.index.removing import chunks
from pacs.research.exclusions import Excluded
from pacs.research.keyring import Keyring
from pacs.research.model import Project, Release, ReleaseState
from pacs.research.recording import note
from pacs.research.releases import contents, rows

WITHDRAWN = "Somebody in it has objected since; the next version is without them."

FindExcluded = Callable[[Connection, Project], Excluded]
"""Returns what a project leaves out, as the archive is now."""


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

    def withdraw(self, connection: Connection, project: Project | None) -> None:
        """Withdraw the releases of a project, or of all, that hold what is objected to: a hook of ``Exclusions``.

        It is in the caller's transaction: from the objection on, nobody reads them.
        """
        for one in rows.list_projects(connection) if project is None else (project,):
            rows.lock_project(connection, one.id)
            published = [
                stored.release
                for stored in rows.read_all(connection, one.id)
                if stored.release.state is ReleaseState.PUBLISHED
            ]
            if published:
                self._withdraw(connection, one, published)

    def _withdraw(self, connection: Connection, project: Project, published: list[Release]) -> None:
        try:
            uids = self._find_released(connection, project, self._keys.open(connection, project))
        except KeyDestroyed:
            return  # nobody can tell any more who is in them
        for release in published:
            if not contents.has_any_study(connection, release, uids):
                continue
            values = {"withdrawn_by": LOCAL.name, "withdrawn_at": datetime.now(UTC), "problem": WITHDRAWN}
            before = [ReleaseState.PUBLISHED]
            rows.change_state(connection, release.id, before, ReleaseState.WITHDRAWN, **values)
            note(connection, LOCAL, project, "release.withdraw", str(release.version), reason=WITHDRAWN)

    def _find_released(self, connection: Connection, project: Project, key: ProjectKey) -> list[str]:
        """Return the Study Instance UIDs that what is left out has, or would have, in releases of the project."""
        excluded = self._find_excluded(connection, project)
        found: set[str] = set()
        for column, row_ids in (
            (study.c.patient_row_id, excluded.patient_row_ids),
            (study.c.id, excluded.study_row_ids),
        ):
            statement = select(study.c.study_instance_uid).where(column.in_(bindparam("row_ids", expanding=True)))
            for chunk in chunks(sorted(row_ids)):
                found.update(connection.execute(statement, {"row_ids": chunk}).scalars())
        return sorted(key.derive_uid(uid) for uid in found)
