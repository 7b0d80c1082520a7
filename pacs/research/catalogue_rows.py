"""Rows of the catalogue: one a clinical series, made of the revision that the series had when its header was read.

A series that is removed takes its row with it. One whose revision has counted on has a row that is made anew.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Connection, bindparam, delete, func, or_, select

from pacs.database.research_tables import research_catalogue
from pacs.database.tables import series, study
from pacs.index.inserting import insert_missing
from pacs.index.metadata import SeriesReading
from pacs.index.series_metadata import SeriesState
from pacs.model import CLINICAL_PARTITION, Attributes
from pacs.research.catalogue_values import RULES, CatalogueValues


@dataclass(frozen=True, slots=True)
class SeriesHeader:
    """A series in the state that it was read in, and the header of its first instance as it leaves."""

    state: SeriesState
    attributes: Attributes


def read_stale(connection: Connection, after: int, limit: int) -> list[int]:
    """Return the next series that have no row, or one of another revision or of older rules, by their rows."""
    return list(connection.execute(_STALE, {"after": after, "limit": limit}).scalars())


def count_stale(connection: Connection) -> int:
    """Return how many series ``read_stale`` would return in all."""
    return int(connection.execute(_COUNT_STALE).scalar() or 0)


def list_series_of(connection: Connection, study_instance_uid: str, series_instance_uid: str) -> list[int]:
    """Return the row of a series; of every series of the study, if none is named."""
    found = connection.execute(_OF_STUDY, {"study_instance_uid": study_instance_uid}).all()
    return [row.id for row in found if series_instance_uid in ("", row.series_instance_uid)]


def read_header(connection: Connection, series_row_id: int) -> SeriesHeader | None:
    """Return what a series' row is made of; None if it is gone."""
    row = connection.execute(_STATE, {"row_id": series_row_id}).first()
    if row is None:
        return None
    for _, _, attributes in SeriesReading(connection, series_row_id):
        return SeriesHeader(SeriesState(row.id, row.revision, row.updated_at), orjson.loads(attributes))
    return None


def keep(connection: Connection, made: Sequence[tuple[SeriesState, CatalogueValues]]) -> None:
    """Keep what was made of these states; nothing of a series that is in another one by now."""
    for state, values in made:
        # The time too, for the row may be another series' by now: numbers of rows are used again.
        found = connection.execute(_LOCK, {"row_id": state.row_id}).first()
        if found is None or (found.revision, found.updated_at) != (state.revision, state.updated_at):
            continue
        connection.execute(_DELETE, {"row_id": state.row_id})
        key = {"series_row_id": state.row_id, "revision": state.revision, "rules": RULES}
        insert_missing(connection, research_catalogue, [key | asdict(values)])


def remove_all(connection: Connection) -> None:
    """Remove every row."""
    connection.execute(delete(research_catalogue))


_IS_STALE: ColumnElement[bool] = or_(
    research_catalogue.c.series_row_id.is_(None),
    research_catalogue.c.revision != series.c.revision,
    research_catalogue.c.rules != RULES,
)
_OF_CATALOGUE: Any = (
    select(series.c.id)
    .outerjoin_from(series, research_catalogue, research_catalogue.c.series_row_id == series.c.id)
    .where(series.c.partition_id == CLINICAL_PARTITION, series.c.instance_count > 0, _IS_STALE)
)
_STALE = _OF_CATALOGUE.where(series.c.id > bindparam("after")).order_by(series.c.id).limit(bindparam("limit"))
_COUNT_STALE = _OF_CATALOGUE.with_only_columns(func.count(), maintain_column_froms=True)
_OF_STUDY = (
    select(series.c.id, series.c.series_instance_uid)
    .join_from(series, study, series.c.study_row_id == study.c.id)
    .where(study.c.partition_id == CLINICAL_PARTITION, study.c.study_instance_uid == bindparam("study_instance_uid"))
    .order_by(series.c.id)
)
_STATE = select(series.c.id, series.c.revision, series.c.updated_at).where(series.c.id == bindparam("row_id"))
_LOCK = _STATE.with_for_update(read=True, key_share=True)
_DELETE = delete(research_catalogue).where(research_catalogue.c.series_row_id == bindparam("row_id"))
