"""The change log: appended in the transaction that makes the change, read in commit order.

SQLite has one writer at a time, so that its numbers are in commit order. PostgreSQL hands out numbers in the order of
asking: a row is shown only when every transaction as old as its own has ended, and the writing transaction comes first
in the cursor. A follower therefore never passes a row that appears behind it later.
"""

from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import BigInteger, Connection, Text, bindparam, cast, func, insert, literal, select, tuple_

from pacs.database.tables import change
from pacs.index.metadata import dump_text
from pacs.model import Change, ChangeKind, Cursor


def append(
    connection: Connection,
    partition_id: int,
    kind: ChangeKind,
    *,
    at: datetime,
    study_instance_uid: str,
    series_instance_uid: str,
    sop_instance_uid: str,
    facts: dict[str, Any] | None = None,
) -> None:
    """Append one change; it shows when the caller's transaction commits. ``facts`` hold no patient value."""
    connection.execute(
        _APPEND[connection.dialect.name],
        {
            "partition_id": partition_id,
            "kind": kind.value,
            "at": at,
            "study_instance_uid": study_instance_uid,
            "series_instance_uid": series_instance_uid,
            "sop_instance_uid": sop_instance_uid,
            "facts": dump_text(facts) if facts else "{}",
        },
    )


def read_after(connection: Connection, partition_id: int, cursor: Cursor, limit: int) -> list[Change]:
    """Return at most ``limit`` changes after ``cursor`` in commit order; resume at the last one's cursor."""
    rows = connection.execute(
        _READ[connection.dialect.name],
        {
            "partition_id": partition_id,
            "transaction_id": cursor.transaction_id,
            "sequence": cursor.sequence,
            "limit": limit,
        },
    )
    return [
        Change(
            cursor=Cursor(row.transaction_id, row.sequence),
            kind=ChangeKind(row.kind),
            at=row.at,
            study_instance_uid=row.study_instance_uid,
            series_instance_uid=row.series_instance_uid,
            sop_instance_uid=row.sop_instance_uid,
            facts=orjson.loads(row.facts),
        )
        for row in rows
    ]


_APPEND = {
    "sqlite": insert(change).values(transaction_id=literal(0)),
    "postgresql": insert(change).values(transaction_id=cast(cast(func.pg_current_xact_id(), Text), BigInteger)),
}

_AFTER = (
    select(change)
    .where(
        change.c.partition_id == bindparam("partition_id"),
        tuple_(change.c.transaction_id, change.c.sequence)
        > tuple_(bindparam("transaction_id", type_=BigInteger), bindparam("sequence", type_=BigInteger)),
    )
    .order_by(change.c.transaction_id, change.c.sequence)
    .limit(bindparam("limit"))
)

_OLDEST_RUNNING = cast(cast(func.pg_snapshot_xmin(func.pg_current_snapshot()), Text), BigInteger)

_READ = {
    "sqlite": _AFTER,
    "postgresql": _AFTER.where(change.c.transaction_id < _OLDEST_RUNNING),
}
