"""Open a database by its address: the scheme picks the engine."""

from pathlib import Path

from pacs.database.base import Database
from pacs.database.postgres import PostgresDatabase
from pacs.database.sqlite import SqliteDatabase
from pacs.errors import InvalidSetting


def open_database(url: str) -> Database:
    """Return the database at ``sqlite:////absolute/path`` or ``postgresql://user@host/name``; the caller closes it.

    Nothing is created before ``migrate``. Raises InvalidSetting for any other scheme; passwords stay out of messages.
    """
    scheme, separator, rest = url.partition("://")
    if separator and scheme == "sqlite" and rest.startswith("/") and len(rest) > 1:
        return SqliteDatabase(Path(rest[1:]))
    if separator and scheme in ("postgresql", "postgres"):
        return PostgresDatabase(f"postgresql://{rest}")
    raise InvalidSetting("database.url must be sqlite:////absolute/path or postgresql://user@host/name.")
