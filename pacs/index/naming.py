"""The person names of a study as rows, each with its sounds: written together and removed together."""

from sqlalchemy import Connection, bindparam, delete

from pacs.database.tables import person_name, person_name_sound
from pacs.index.inserting import insert_missing
from pacs.index.rows import name_rows, sound_rows
from pacs.model import Attributes


def insert_names(connection: Connection, study_row_id: int, attributes: Attributes) -> None:
    """Insert those names of a study's attributes that are not there yet."""
    names = name_rows(attributes)
    for table, rows in ((person_name, names), (person_name_sound, sound_rows(names))):
        insert_missing(connection, table, [row | {"study_row_id": study_row_id} for row in rows])


def delete_names(connection: Connection, study_row_id: int) -> None:
    """Delete every name of a study."""
    for statement in _DELETE:
        connection.execute(statement, {"row_id": study_row_id})


_DELETE = tuple(
    delete(table).where(table.c.study_row_id == bindparam("row_id")) for table in (person_name, person_name_sound)
)
