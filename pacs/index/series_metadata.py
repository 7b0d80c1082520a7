"""Metadata of whole series, kept under the number of the revision that they show.

Whatever changes the metadata of a series counts its revision up in the same transaction (PS3.18 10.4.1.1.2). So what
is kept needs nobody to remove it: of another number than the series has now, it is not found.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, select, update

from pacs.database.tables import series, study
from pacs.database.work_tables import series_metadata
from pacs.index.inserting import insert_missing


@dataclass(frozen=True, slots=True)
class SeriesState:
    """A series by its row, and the number of its revision: another one after every change to its metadata."""

    row_id: int
    revision: int
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of a series as it is now, by the digest of its ``Revision``; nothing if it ``is_too_long``."""

    series_row_id: int
    digest: str
    is_too_long: bool


def count_up(connection: Connection, series_row_id: int) -> None:
    """Let what is kept of a series be found no more."""
    connection.execute(_COUNT_UP.where(series.c.id == series_row_id))


def count_up_study(connection: Connection, study_row_id: int) -> None:
    """Let what is kept of the series of a study be found no more."""
    connection.execute(_COUNT_UP.where(series.c.study_row_id == study_row_id))


def find_kept(
    connection: Connection, partition_id: int, study_instance_uid: str, series_instance_uid: str
) -> Kept | None:
    """Return what is kept of a series as it is now, without its body; None if nothing is, or there is no series."""
    row = connection.execute(_FIND_KEPT, _key(partition_id, study_instance_uid, series_instance_uid)).first()
    return None if row is None else Kept(row.series_row_id, row.digest, row.length == 0)


def read_kept(connection: Connection, kept: Kept) -> bytes | None:
    """Return the body that was found; None if it is gone, or another one is in its place."""
    parameters = {"row_id": kept.series_row_id, "digest": kept.digest}
    body = connection.execute(_READ_KEPT, parameters).scalar()
    return None if body is None else bytes(body)


def find_series(
    connection: Connection, partition_id: int, study_instance_uid: str, series_instance_uid: str
) -> SeriesState | None:
    """Return a series and its revision, to be asked before its instances are read; None if there is none."""
    row = connection.execute(_FIND_SERIES, _key(partition_id, study_instance_uid, series_instance_uid)).first()
    return None if row is None else SeriesState(row.id, row.revision, row.updated_at)


def list_series(connection: Connection, partition_id: int, study_instance_uid: str) -> list[str]:
    """Return the Series Instance UIDs of a study."""
    parameters = {"partition_id": partition_id, "study_instance_uid": study_instance_uid}
    return list(connection.execute(_LIST_SERIES, parameters).scalars())


def keep(connection: Connection, state: SeriesState, digest: str, body: bytes) -> None:
    """Keep a body of this state of a series and no other, compressed by zlib; nothing if that is no more its state."""
    # The time too, for the row may be another series' by now: numbers of rows are used again, and revisions are small.
    found = connection.execute(_LOCK, {"row_id": state.row_id}).first()
    if found is None or (found.revision, found.updated_at) != (state.revision, state.updated_at):
        return
    connection.execute(_DELETE, {"row_id": state.row_id})
    row = {"series_row_id": state.row_id, "revision": state.revision, "digest": digest, "body": body}
    insert_missing(connection, series_metadata, [row])


def _key(partition_id: int, study_instance_uid: str, series_instance_uid: str) -> dict[str, Any]:
    return {
        "partition_id": partition_id,
        "study_instance_uid": study_instance_uid,
        "series_instance_uid": series_instance_uid,
    }


_COUNT_UP = update(series).values(revision=series.c.revision + 1)
_IS_STUDY = (
    study.c.partition_id == bindparam("partition_id"),
    study.c.study_instance_uid == bindparam("study_instance_uid"),
)
_LIST_SERIES = (
    select(series.c.series_instance_uid).join_from(series, study, series.c.study_row_id == study.c.id).where(*_IS_STUDY)
)
_FIND_SERIES = (
    select(series.c.id, series.c.revision, series.c.updated_at)
    .join_from(study, series, series.c.study_row_id == study.c.id)
    .where(
        *_IS_STUDY,
        series.c.partition_id == bindparam("partition_id"),
        series.c.series_instance_uid == bindparam("series_instance_uid"),
    )
)
_FIND_KEPT = _FIND_SERIES.with_only_columns(
    series_metadata.c.series_row_id,
    series_metadata.c.digest,
    func.length(series_metadata.c.body).label("length"),
    maintain_column_froms=True,
).join(
    series_metadata,
    (series_metadata.c.series_row_id == series.c.id) & (series_metadata.c.revision == series.c.revision),
)
_READ_KEPT = select(series_metadata.c.body).where(
    series_metadata.c.series_row_id == bindparam("row_id"), series_metadata.c.digest == bindparam("digest")
)
_LOCK = (
    select(series.c.revision, series.c.updated_at)
    .where(series.c.id == bindparam("row_id"))
    .with_for_update(read=True, key_share=True)
)
"""Nobody removes the series before what is kept of it is there."""
_DELETE = delete(series_metadata).where(series_metadata.c.series_row_id == bindparam("row_id"))
