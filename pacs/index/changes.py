"""The change log: appended in the transaction that makes the change, read in commit order; and who follows it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, bindparam, select, update

from pacs.database.prepared import Prepared
from pacs.database.tables import change
from pacs.database.work_tables import follower
from pacs.index.inserting import insert_missing
from pacs.index.metadata import dump_text
from pacs.index.ordered_log import OrderedLog
from pacs.model import Change, ChangeKind, Cursor

_LOG = OrderedLog(change)


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
    uids = (study_instance_uid, series_instance_uid, sop_instance_uid)
    append_all(connection, partition_id, kind, at=at, uids=[uids], facts=facts)


def append_all(
    connection: Connection,
    partition_id: int,
    kind: ChangeKind,
    *,
    at: datetime,
    uids: Sequence[tuple[str, str, str]],
    facts: dict[str, Any] | None = None,
) -> None:
    """Append a change for every triple of Study, Series and SOP Instance UID, in their order and at least one."""
    shared = {
        "partition_id": partition_id,
        "kind": kind.value,
        "at": at,
        "facts": dump_text(facts) if facts else "{}",
    }
    rows = [shared | dict(zip(_UIDS, values, strict=True)) for values in uids]
    _LOG.append(connection, rows)


def read_after(connection: Connection, partition_id: int, cursor: Cursor, limit: int) -> list[Change]:
    """Return at most ``limit`` changes after ``cursor`` in commit order; resume at the last one's cursor."""
    return [
        Change(
            cursor=resume_at,
            kind=ChangeKind(row.kind),
            at=row.at,
            study_instance_uid=row.study_instance_uid,
            series_instance_uid=row.series_instance_uid,
            sop_instance_uid=row.sop_instance_uid,
            facts=orjson.loads(row.facts),
        )
        for resume_at, row in _LOG.read_after(connection, partition_id, cursor, limit)
    ]


def read_end(connection: Connection, partition_id: int) -> Cursor:
    """Return a cursor behind every change that shows, and before every one that will show later."""
    return _LOG.read_end(connection, partition_id)


def find_cursor(connection: Connection, follower_name: str) -> Cursor | None:
    """Return how far a follower has come, None if it never began."""
    row = _FIND_CURSOR.first(connection, {"name": follower_name})
    return Cursor(*row) if row else None


def begin(connection: Connection, follower_name: str, cursor: Cursor) -> None:
    """Let a follower begin after ``cursor``; one that began already stays where it is."""
    row = {"name": follower_name, "transaction_id": cursor.transaction_id, "sequence": cursor.sequence}
    insert_missing(connection, follower, [row])


def advance(connection: Connection, follower_name: str, before: Cursor, after: Cursor) -> bool:
    """Move a follower on in the caller's transaction; False if it is not where it was, for another process moved it."""
    cursors = {
        "name_is": follower_name,
        "transaction_id_is": before.transaction_id,
        "sequence_is": before.sequence,
        "transaction_id": after.transaction_id,
        "sequence": after.sequence,
    }
    return _ADVANCE.run(connection, cursors) == 1


_UIDS = ("study_instance_uid", "series_instance_uid", "sop_instance_uid")

_FIND_CURSOR = Prepared(
    select(follower.c.transaction_id, follower.c.sequence).where(follower.c.name == bindparam("name"))
)
_ADVANCE = Prepared(
    update(follower).where(
        follower.c.name == bindparam("name_is"),
        follower.c.transaction_id == bindparam("transaction_id_is"),
        follower.c.sequence == bindparam("sequence_is"),
    )
)
