"""Pictures of series, one each: kept beside the instance that they show, and gone with it."""

from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, delete, select

from pacs.database.tables import instance
from pacs.database.work_tables import thumbnail
from pacs.index import metadata
from pacs.index.inserting import insert_missing


@dataclass(frozen=True, slots=True)
class StoredThumbnail:
    """A JPEG of the instance of this row, as it is now."""

    instance_row_id: int
    picture: bytes


def find_of_series(connection: Connection, instance_row_id: int) -> StoredThumbnail | None:
    """Return the picture of the series that an instance is in; None if there is none, or one of another state."""
    row = connection.execute(_FIND, {"row_id": instance_row_id}).first()
    if row is None or row.revision != metadata.read_revision(connection, [row.instance_row_id]).digest:
        return None
    return StoredThumbnail(row.instance_row_id, bytes(row.picture))


def replace(connection: Connection, instance_row_id: int, revision: str, picture: bytes) -> None:
    """Keep this picture for the series of the instance, and no other; nothing if the instance has changed meanwhile."""
    connection.execute(_LOCK, {"row_id": instance_row_id})
    connection.execute(_DELETE, {"row_id": instance_row_id})
    if metadata.read_revision(connection, [instance_row_id]).digest == revision:
        row = {"instance_row_id": instance_row_id, "revision": revision, "picture": picture}
        insert_missing(connection, thumbnail, [row])


_SERIES = select(instance.c.series_row_id).where(instance.c.id == bindparam("row_id")).scalar_subquery()
_BESIDE = select(instance.c.id).where(instance.c.series_row_id == _SERIES)
_FIND = (
    select(thumbnail)
    .join_from(instance, thumbnail, thumbnail.c.instance_row_id == instance.c.id)
    .where(instance.c.series_row_id == _SERIES)
    .limit(1)
)
_LOCK = select(instance.c.id).where(instance.c.id == bindparam("row_id")).with_for_update(read=True, key_share=True)
"""Nobody removes the instance before its picture is there."""
_DELETE = delete(thumbnail).where(thumbnail.c.instance_row_id.in_(_BESIDE))
