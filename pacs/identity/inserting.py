"""INSERT that gives way, as SQLAlchemy spells it per engine."""

from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def insert_new(connection: Connection, table: Table, row: dict[str, Any]) -> bool:
    """Insert a row; False if one of its unique keys is taken."""
    statement = _insert(connection, table).values(row).on_conflict_do_nothing()
    return connection.execute(statement.returning(*table.primary_key)).first() is not None


def insert_or_change(
    connection: Connection, table: Table, key: str, row: dict[str, Any], change: dict[str, Any]
) -> None:
    """Insert a row, or change the one with this key; expressions of ``change`` are of that one's columns."""
    statement = _insert(connection, table).values(row)
    connection.execute(statement.on_conflict_do_update(index_elements=[key], set_=change))


def _insert(connection: Connection, table: Table) -> "sqlite.Insert | postgresql.Insert":
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)
