"""Logs that were written by another PostgreSQL cluster: restored from a dump, or carried over by an upgrade.

A log is ordered by the numbers of the transactions that wrote it, and a new cluster counts from the beginning. Rows of
numbers that it has not come to would stay hidden until it has, and so would whatever is written meanwhile to those who
follow the log: nothing would be forwarded, and nothing would say so.
"""

from sqlalchemy import BigInteger, Connection, Text, cast, func, literal, select, text, tuple_, update

from pacs.database.base import Database
from pacs.database.tables import change
from pacs.database.work_tables import follower
from pacs.database.workitem_tables import workitem_event

_NEXT_TRANSACTION = cast(cast(func.pg_snapshot_xmax(func.pg_current_snapshot()), Text), BigInteger)
_LOGS = (change, workitem_event)


def adopt_logs(database: Database, partition_id: int) -> bool:
    """Let logs of another cluster go on in this one; say whether they were. SQLite knows no such numbers.

    Who followed one goes on where it was, or a little before: what was written by transactions that ran side by side
    may be met again. ``partition_id`` is one whose log tells by its last number.
    """
    with database.read() as connection:
        is_foreign = connection.dialect.name == "postgresql" and _is_ahead(connection, partition_id)
    return is_foreign and database.write(lambda connection: _renumber(connection, partition_id))


def _is_ahead(connection: Connection, partition_id: int) -> bool:
    newest = [select(func.max(log.c.transaction_id)).where(log.c.partition_id == partition_id) for log in _LOGS]
    newest.append(select(func.max(follower.c.transaction_id)))
    is_ahead = func.greatest(*(each.scalar_subquery() for each in newest)) >= _NEXT_TRANSACTION
    return bool(connection.execute(select(is_ahead)).scalar())


def _renumber(connection: Connection, partition_id: int) -> bool:
    connection.execute(text("LOCK TABLE change, follower, workitem_event IN EXCLUSIVE MODE"))
    if not _is_ahead(connection, partition_id):  # another process was faster
        return False
    is_behind = tuple_(change.c.transaction_id, change.c.sequence) > tuple_(
        follower.c.transaction_id, follower.c.sequence
    )
    unread = select(func.min(change.c.sequence)).where(is_behind).scalar_subquery()
    last = select(func.coalesce(func.max(change.c.sequence), literal(0))).scalar_subquery()
    connection.execute(update(follower).values(transaction_id=0, sequence=func.coalesce(unread - 1, last)))
    for log in _LOGS:
        connection.execute(update(log).where(log.c.transaction_id != 0).values(transaction_id=0))
    return True
