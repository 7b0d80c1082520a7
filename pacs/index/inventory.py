"""Walking everything that is stored, page by page: no read transaction outlives a page."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, select

from pacs.database.tables import conflict, instance, series
from pacs.model import Location


@dataclass(frozen=True, slots=True)
class StoredCopy:
    """One copy of an instance: the one that answers queries, or one that waits in an open or decided conflict."""

    row_id: int
    sop_instance_uid: str
    location: Location
    dataset_digest: str


def count_instances(connection: Connection, partition_id: int) -> int:
    """Return how many instances the partition holds, from the counts that its series keep."""
    statement = select(func.coalesce(func.sum(series.c.instance_count), 0)).where(series.c.partition_id == partition_id)
    return int(connection.execute(statement).scalar_one())


def read_instances(connection: Connection, partition_id: int, after: int, limit: int) -> list[StoredCopy]:
    """Return at most ``limit`` instances by row id from the one after ``after`` on."""
    statement = (
        select(
            instance.c.id,
            instance.c.sop_instance_uid,
            instance.c.blob_key,
            instance.c.blob_offset,
            instance.c.blob_length,
            instance.c.dataset_digest,
        )
        .where(instance.c.partition_id == partition_id, instance.c.id > after)
        .order_by(instance.c.id)
        .limit(limit)
    )
    return [_copy(row) for row in connection.execute(statement)]


def read_conflicting(connection: Connection, partition_id: int, after: int, limit: int) -> list[StoredCopy]:
    """Return at most ``limit`` copies that conflicts keep, by the conflict's id from the one after ``after`` on."""
    statement = (
        select(
            conflict.c.id,
            conflict.c.sop_instance_uid,
            conflict.c.blob_key,
            conflict.c.blob_offset,
            conflict.c.blob_length,
            conflict.c.dataset_digest,
        )
        .where(conflict.c.partition_id == partition_id, conflict.c.id > after, conflict.c.blob_key.is_not(None))
        .order_by(conflict.c.id)
        .limit(limit)
    )
    return [_copy(row) for row in connection.execute(statement)]


def _copy(row: Row[*tuple[Any, ...]]) -> StoredCopy:
    location = Location(row.blob_key, row.blob_offset, row.blob_length)
    return StoredCopy(row.id, row.sop_instance_uid, location, row.dataset_digest.hex())
