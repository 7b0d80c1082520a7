"""Look-ups by UID, and a page of matches with what is derived for it, in a constant number of statements."""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import orjson
from sqlalchemy import BindParameter, Connection, Select, bindparam, func, select

from pacs.database.prepared import Prepared
from pacs.database.tables import instance, instance_header, patient, series, study
from pacs.index.matching import build_select
from pacs.index.metadata import MICROSECONDS, Revision, RevisionDigest, read_header
from pacs.index.records import OVERLAY_COLUMNS, RECORD_COLUMNS, record_of, steps_of
from pacs.index.sounds import Ranking, find_ranking
from pacs.model import Attributes, InstanceRecord, Level
from pacs.overlay import apply
from pacs.query import Position, Query
from pacs.tags import tag_of, vr_of

__all__ = ["Match", "Page", "find_instances", "find_with_revision", "has_series", "has_study", "read_header", "search"]

_STATEMENTS = 128


@dataclass(frozen=True, slots=True)
class Match:
    """One answer: its attributes in ascending order of tags, and the UIDs down to the level that was asked for."""

    attributes: Attributes
    study_instance_uid: str = ""
    series_instance_uid: str = ""
    sop_instance_uid: str = ""


def find_instances(
    connection: Connection,
    partition_id: int,
    study_instance_uid: str,
    series_instance_uid: str | None = None,
    sop_instance_uid: str | None = None,
) -> list[InstanceRecord]:
    """Return the instances under these UIDs by series number, then instance number; those without a number last."""
    wanted = _wanted(partition_id, study_instance_uid, series_instance_uid, sop_instance_uid)
    return [record_of(row) for row in _find_records(tuple(wanted)).all(connection, wanted)]


def find_with_revision(
    connection: Connection,
    partition_id: int,
    study_instance_uid: str,
    series_instance_uid: str | None = None,
    sop_instance_uid: str | None = None,
) -> tuple[list[InstanceRecord], Revision]:
    """Return the same with what ``metadata.read_revision`` says of them, by one statement."""
    wanted = _wanted(partition_id, study_instance_uid, series_instance_uid, sop_instance_uid)
    digest, records = RevisionDigest(), []
    for row in _find_revised(tuple(wanted)).all(connection, wanted):
        digest.add(row)
        records.append(record_of(row))
    return records, digest.revision()


def _wanted(
    partition_id: int, study_instance_uid: str, series_instance_uid: str | None, sop_instance_uid: str | None
) -> dict[str, Any]:
    """Return what must be equal, by its column."""
    wanted: dict[str, Any] = {"partition_id": partition_id, "study_instance_uid": study_instance_uid}
    if series_instance_uid is not None:
        wanted["series_instance_uid"] = series_instance_uid
    if sop_instance_uid is not None:
        wanted["sop_instance_uid"] = sop_instance_uid
    return wanted


@cache
def _find_records(columns: tuple[str, ...]) -> Prepared:
    return Prepared(_RECORDS.where(*(_KEYS[name] == bindparam(name) for name in columns)))


@cache
def _find_revised(columns: tuple[str, ...]) -> Prepared:
    return Prepared(_REVISED_RECORDS.where(*(_KEYS[name] == bindparam(name) for name in columns)))


def has_study(connection: Connection, partition_id: int, study_instance_uid: str) -> bool:
    """Return whether the archive has such a study."""
    parameters = {"partition_id": partition_id, "study_instance_uid": study_instance_uid}
    return _STUDY.first(connection, parameters) is not None


def has_series(connection: Connection, partition_id: int, study_instance_uid: str, series_instance_uid: str) -> bool:
    """Return whether the archive has such a series in this study."""
    parameters = {
        "partition_id": partition_id,
        "study_instance_uid": study_instance_uid,
        "series_instance_uid": series_instance_uid,
    }
    return _SERIES.first(connection, parameters) is not None


@dataclass(frozen=True, slots=True)
class Page:
    """Some matches in their order; ``has_more`` says that others follow them, ``last`` where to go on.

    ``ranking`` is what a search by sound compared for this page and those behind it.
    """

    matches: tuple[Match, ...]
    has_more: bool
    last: Position | None = None
    ranking: Ranking | None = None

    @property
    def is_cut(self) -> bool:
        """Whether more names have the sounds asked for than are compared; those of the older studies were not."""
        return self.ranking is not None and self.ranking.is_cut


