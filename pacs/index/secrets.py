"""Secrets that every process of an archive has to know, made by whichever needs one first."""

from secrets import token_bytes

from sqlalchemy import Connection, bindparam, select

from pacs.database.base import Database
from pacs.database.work_tables import secret
from pacs.index.inserting import insert_missing

LENGTH_BYTES = 32


def get_or_make(database: Database, name: str) -> bytes:
    """Return the secret of this name: random bytes, the same for ever and in every process."""
    with database.read() as connection:
        found = _find(connection, name)
    return found or database.write(lambda connection: _make(connection, name))


def _find(connection: Connection, name: str) -> bytes:
    value = connection.execute(_FIND, {"name": name}).scalar()
    return bytes(value) if value else b""


def _make(connection: Connection, name: str) -> bytes:
    insert_missing(connection, secret, [{"name": name, "value": token_bytes(LENGTH_BYTES)}])
    return _find(connection, name)


_FIND = select(secret.c.value).where(secret.c.name == bindparam("name"))
