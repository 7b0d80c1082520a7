"""Instances whose bytes were packed anew: one row is switched from the received copy to another that holds the same.

The data set digest of a row is that of what was received for as long as the row lives, so that a copy sent again is the
same. The received bytes are named by a row of their own until they need not be kept any more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, select, update

from pacs.database.tables import instance, instance_header
from pacs.database.work_tables import original
from pacs.index import changes, series_metadata
from pacs.index.rows import PreparedInstance
from pacs.index.writer import Existing
from pacs.model import ChangeKind, Location

RELEASED_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Original:
    """What an instance was received as; ``location`` is None once the bytes need not be kept any more.

    Digests are SHA-256 in hex: of the whole file, and of its data set.
    """

    sop_instance_uid: str
    transfer_syntax_uid: str
    location: Location | None
    blob_digest: str
    dataset_digest: str
    recompressed_at: datetime
    kept_until: datetime


@dataclass(frozen=True, slots=True)
class Candidate:
    """An instance that might be recompressed, by its row."""

    row_id: int
    sop_instance_uid: str


def switch(
    connection: Connection,
    before: Existing,
    after: PreparedInstance,
    *,
    blob_digest: str,
    at: datetime,
    kept_until: datetime,
) -> bool:
    """Let an instance be answered with other bytes that hold the same; remember what was received.

    False, and nothing is changed, if the row is not what it was: replaced, withheld, corrected back or switched
    meanwhile. ``blob_digest`` is SHA-256 of the bytes before, in hex.
    """
    location = after.new.location
    switched = connection.execute(
        _SWITCH,
        {
            "row_id": before.row_id,
            "old_syntax": before.transfer_syntax_uid,
            "old_key": before.location.blob_key,
            "old_offset": before.location.offset,
            "old_length": before.location.length_bytes,
            "old_digest": bytes.fromhex(before.dataset_digest),
            "new_syntax": after.new.header.transfer_syntax_uid,
            "new_key": location.blob_key,
            "new_offset": location.offset,
            "new_length": location.length_bytes,
        },
    )
    if switched.rowcount != 1:
        return False
    header = {column: after.header[column] for column in ("attributes", "bulk", "layout")}
    connection.execute(_DESCRIBE, header | {"row_id": before.row_id})
    series_metadata.count_up(connection, before.series_row_id)
    connection.execute(
        insert(original),
        {
            "partition_id": after.partition_id,
            "sop_instance_uid": after.sop_instance_uid,
            "transfer_syntax_uid": before.transfer_syntax_uid,
            "blob_key": before.location.blob_key,
            "blob_offset": before.location.offset,
            "blob_length": before.location.length_bytes,
            "blob_digest": bytes.fromhex(blob_digest),
            "dataset_digest": bytes.fromhex(before.dataset_digest),
            "recompressed_at": at,
            "kept_until": kept_until,
        },
    )
    changes.append(
        connection,
        after.partition_id,
        ChangeKind.INSTANCE_RECOMPRESSED,
        at=at,
        study_instance_uid=before.study_instance_uid,
        series_instance_uid=before.series_instance_uid,
        sop_instance_uid=after.sop_instance_uid,
        facts={"transfer_syntax_uid": after.new.header.transfer_syntax_uid, "received_as": before.transfer_syntax_uid},
    )
    return True


def find_originals(connection: Connection, partition_id: int, sop_instance_uid: str) -> list[Original]:
    """Return what was received under a SOP Instance UID and recompressed since, newest first."""
    rows = connection.execute(_FIND, {"partition_id": partition_id, "sop_instance_uid": sop_instance_uid})
    return [
        Original(
            row.sop_instance_uid,
            row.transfer_syntax_uid,
            Location(row.blob_key, row.blob_offset, row.blob_length) if row.blob_key else None,
            row.blob_digest.hex(),
            row.dataset_digest.hex(),
            row.recompressed_at,
            row.kept_until,
        )
        for row in rows
    ]


def release_expired(connection: Connection, partition_id: int, now: datetime) -> int:
    """Name the bytes of originals no more that were kept for long enough; return how many, at most a page.

    Their digests stay. Nothing is removed here: what no table names is the sweeper's.
    """
    values: dict[str, Any] = {"partition_id": partition_id, "now": now, "limit": RELEASED_AT_ONCE}
    row_ids = connection.execute(_EXPIRED, values).scalars().all()
    if row_ids:
        connection.execute(_RELEASE, {"row_ids": list(row_ids)})
    return len(row_ids)


def count_candidates(connection: Connection, partition_id: int, transfer_syntax_uids: Sequence[str]) -> int:
    """Return how many instances are stored in one of these syntaxes. Reads every row."""
    wanted = {"partition_id": partition_id, "uids": list(transfer_syntax_uids)}
    return int(connection.execute(select(func.count()).where(*_IS_CANDIDATE), wanted).scalar_one())


def read_candidates(
    connection: Connection, partition_id: int, transfer_syntax_uids: Sequence[str], after: int, limit: int
) -> list[Candidate]:
    """Return at most ``limit`` instances in one of these syntaxes by row id after ``after``."""
    wanted = {"partition_id": partition_id, "uids": list(transfer_syntax_uids), "after": after, "limit": limit}
    return [Candidate(row.id, row.sop_instance_uid) for row in connection.execute(_CANDIDATES, wanted)]


_SWITCH = (
    update(instance)
    .where(
        instance.c.id == bindparam("row_id"),
        instance.c.transfer_syntax_uid == bindparam("old_syntax"),
        instance.c.blob_key == bindparam("old_key"),
        instance.c.blob_offset == bindparam("old_offset"),
        instance.c.blob_length == bindparam("old_length"),
        instance.c.dataset_digest == bindparam("old_digest"),
    )
    .values(
        transfer_syntax_uid=bindparam("new_syntax"),
        blob_key=bindparam("new_key"),
        blob_offset=bindparam("new_offset"),
        blob_length=bindparam("new_length"),
    )
)
_DESCRIBE = (
    update(instance_header)
    .where(instance_header.c.instance_row_id == bindparam("row_id"))
    .values(attributes=bindparam("attributes"), bulk=bindparam("bulk"), layout=bindparam("layout"))
)
_FIND = (
    select(original)
    .where(
        original.c.partition_id == bindparam("partition_id"),
        original.c.sop_instance_uid == bindparam("sop_instance_uid"),
    )
    .order_by(original.c.id.desc())
)
_EXPIRED = (
    select(original.c.id)
    .where(
        original.c.partition_id == bindparam("partition_id"),
        original.c.kept_until <= bindparam("now"),
        original.c.blob_key > "",
    )
    .order_by(original.c.id)
    .limit(bindparam("limit"))
)
_RELEASE = update(original).where(original.c.id.in_(bindparam("row_ids", expanding=True))).values(blob_key="")
_IS_CANDIDATE = (
    instance.c.partition_id == bindparam("partition_id"),
    instance.c.transfer_syntax_uid.in_(bindparam("uids", expanding=True)),
)
_CANDIDATES = (
    select(instance.c.id, instance.c.sop_instance_uid)
    .where(*_IS_CANDIDATE, instance.c.id > bindparam("after"))
    .order_by(instance.c.id)
    .limit(bindparam("limit"))
)
