"""Publishing an instance: the four levels written inside the caller's transaction, without a race.

The order is patient, study, series, instance, always: whoever waits for a row waits for somebody further ahead, so
that parallel stores of one new study queue and never deadlock. The first instance of a study or series says what its
attributes are; later ones fill in what is missing and never overwrite.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import BindParameter, Connection, and_, bindparam, exists, insert, literal_column, select, update

from pacs.database.base import LostRace
from pacs.database.prepared import Prepared
from pacs.database.tables import instance, instance_header, patient, request_attribute, series, study
from pacs.database.work_tables import withheld_instance
from pacs.index import corrected
from pacs.index.conflicts import ConflictKind, flag, flag_other_name
from pacs.index.corrections import next_active
from pacs.index.inserting import insert_missing, insert_once
from pacs.index.naming import insert_names
from pacs.index.removing import count_out, lock_places, prune
from pacs.index.rows import (
    PATIENT_TAGS,
    PreparedInstance,
    patient_values,
    request_rows,
    series_values,
    study_values,
    with_values,
)
from pacs.model import Attributes, Location


@dataclass(frozen=True, slots=True)
class Existing:
    """What the index has under a SOP Instance UID; ``dataset_digest`` is SHA-256 in hex."""

    row_id: int
    series_row_id: int
    study_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    dataset_digest: str
    location: Location
    stored_at: datetime


def find_existing(connection: Connection, partition_id: int, sop_instance_uid: str) -> Existing | None:
    """Return what is stored under a SOP Instance UID, in whatever study and series, or None."""
    parameters = {"partition_id": partition_id, "sop_instance_uid": sop_instance_uid}
    row = _FIND_INSTANCE.first(connection, parameters)
    if row is None:
        return None
    return Existing(
        row_id=row.id,
        series_row_id=row.series_row_id,
        study_instance_uid=row.study_instance_uid,
        series_instance_uid=row.series_instance_uid,
        sop_class_uid=row.sop_class_uid,
        transfer_syntax_uid=row.transfer_syntax_uid,
        dataset_digest=row.dataset_digest.hex(),
        location=Location(row.blob_key, row.blob_offset, row.blob_length),
        stored_at=row.stored_at,
    )


@dataclass(frozen=True, slots=True)
class Standing:
    """What the index holds about an instance before it is published.

    ``is_taken``: an instance of its SOP Instance UID shows; ``is_withheld``: one is hidden, or was rejected before it
    came. ``place`` is the row of its series with study and patient, None if there is no such series.
    """

    is_taken: bool
    is_withheld: bool
    place: Any


def find_standing(connection: Connection, new: PreparedInstance) -> Standing:
    """Return what the index holds about an instance, by one statement."""
    row = _FIND_PLACE.first(connection, {"sop_instance_uid": new.sop_instance_uid, **_place_key(new)})
    return Standing(row.is_taken, row.is_withheld, None if row.series_row_id is None else row)


def insert_instance(connection: Connection, new: PreparedInstance, standing: Standing | None = None) -> int | None:
    """Publish an instance and return its row id; None, and nothing is changed, if its SOP Instance UID is taken.

    ``standing`` is what the caller has found in this transaction, so that it is not asked again.
    """
    standing = standing or find_standing(connection, new)
    if standing.is_taken:
        return None
    series_row_id = _place(connection, new, standing.place)
    row_id = insert_once(connection, instance, new.instance | {"series_row_id": series_row_id})
    if row_id is None:  # another transaction was faster, between the question and here
        _COUNT.run(connection, {"row_id": series_row_id, "step": -1, "at": new.stored_at})
        prune(connection, series_row_id)
        return None
    _INSERT_HEADER.run(connection, new.header | {"instance_row_id": row_id})
    return row_id


def replace_instance(connection: Connection, existing: Existing, new: PreparedInstance) -> int:
    """Let ``new`` answer under its SOP Instance UID from now on, and return the row id, which stays the same.

    The bytes that answered before are not lost, but only a conflict that the caller records still names them.
    """
    # Both series at once and in order: who moves an instance the other way would else wait for us, and we for them.
    target = find_standing(connection, new).place
    lock_places(connection, [existing.row_id], also=[target] if target is not None else [])
    series_row_id = _place(connection, new, find_standing(connection, new).place)
    old_series_row_id = _found(connection.execute(_LOCK_INSTANCE, {"row_id": existing.row_id}).scalar())
    placed = new.instance | {"series_row_id": series_row_id, "row_id": existing.row_id}
    connection.execute(_UPDATE_INSTANCE, placed)
    connection.execute(_UPDATE_HEADER, new.header | {"row_id": existing.row_id})
    count_out(connection, old_series_row_id, 1, new.stored_at)
    return existing.row_id


def _place(connection: Connection, new: PreparedInstance, placed: Any) -> int:
    """Return the row id of the instance's series with this instance counted in; make what is missing above it."""
    if placed is None:
        _create_place(connection, new)
        placed = find_standing(connection, new).place
    if placed is None:
        raise LostRace
    _complete(connection, placed, new)
    _COUNT.run(connection, {"row_id": placed.series_row_id, "step": 1, "at": new.stored_at})
    return int(placed.series_row_id)


