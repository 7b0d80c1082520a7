"""The keys of projects: made with them, kept under the master key, destroyed with all that could stand in for them."""

from sqlalchemy import Connection, bindparam, delete, exists, or_, select, update

from pacs.database.research_tables import (
    research_answer,
    research_exclusion,
    research_project,
    research_subject,
    research_subject_key,
)
from pacs.deid import ProjectKey
from pacs.errors import KeyDestroyed
from pacs.research.master_key import MasterKey, MasterKeyFile
from pacs.research.model import Project


class Keyring:
    """Opens the keys of projects with the master key of a file. Any number of threads may call it at once."""

    def __init__(self, file: MasterKeyFile) -> None:
        self._file = file

    def prepare(self, connection: Connection) -> MasterKey:
        """Return the master key; made, if nothing depends on one yet, but never in place of one that was lost."""
        return self._file.read() if connection.execute(_IS_NEEDED).scalar() else self._file.read_or_make()

    def master(self) -> MasterKey:
        """Return the master key; raise KeyUnavailable if there is none."""
        return self._file.read()

    def open(self, connection: Connection, project: Project) -> ProjectKey:
        """Return the key of a project; raise KeyDestroyed or KeyUnavailable."""
        wrapped = connection.execute(_WRAPPED, {"project": project.id}).scalar()
        if wrapped is None:
            raise KeyDestroyed
        return ProjectKey(self._file.read().unwrap(project.slug, bytes(wrapped)))


def destroy(connection: Connection, project: Project) -> None:
    """Remove a project's key, its escrow and its subjects, so that they are not in the database's file any more either.

    PostgreSQL keeps what was until it is vacuumed, and both engines keep it in copies that were made before.
    """
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA secure_delete = ON")
    of_project = {"project": project.id}
    connection.execute(_DELETE_KEYS, of_project)
    connection.execute(_DELETE_SUBJECTS, of_project)
    connection.execute(_DELETE_ANSWERS, of_project)
    connection.execute(_DELETE_WRAPPED, of_project)


_IS_NEEDED = select(
    or_(exists().where(research_project.c.wrapped_key.is_not(None)), exists().where(research_exclusion.c.id > 0))
)
_WRAPPED = select(research_project.c.wrapped_key).where(research_project.c.id == bindparam("project"))
_DELETE_KEYS = delete(research_subject_key).where(research_subject_key.c.project_row_id == bindparam("project"))
_DELETE_SUBJECTS = delete(research_subject).where(research_subject.c.project_row_id == bindparam("project"))
_DELETE_ANSWERS = delete(research_answer).where(research_answer.c.project_row_id == bindparam("project"))
_DELETE_WRAPPED = (
    update(research_project)
    .where(research_project.c.id == bindparam("project"))
    .values(wrapped_key=None, escrow_key=None)
)
