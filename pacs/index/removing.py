"""Unpublishing instances: the rows of the four levels go, those above them with the last one below.

The bytes are the caller's to name elsewhere. Rows are locked in the order of ``writer``, patient, study, series,
instance, before anything is removed: otherwise two who remove the last two series of a study would both leave it.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import chain
from typing import Any, TypeVar

from sqlalchemy import BindParameter, Connection, bindparam, delete, select, update

from pacs.database.base import LostRace
from pacs.database.tables import instance, instance_header, request_attribute, series, study
from pacs.database.work_tables import corrected_study
from pacs.index import corrected
from pacs.index.naming import delete_names

T = TypeVar("T")

CHUNK = 500
"""Rows named by one statement: fewer than any engine's limit of parameters."""


def lock_places(connection: Connection, instance_row_ids: Sequence[int], also: Iterable[Any] = ()) -> None:
    """Let nobody else change what is above these instances before this transaction ends.

    ``also`` are other places to lock with them: rows with the row ids of patient, study and series.
    """
    patients, studies, series_row_ids = set[int](), set[int](), set[int]()
    for row_ids in chunks(instance_row_ids):
        for place in chain(connection.execute(_PLACES_OF_INSTANCES, {"row_ids": row_ids}), also):
            patients.add(place.patient_row_id)
            studies.add(place.study_row_id)
            series_row_ids.add(place.series_row_id)
    patients |= _received_patients(connection, studies)
    for row_ids in chunks(sorted(patients)):
        corrected.lock_patients(connection, row_ids)
    shown = {row.patient_row_id for row_ids in chunks(sorted(studies)) for row in _lock(connection, row_ids)}
    if not shown | _received_patients(connection, studies) <= patients:  # moved to another patient since we looked
        raise LostRace
    for row_ids in chunks(sorted(series_row_ids)):
        connection.execute(_LOCK_SERIES, {"row_ids": row_ids}).all()


def remove_instances(connection: Connection, row_ids: Sequence[int], at: datetime) -> None:
    """Unpublish at most ``CHUNK`` instances, and what is left without any above them."""
    lock_places(connection, row_ids)
    parameters = {"row_ids": list(row_ids)}
    counts = Counter(connection.execute(_SERIES_OF_INSTANCES, parameters).scalars())
    connection.execute(_DELETE_HEADERS, parameters)
    connection.execute(_DELETE_INSTANCES, parameters)
    for series_row_id, count in sorted(counts.items()):
        count_out(connection, series_row_id, count, at)


def count_out(connection: Connection, series_row_id: int, count: int, at: datetime) -> None:
    """Let a series know that ``count`` instances have left it."""
    connection.execute(_COUNT_OUT, {"row_id": series_row_id, "count": count, "at": at})
    uids = connection.execute(_SOP_CLASSES_OF, {"row_id": series_row_id}).scalars()
    connection.execute(_SET_SOP_CLASSES, {"row_id": series_row_id, "sop_class_uids": " ".join(sorted(uids))})
    prune(connection, series_row_id)


def prune(connection: Connection, series_row_id: int) -> None:
    """Remove a series without instances, then its study and patient if that leaves nothing below them."""
    place = connection.execute(_PLACE_OF, {"row_id": series_row_id}).one()
    if place.instance_count > 0:
        return
    connection.execute(_PRUNE_REQUESTS, {"row_id": series_row_id})
    connection.execute(_PRUNE_SERIES, {"row_id": series_row_id})
    _lock(connection, [place.study_row_id])  # whoever removes its other series waits, and then sees this one gone
    if connection.execute(_SERIES_OF, {"row_id": place.study_row_id}).first() is None:
        delete_names(connection, place.study_row_id)
        touched = corrected.forget_study(connection, place.study_row_id)
        connection.execute(_PRUNE_STUDY, {"row_id": place.study_row_id})
        for patient_row_id in sorted({*touched, place.patient_row_id}):
            corrected.refresh_patient(connection, patient_row_id)


def _lock(connection: Connection, study_row_ids: Sequence[int]) -> Sequence[Any]:
    return connection.execute(_LOCK_STUDIES, {"row_ids": study_row_ids}).all()


def _received_patients(connection: Connection, study_row_ids: Iterable[int]) -> set[int]:
    """Return the patients that corrected studies were received for: without the study they may go, too."""
    found = chunks(sorted(study_row_ids))
    return {row_id for ids in found for row_id in connection.execute(_RECEIVED_PATIENTS, {"row_ids": ids}).scalars()}


def chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield values in their order, as many at once as one statement names."""
    return (values[start : start + CHUNK] for start in range(0, len(values), CHUNK))


_ROW_ID: BindParameter[int] = bindparam("row_id")
_ROW_IDS: BindParameter[Sequence[int]] = bindparam("row_ids", expanding=True)

_PLACES_OF_INSTANCES = (
    select(study.c.patient_row_id, series.c.study_row_id, instance.c.series_row_id)
    .join_from(instance, series, instance.c.series_row_id == series.c.id)
    .join(study, series.c.study_row_id == study.c.id)
    .where(instance.c.id.in_(_ROW_IDS))
    .distinct()
)
_RECEIVED_PATIENTS = (
    select(corrected_study.c.received_patient_row_id).where(corrected_study.c.study_row_id.in_(_ROW_IDS)).distinct()
)
_LOCK_STUDIES = select(study.c.patient_row_id).where(study.c.id.in_(_ROW_IDS)).order_by(study.c.id).with_for_update()
_LOCK_SERIES = select(series.c.id).where(series.c.id.in_(_ROW_IDS)).order_by(series.c.id).with_for_update()

_COUNT_OUT = (
    update(series)
    .where(series.c.id == _ROW_ID)
    .values(
        instance_count=series.c.instance_count - bindparam("count"),
        revision=series.c.revision + 1,
        updated_at=bindparam("at"),
    )
)
_SET_SOP_CLASSES = update(series).where(series.c.id == _ROW_ID).values(sop_class_uids=bindparam("sop_class_uids"))
_SOP_CLASSES_OF = select(instance.c.sop_class_uid).where(instance.c.series_row_id == _ROW_ID).distinct()
_PLACE_OF = (
    select(series.c.instance_count, series.c.study_row_id, study.c.patient_row_id)
    .join_from(series, study, series.c.study_row_id == study.c.id)
    .where(series.c.id == _ROW_ID)
)
_SERIES_OF_INSTANCES = select(instance.c.series_row_id).where(instance.c.id.in_(_ROW_IDS))
_DELETE_HEADERS = delete(instance_header).where(instance_header.c.instance_row_id.in_(_ROW_IDS))
_DELETE_INSTANCES = delete(instance).where(instance.c.id.in_(_ROW_IDS))
_SERIES_OF = select(series.c.id).where(series.c.study_row_id == _ROW_ID).limit(1)
_PRUNE_REQUESTS = delete(request_attribute).where(request_attribute.c.series_row_id == _ROW_ID)
_PRUNE_SERIES = delete(series).where(series.c.id == _ROW_ID)
_PRUNE_STUDY = delete(study).where(study.c.id == _ROW_ID)
