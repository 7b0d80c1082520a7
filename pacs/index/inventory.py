"""Walking everything that is stored, page by page: no read transaction outlives a page."""

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from pacs.database.tables import conflict, instance, series
from pacs.database.work_tables import original, withheld_instance
from pacs.model import Location

_KEEPERS = (instance, conflict, withheld_instance, original)
"""Every table that names blobs. What none of them names is nobody's."""


@dataclass(frozen=True, slots=True)
class Place:
    """How far a walk has come: 0-based number of the table, and the last row of it."""

    table: int = 0
    row_id: int = 0


@dataclass(frozen=True, slots=True)
class StoredCopy:
    """One copy of an instance.

    It answers queries, waits in an open or decided conflict, is withheld, or was recompressed and is still kept.
    """

    place: Place
    sop_instance_uid: str
    location: Location
    dataset_digest: str


def count_copies(connection: Connection, partition_id: int) -> int:
    """Return how many copies the partition keeps; those that answer by the counts that their series keep."""
    answering = select(func.coalesce(func.sum(series.c.instance_count), 0)).where(series.c.partition_id == partition_id)
    return int(connection.execute(answering).scalar_one()) + sum(
        connection.execute(
            select(func.count()).where(table.c.partition_id == partition_id, table.c.blob_key > "")
        ).scalar_one()
        for table in _KEEPERS[1:]
    )


def read_copies(connection: Connection, partition_id: int, after: Place, limit: int) -> list[StoredCopy]:
    """Return at most ``limit`` copies after a place, fewer at the end of a table, none at the end of all.

    Together they name every blob that the index refers to. One that is withheld or restored between two pages may be
    missed or come twice: whoever removes blobs has to look again for each in one transaction.
    """
    for number in range(after.table, len(_KEEPERS)):
        table = _KEEPERS[number]
        last = after.row_id if number == after.table else 0
        rows = connection.execute(
            select(
                table.c.id,
                table.c.sop_instance_uid,
                table.c.blob_key,
                table.c.blob_offset,
                table.c.blob_length,
                table.c.dataset_digest,
            )
            # Neither NULL nor empty: a conflict without a copy of its own, what was rejected before it arrived, and
            # originals that need not be kept any more.
            .where(table.c.partition_id == partition_id, table.c.id > last, table.c.blob_key > "")
            .order_by(table.c.id)
            .limit(limit)
        ).all()
        if rows:
            return [
                StoredCopy(
                    Place(number, row.id),
                    row.sop_instance_uid,
                    Location(row.blob_key, row.blob_offset, row.blob_length),
                    row.dataset_digest.hex(),
                )
                for row in rows
            ]
    return []