def _place_key(new: PreparedInstance) -> dict[str, Any]:
    return {
        "partition_id": new.partition_id,
        "study_instance_uid": new.study_instance_uid,
        "series_instance_uid": new.series_instance_uid,
    }


def _create_place(connection: Connection, new: PreparedInstance) -> None:
    """Insert patient, study and series as far as they are missing; what another transaction inserts first is used."""
    key = {"partition_id": new.partition_id, "study_instance_uid": new.study_instance_uid}
    study_row_id = connection.execute(_FIND_STUDY, key).scalar()
    if study_row_id is None:
        patient_row_id, is_touched = _create_patient(connection, new)
        if is_touched or next_active(connection, new.partition_id, (new.identity, new.study_instance_uid)) is not None:
            study_row_id = corrected.create_study(connection, new, patient_row_id)
        else:
            study_row_id = _create_study(connection, new, patient_row_id)
        if study_row_id is None:  # somebody else made the study, perhaps for another patient: ours may be left over
            study_row_id = _found(connection.execute(_FIND_STUDY, key).scalar())
            corrected.refresh_patient(connection, patient_row_id)
    series_row_id = insert_once(
        connection,
        series,
        new.series
        | {
            "partition_id": new.partition_id,
            "study_row_id": study_row_id,
            "series_instance_uid": new.series_instance_uid,
            "instance_count": 0,
            "sop_class_uids": new.sop_class_uid,
            "created_at": new.stored_at,
            "updated_at": new.stored_at,
        },
    )
    if series_row_id is not None:
        _insert_requests(connection, series_row_id, new.series_attributes)


def _create_patient(connection: Connection, new: PreparedInstance) -> tuple[int, bool]:
    """Return the patient's row id and whether corrections touch it; none can begin to before this transaction ends."""
    key = {"partition_id": new.partition_id, "identity": new.identity}
    row_id = insert_once(connection, patient, new.patient | key | {"created_at": new.stored_at})
    if row_id is not None:
        return row_id, False
    found = connection.execute(_FIND_PATIENT, key).first()
    if found is None:
        raise LostRace
    if found.overlay:
        corrected.lock_patients(connection, [found.id])
    elif connection.execute(_KEEP_PATIENT, {"row_id": found.id}).scalar() != "":  # just removed, or just corrected
        raise LostRace
    return found.id, bool(found.overlay)


def _create_study(connection: Connection, new: PreparedInstance, patient_row_id: int) -> int | None:
    key = {"partition_id": new.partition_id, "study_instance_uid": new.study_instance_uid}
    above = {"patient_row_id": patient_row_id, "created_at": new.stored_at, "updated_at": new.stored_at}
    row_id = insert_once(connection, study, new.study | key | above)
    if row_id is not None:
        insert_names(connection, row_id, new.study_attributes)
    return row_id


def _found(row_id: int | None) -> int:
    """Return the id of a row that was there a moment ago."""
    if row_id is None:
        raise LostRace
    return row_id