def search(
    connection: Connection,
    partition_id: int,
    query: Query,
    *,
    with_header: bool = False,
    ranking: Ranking | None = None,
) -> Page:
    """Return one page of matches; ``ranking`` is that of the page before it, so that nothing is compared again.

    A match has the indexed attributes of its own level and of those above, and what is derived for them. With
    ``with_header`` instances have every attribute of their header instead.
    """
    ranking = ranking or find_ranking(connection, partition_id, query)
    if ranking is None:
        statement = _statement_of(partition_id, query)
    else:
        statement = build_select(partition_id, query, ranking.as_table())
    rows = connection.execute(statement).all()
    page = rows[: query.page_size]
    matches = _matches(connection, query.level, [row[0] for row in page], with_header=with_header)
    last = tuple(page[-1][1:]) if page else None
    return Page(tuple(matches), len(rows) > len(page), last, ranking)


@lru_cache(_STATEMENTS)
def _statement_of(partition_id: int, query: Query) -> Select[Any]:
    """Return the statement of a search; lists that are looked at again and again are spelled out once."""
    return build_select(partition_id, query)


def _matches(connection: Connection, level: Level, row_ids: Sequence[int], *, with_header: bool) -> list[Match]:
    if not row_ids:
        return []
    match level:
        case Level.PATIENT:
            found = _patients(connection, row_ids)
            return [found[row_id] for row_id in row_ids]
        case Level.STUDY:
            studies = _studies(connection, row_ids)
            return [studies[row_id] for row_id in row_ids]
        case Level.SERIES:
            found_series = _series(connection, row_ids)
            return [found_series[row_id] for row_id in row_ids]
    return _instances(connection, row_ids, with_header=with_header)


def _patients(connection: Connection, row_ids: Iterable[int]) -> dict[int, Match]:
    """Return a match for every patient, with its counts."""
    totals = {row.patient_row_id: row for row in _rows(connection, _PATIENT_TOTALS, row_ids)}
    matches = {}
    for row in _rows(connection, _PATIENT_ROWS, row_ids):
        total = totals.get(row.id)
        derived = {
            **_element("InstanceAvailability", "ONLINE"),
            **_element("NumberOfPatientRelatedStudies", total.study_count if total else 0),
            **_element("NumberOfPatientRelatedSeries", total.series_count if total else 0),
            **_element("NumberOfPatientRelatedInstances", int(total.instance_count) if total else 0),
        }
        matches[row.id] = Match(_merge(orjson.loads(row.attributes), derived))
    return matches


def _studies(connection: Connection, row_ids: Iterable[int]) -> dict[int, Match]:
    """Return a match for every study, with its counts, modalities and SOP Classes."""
    totals: dict[int, _Totals] = {}
    rows = _rows(connection, _STUDY_ROWS, row_ids)
    for row in _rows(connection, _TOTALS, row_ids):
        totals.setdefault(row.study_row_id, _Totals()).add(row)
    return {
        row.id: Match(
            _merge(
                orjson.loads(row.attributes),
                _element("StudyInstanceUID", row.study_instance_uid),
                totals.get(row.id, _Totals()).attributes(),
            ),
            row.study_instance_uid,
        )
        for row in rows
    }


def _series(connection: Connection, row_ids: Iterable[int]) -> dict[int, Match]:
    rows = _rows(connection, _SERIES_ROWS, row_ids)
    studies = _studies(connection, {row.study_row_id for row in rows})
    return {
        row.id: Match(
            _merge(
                studies[row.study_row_id].attributes,
                orjson.loads(row.attributes),
                _element("SeriesInstanceUID", row.series_instance_uid),
                _element("NumberOfSeriesRelatedInstances", row.instance_count),
            ),
            studies[row.study_row_id].study_instance_uid,
            row.series_instance_uid,
        )
        for row in rows
    }


def _instances(connection: Connection, row_ids: Sequence[int], *, with_header: bool) -> list[Match]:
    rows = {row.id: row for row in _rows(connection, _HEADER_ROWS if with_header else _SUMMARY_ROWS, row_ids)}
    above = _series(connection, {row.series_row_id for row in rows.values()})
    matches = []
    for row in (rows[row_id] for row_id in row_ids):
        placed = above[row.series_row_id]
        own = _header(row) if with_header else orjson.loads(row.summary)
        uid = _element("SOPInstanceUID", row.sop_instance_uid)
        attributes = _merge(placed.attributes, own, uid)
        matches.append(Match(attributes, placed.study_instance_uid, placed.series_instance_uid, row.sop_instance_uid))
    return matches


def _header(row: Any) -> Attributes:
    """Return the whole header as it leaves, with what was coerced and corrected."""
    attributes: Attributes = orjson.loads(zlib.decompress(row.attributes))
    return apply(attributes, steps_of(row))


