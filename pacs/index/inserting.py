"""INSERT that gives way: the one statement that SQLAlchemy spells per engine."""

from functools import cache
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite

from pacs.database.prepared import Prepared


def insert_once(connection: Connection, table: Table, row: dict[str, Any]) -> int | None:
    """Insert ``row`` and return its id, or None if one of its unique keys is taken.

    On PostgreSQL this waits for a transaction that is inserting the same key, and gives way only if that one commits.
    """
    row_id: int | None = _returning_id(table).scalar(connection, row)
    return row_id


def insert_missing(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    """Insert those of the rows whose unique keys are free; no rows, no statement."""
    if rows:
        connection.execute(_insert(connection.dialect.name, table), rows)


@cache
def _returning_id(table: Table) -> Prepared:
    return Prepared({dialect: _insert(dialect, table).returning(table.c.id) for dialect in ("sqlite", "postgresql")})


@cache
def _insert(dialect: str, table: Table) -> "sqlite.Insert | postgresql.Insert":
    if dialect == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing()
    return sqlite.insert(table).on_conflict_do_nothing()