def _complete(connection: Connection, placed: Any, new: PreparedInstance) -> None:
    """Flag what contradicts the patient or study, and fill in what they or the series were missing until now."""
    if placed.study_overlay or placed.patient_overlay:
        belongs, of_patient = corrected.complete_study(connection, placed, new)
        if not belongs:
            flag(connection, new, ConflictKind.STUDY_PATIENT, (new.study_instance_uid, new.identity))
        else:
            flag_other_name(connection, new, orjson.loads(placed.patient_attributes), of_patient)
    else:
        _complete_as_received(connection, placed, new)
    if placed.series_attributes != new.series["attributes"] and not (
        new.series_attributes.keys() <= orjson.loads(placed.series_attributes).keys()
    ):
        _complete_series(connection, placed.series_row_id, new)
    if new.sop_class_uid not in placed.sop_class_uids.split():
        uids = connection.execute(_LOCK_SERIES, {"row_id": placed.series_row_id}).one().sop_class_uids.split()
        merged = " ".join(sorted({*uids, new.sop_class_uid}))
        connection.execute(_SET_SOP_CLASSES, {"row_id": placed.series_row_id, "sop_class_uids": merged})


def _complete_as_received(connection: Connection, placed: Any, new: PreparedInstance) -> None:
    """Complete a study and a patient that no correction touches."""
    of_study = new.study_attributes
    if placed.identity != new.identity:
        flag(connection, new, ConflictKind.STUDY_PATIENT, (new.study_instance_uid, new.identity))
        of_study = {tag: value for tag, value in of_study.items() if tag not in PATIENT_TAGS}
    elif placed.patient_attributes != new.patient["attributes"]:
        attributes = orjson.loads(placed.patient_attributes)
        flag_other_name(connection, new, attributes, new.patient_attributes)
        if not new.patient_attributes.keys() <= attributes.keys():
            _complete_patient(connection, placed.patient_row_id, new)
    if placed.study_attributes != new.study["attributes"] and not (
        of_study.keys() <= orjson.loads(placed.study_attributes).keys()
    ):
        _complete_study(connection, placed.study_row_id, of_study, new)


def _complete_patient(connection: Connection, row_id: int, new: PreparedInstance) -> None:
    locked = connection.execute(_LOCK_PATIENT, {"row_id": row_id}).one()
    if locked.overlay:  # corrected since we looked
        raise LostRace
    merged = with_values(new.patient_attributes | orjson.loads(locked.attributes))
    values = patient_values(merged, locked.issuer_of_patient_id)
    connection.execute(_UPDATE_PATIENT, values | {"row_id": row_id})


def _complete_study(connection: Connection, row_id: int, attributes: Attributes, new: PreparedInstance) -> None:
    locked = connection.execute(_LOCK_STUDY, {"row_id": row_id}).one()
    if locked.overlay:
        raise LostRace
    merged = with_values(attributes | orjson.loads(locked.attributes))
    values = study_values(merged, locked.issuer_of_patient_id or "")
    connection.execute(_UPDATE_STUDY, values | {"row_id": row_id, "updated_at": new.stored_at})
    insert_names(connection, row_id, merged)


def _complete_series(connection: Connection, row_id: int, new: PreparedInstance) -> None:
    locked = connection.execute(_LOCK_SERIES, {"row_id": row_id}).one()
    known = orjson.loads(locked.attributes)
    added = {tag: value for tag, value in new.series_attributes.items() if tag not in known}
    values = series_values(with_values(known | added))
    connection.execute(_UPDATE_SERIES, values | {"row_id": row_id, "updated_at": new.stored_at})
    _insert_requests(connection, row_id, added)


def _insert_requests(connection: Connection, series_row_id: int, attributes: Attributes) -> None:
    rows = [row | {"series_row_id": series_row_id} for row in request_rows(attributes)]
    insert_missing(connection, request_attribute, rows)


_ROW_ID: BindParameter[int] = bindparam("row_id")