class _Totals:
    """What is added up over the series of one study."""

    def __init__(self) -> None:
        self._modalities: set[str] = set()
        self._sop_class_uids: set[str] = set()
        self._series = 0
        self._instances = 0

    def add(self, row: Any) -> None:
        """Add some series that have one modality and the same SOP Classes."""
        if row.modality is not None:
            self._modalities.add(row.modality)
        self._sop_class_uids.update(row.sop_class_uids.split())
        self._series += row.series_count
        self._instances += int(row.instance_count)

    def attributes(self) -> Attributes:
        """Return the attributes of PS3.4 C.3.4 for the study."""
        return {
            **_element("InstanceAvailability", "ONLINE"),
            **(_element("ModalitiesInStudy", *sorted(self._modalities)) if self._modalities else {}),
            **_element("SOPClassesInStudy", *sorted(self._sop_class_uids)),
            **_element("NumberOfStudyRelatedSeries", self._series),
            **_element("NumberOfStudyRelatedInstances", self._instances),
        }


def _element(keyword: str, *values: str | int) -> Attributes:
    element: dict[str, Any] = {"vr": vr_of(keyword)}
    return {tag_of(keyword): element | {"Value": list(values)} if values else element}


def _merge(*layers: Attributes) -> Attributes:
    """Return the layers as one data set in ascending order of tags; a later layer wins."""
    merged: Attributes = {}
    for layer in layers:
        merged |= layer
    return dict(sorted(merged.items()))


def _rows(connection: Connection, statement: Any, row_ids: Iterable[int]) -> Sequence[Any]:
    return connection.execute(statement, {"row_ids": list(row_ids)}).all()


_ROW_IDS: BindParameter[Sequence[int]] = bindparam("row_ids", expanding=True)

_KEYS = {
    "partition_id": study.c.partition_id,
    "study_instance_uid": study.c.study_instance_uid,
    "series_instance_uid": series.c.series_instance_uid,
    "sop_instance_uid": instance.c.sop_instance_uid,
}
_RECORDS = (
    select(*RECORD_COLUMNS)
    .join_from(instance, series, instance.c.series_row_id == series.c.id)
    .join(study, series.c.study_row_id == study.c.id)
    .order_by(series.c.series_number.nulls_last(), series.c.id, instance.c.instance_number.nulls_last(), instance.c.id)
)
_REVISED_RECORDS = _RECORDS.add_columns(instance.c.dataset_digest, MICROSECONDS, *OVERLAY_COLUMNS).join(
    instance_header, instance_header.c.instance_row_id == instance.c.id
)
_STUDY = Prepared(
    select(study.c.id).where(
        study.c.partition_id == bindparam("partition_id"),
        study.c.study_instance_uid == bindparam("study_instance_uid"),
    )
)
_SERIES = Prepared(
    select(series.c.id)
    .join_from(series, study, series.c.study_row_id == study.c.id)
    .where(
        study.c.partition_id == bindparam("partition_id"),
        study.c.study_instance_uid == bindparam("study_instance_uid"),
        series.c.series_instance_uid == bindparam("series_instance_uid"),
    )
)
_PATIENT_ROWS = select(patient.c.id, patient.c.attributes).where(patient.c.id.in_(_ROW_IDS))
_STUDY_ROWS = select(study.c.id, study.c.study_instance_uid, study.c.attributes).where(study.c.id.in_(_ROW_IDS))
_SERIES_ROWS = select(
    series.c.id, series.c.study_row_id, series.c.series_instance_uid, series.c.instance_count, series.c.attributes
).where(series.c.id.in_(_ROW_IDS))
_TOTALS = (
    select(
        series.c.study_row_id,
        series.c.modality,
        series.c.sop_class_uids,
        func.count().label("series_count"),
        func.sum(series.c.instance_count).label("instance_count"),
    )
    .where(series.c.study_row_id.in_(_ROW_IDS))
    .group_by(series.c.study_row_id, series.c.modality, series.c.sop_class_uids)
)
_PATIENT_TOTALS = (
    select(
        study.c.patient_row_id,
        func.count(study.c.id.distinct()).label("study_count"),
        func.count().label("series_count"),
        func.sum(series.c.instance_count).label("instance_count"),
    )
    .join_from(study, series, series.c.study_row_id == study.c.id)
    .where(study.c.patient_row_id.in_(_ROW_IDS))
    .group_by(study.c.patient_row_id)
)
_INSTANCE_ROWS = (
    select(instance.c.id, instance.c.series_row_id, instance.c.sop_instance_uid)
    .join_from(instance, instance_header, instance_header.c.instance_row_id == instance.c.id)
    .where(instance.c.id.in_(_ROW_IDS))
)
_SUMMARY_ROWS = _INSTANCE_ROWS.add_columns(instance_header.c.summary)
_HEADER_ROWS = (
    _INSTANCE_ROWS.add_columns(instance_header.c.attributes, *OVERLAY_COLUMNS)
    .join(series, instance.c.series_row_id == series.c.id)
    .join(study, series.c.study_row_id == study.c.id)
)
