"""A table as a log: appended in the transaction that makes what it tells of, read in commit order.

SQLite has one writer at a time, so that its numbers are in commit order. PostgreSQL hands out numbers in the order of
asking: a row is shown only when every transaction as old as its own has ended, and the writing transaction comes first
in the cursor. Whoever follows a log therefore never passes a row that appears behind it later.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    Connection,
    Table,
    Text,
    and_,
    bindparam,
    cast,
    func,
    insert,
    literal,
    select,
    tuple_,
)

from pacs.database.prepared import Prepared
from pacs.model import Cursor

_TRANSACTION = cast(cast(func.pg_current_xact_id(), Text), BigInteger)
_OLDEST_RUNNING = cast(cast(func.pg_snapshot_xmin(func.pg_current_snapshot()), Text), BigInteger)


class OrderedLog:
    """The log in ``table``, whose columns ``partition_id``, ``transaction_id`` and ``sequence`` order it."""

    def __init__(self, table: Table) -> None:
        order = (table.c.transaction_id, table.c.sequence)
        in_partition = table.c.partition_id == bindparam("partition_id")
        is_shown = table.c.transaction_id < _OLDEST_RUNNING
        cursor = (bindparam("transaction_id", type_=BigInteger), bindparam("sequence", type_=BigInteger))
        # Every row of SQLite's has the same number for its transaction. Of a comparison of pairs it would look up only
        # that one in the index, and walk from the beginning of the log to the cursor whenever anybody asks.
        is_after = {
            "sqlite": and_(table.c.transaction_id == cursor[0], table.c.sequence > cursor[1]),
            "postgresql": and_(tuple_(*order) > tuple_(*cursor), is_shown),
        }
        after = select(table).where(in_partition).order_by(*order).limit(bindparam("limit"))
        last = select(*order).where(in_partition).order_by(*(column.desc() for column in order)).limit(1)
        self._append = Prepared(
            {
                "sqlite": insert(table).values(transaction_id=literal(0)).inline(),
                "postgresql": insert(table).values(transaction_id=_TRANSACTION).inline(),
            }
        )
        self._read = Prepared({engine: after.where(test) for engine, test in is_after.items()})
        self._end = Prepared({"sqlite": last, "postgresql": last.where(is_shown)})

    def append(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append rows, at least one; they show when the caller's transaction commits."""
        if len(rows) == 1:
            self._append.run(connection, rows[0])
        else:
            self._append.run_all(connection, rows)

    def read_after(
        self, connection: Connection, partition_id: int, cursor: Cursor, limit: int
    ) -> Iterable[tuple[Cursor, Any]]:
        """Return at most ``limit`` rows after ``cursor`` in commit order, each with the cursor to resume at."""
        found = self._read.all(
            connection,
            {
                "partition_id": partition_id,
                "transaction_id": cursor.transaction_id,
                "sequence": cursor.sequence,
                "limit": limit,
            },
        )
        return ((Cursor(row.transaction_id, row.sequence), row) for row in found)

    def read_end(self, connection: Connection, partition_id: int) -> Cursor:
        """Return a cursor behind every row that shows, and before every one that will show later."""
        row = self._end.first(connection, {"partition_id": partition_id})
        return Cursor(*row) if row else Cursor()