_FIND_INSTANCE = Prepared(
    select(
        instance.c.id,
        instance.c.series_row_id,
        study.c.study_instance_uid,
        series.c.series_instance_uid,
        instance.c.sop_class_uid,
        instance.c.transfer_syntax_uid,
        instance.c.dataset_digest,
        instance.c.blob_key,
        instance.c.blob_offset,
        instance.c.blob_length,
        instance.c.stored_at,
    )
    .join_from(instance, series, instance.c.series_row_id == series.c.id)
    .join(study, series.c.study_row_id == study.c.id)
    .where(
        instance.c.partition_id == bindparam("partition_id"),
        instance.c.sop_instance_uid == bindparam("sop_instance_uid"),
    )
)
# One row always: whatever is not there is NULL. Each table is looked up by its key, the study first.
_ONE_ROW = select(literal_column("1")).subquery("one_row")
_FIND_PLACE = Prepared(
    select(
        exists()
        .where(
            instance.c.partition_id == bindparam("partition_id"),
            instance.c.sop_instance_uid == bindparam("sop_instance_uid"),
        )
        .label("is_taken"),
        exists()
        .where(
            withheld_instance.c.partition_id == bindparam("partition_id"),
            withheld_instance.c.sop_instance_uid == bindparam("sop_instance_uid"),
        )
        .label("is_withheld"),
        patient.c.id.label("patient_row_id"),
        patient.c.identity,
        patient.c.attributes.label("patient_attributes"),
        patient.c.overlay.label("patient_overlay"),
        study.c.id.label("study_row_id"),
        study.c.attributes.label("study_attributes"),
        study.c.overlay.label("study_overlay"),
        series.c.id.label("series_row_id"),
        series.c.attributes.label("series_attributes"),
        series.c.sop_class_uids,
    )
    .select_from(_ONE_ROW)
    .outerjoin(
        study,
        and_(
            study.c.partition_id == bindparam("partition_id"),
            study.c.study_instance_uid == bindparam("study_instance_uid"),
        ),
    )
    .outerjoin(patient, patient.c.id == study.c.patient_row_id)
    .outerjoin(
        series,
        and_(
            series.c.study_row_id == study.c.id,
            series.c.partition_id == bindparam("partition_id"),
            series.c.series_instance_uid == bindparam("series_instance_uid"),
        ),
    )
)
_FIND_STUDY = select(study.c.id).where(
    study.c.partition_id == bindparam("partition_id"),
    study.c.study_instance_uid == bindparam("study_instance_uid"),
)
_FIND_PATIENT = select(patient.c.id, patient.c.overlay).where(
    patient.c.partition_id == bindparam("partition_id"), patient.c.identity == bindparam("identity")
)
_KEEP_PATIENT = select(patient.c.overlay).where(patient.c.id == _ROW_ID).with_for_update(read=True, key_share=True)

_LOCK_PATIENT = (
    select(patient.c.attributes, patient.c.issuer_of_patient_id, patient.c.overlay)
    .where(patient.c.id == _ROW_ID)
    .with_for_update()
)
_LOCK_STUDY = (
    select(study.c.attributes, study.c.issuer_of_patient_id, study.c.overlay)
    .where(study.c.id == _ROW_ID)
    .with_for_update()
)
_LOCK_SERIES = select(series.c.attributes, series.c.sop_class_uids).where(series.c.id == _ROW_ID).with_for_update()
_LOCK_INSTANCE = select(instance.c.series_row_id).where(instance.c.id == _ROW_ID).with_for_update()

_COUNT = Prepared(
    update(series)
    .where(series.c.id == _ROW_ID)
    .values(
        instance_count=series.c.instance_count + bindparam("step"),
        revision=series.c.revision + 1,
        updated_at=bindparam("at"),
    )
)
_INSERT_HEADER = Prepared(insert(instance_header).inline())
_UPDATE_PATIENT = update(patient).where(patient.c.id == _ROW_ID)
_UPDATE_STUDY = update(study).where(study.c.id == _ROW_ID)
_UPDATE_SERIES = update(series).where(series.c.id == _ROW_ID)
_UPDATE_INSTANCE = update(instance).where(instance.c.id == _ROW_ID)
_UPDATE_HEADER = update(instance_header).where(instance_header.c.instance_row_id == _ROW_ID)
_SET_SOP_CLASSES = update(series).where(series.c.id == _ROW_ID).values(sop_class_uids=bindparam("sop_class_uids"))
