"""Corrected rows: what was received with every correction that holds for it, applied again in their order.

What a study shows is a function of what was received and of the corrections that are not undone: replaying them is the
only way to make its row, so that undoing an earlier one under a later one comes out right. A patient that corrections
touch shows what its studies show; what was received under its identity is kept for the day they are undone.
Rows are locked in the order patient, study.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import orjson
from sqlalchemy import BindParameter, Connection, Row, Select, bindparam, delete, exists, insert, or_, select, update

from pacs.database.base import LostRace
from pacs.database.tables import patient, study
from pacs.database.work_tables import corrected_study, correction
from pacs.index import series_metadata
from pacs.index.corrections import next_active
from pacs.index.inserting import insert_once
from pacs.index.metadata import dump_text
from pacs.index.naming import delete_names, insert_names
from pacs.index.rows import (
    PATIENT_TAGS,
    PreparedInstance,
    identity_of,
    lay,
    patient_values,
    study_values,
    with_values,
)
from pacs.model import Attributes
from pacs.overlay import Step, StudyOverlay
from pacs.tags import tag_of, text_of

_ISSUER = tag_of("IssuerOfPatientID")


@dataclass(frozen=True, slots=True)
class Study:
    """What a study says of itself and its patient: its row's attributes, and whose it is by them."""

    study_instance_uid: str
    attributes: Attributes
    identity: str
    issuer: str

    def corrected(self, changes: Attributes) -> Self:
        """Return the study with these changes."""
        attributes = with_values(self.attributes | changes)
        issuer = text_of(attributes, "IssuerOfPatientID") if _ISSUER in changes else self.issuer
        identity = identity_of(issuer, text_of(attributes, "PatientID"), self.study_instance_uid)
        return type(self)(self.study_instance_uid, attributes, identity, issuer)

    def dump(self) -> dict[str, Any]:
        """Return what ``load`` reads."""
        return {"attributes": self.attributes, "identity": self.identity, "issuer": self.issuer}

    @classmethod
    def load(cls, study_instance_uid: str, content: dict[str, Any]) -> Self:
        """Return what ``dump`` made of the study of this UID."""
        return cls(study_instance_uid, content["attributes"], content["identity"], content["issuer"])


@dataclass(frozen=True, slots=True)
class KnownPatient:
    """A patient's row; ``attributes`` are what it shows."""

    row_id: int
    identity: str
    patient_id: str
    issuer_of_patient_id: str
    attributes: Attributes
    merged_into_row_id: int | None
    has_studies: bool


@dataclass(frozen=True, slots=True)
class KnownStudy:
    """A study's row, and its patient's."""

    row_id: int
    patient_row_id: int


def find_known_patients(
    connection: Connection, partition_id: int, identities: Iterable[str]
) -> dict[str, KnownPatient]:
    """Return those of these patients that there are, by identity; none gets another study before the caller is done."""
    found = {identity: find_patient(connection, partition_id, identity) for identity in identities}
    lock_patients(connection, [row_id for row_id in found.values() if row_id is not None])
    known = {}
    for row_id in found.values():
        row = connection.execute(_PATIENT, {"row_id": row_id}).first()
        if row is not None:
            known[row.identity] = KnownPatient(
                row_id=row.id,
                identity=row.identity,
                patient_id=row.patient_id,
                issuer_of_patient_id=row.issuer_of_patient_id,
                attributes=orjson.loads(row.attributes),
                merged_into_row_id=row.merged_into_row_id,
                has_studies=bool(connection.execute(_HAS_STUDIES, {"row_id": row.id}).scalar()),
            )
    return known


def find_known_study(connection: Connection, partition_id: int, study_instance_uid: str) -> KnownStudy | None:
    """Return the study of this UID."""
    parameters = {"partition_id": partition_id, "study_instance_uid": study_instance_uid}
    row = connection.execute(_FIND_STUDY, parameters).first()
    return None if row is None else KnownStudy(row.id, row.patient_row_id)


def find_studies(connection: Connection, patient_row_id: int) -> Sequence[int]:
    """Return the rows of a patient's studies."""
    return connection.execute(_STUDIES_OF, {"row_id": patient_row_id}).scalars().all()


def find_corrected(connection: Connection, correction_id: int) -> Sequence[int]:
    """Return the rows of the studies that a correction holds for."""
    return connection.execute(_CORRECTED_BY, {"row_id": correction_id}).scalars().all()


def has_merged_patient(connection: Connection, study_row_ids: Sequence[int]) -> bool:
    """Return whether one of these studies is of a patient who was merged into another."""
    return connection.execute(_IS_OF_MERGED, {"row_ids": list(study_row_ids)}).first() is not None


def set_merged_into(connection: Connection, row_id: int, survivor_row_id: int | None) -> int | None:
    """Say which patient another was merged into, None for none; return which it was until now."""
    before: int | None = connection.execute(_PATIENT, {"row_id": row_id}).one().merged_into_row_id
    connection.execute(_UPDATE_PATIENT, {"row_id": row_id, "merged_into_row_id": survivor_row_id})
    return before


def replay(connection: Connection, partition_id: int, received: Study) -> tuple[Study, tuple[Step, ...]]:
    """Return a study as every correction that holds for it leaves it, and their steps in order."""
    shown, last = received, 0
    steps: list[Step] = []
    while True:
        subjects = (shown.identity, shown.study_instance_uid)
        found = next_active(connection, partition_id, subjects, after=last)
        if found is None:
            return shown, tuple(steps)
        shown, last = shown.corrected(found.changes), found.id
        steps.append(found.step)


def rewrite_study(connection: Connection, partition_id: int, study_row_id: int) -> str:
    """Make a study's row, its names and its place anew from what was received, its patients too; return its UID."""
    row = _lock_with_patients(connection, study_row_id)
    received = _received_of(row)
    _write_study(connection, partition_id, row, received)
    return received.study_instance_uid


def create_study(connection: Connection, new: PreparedInstance, patient_row_id: int) -> int | None:
    """Insert the study of an instance that corrections wait for; None if somebody else inserts it at this moment.

    ``patient_row_id`` is the patient that was received.
    """
    received = Study(
        new.study_instance_uid, new.study_attributes, new.identity, new.study["issuer_of_patient_id"] or ""
    )
    times = {"created_at": new.stored_at, "updated_at": new.stored_at}
    key = {"partition_id": new.partition_id, "study_instance_uid": new.study_instance_uid}
    row_id = insert_once(connection, study, new.study | key | times | {"patient_row_id": patient_row_id})
    if row_id is not None:
        _fill_patient(connection, patient_row_id, new.patient_attributes)
        row = _lock_with_patients(connection, row_id)
        _write_study(connection, new.partition_id, row, received)
    return row_id


def complete_study(connection: Connection, placed: Any, new: PreparedInstance) -> tuple[bool, Attributes]:
    """Fill in what a study, or a patient that corrections touch, was missing as received; the steps hold for it too.

    Return whether the instance is of the patient that the study was received for or is shown for, and what it says of
    its patient with the study's corrections, to be compared with what the patient is known by.
    """
    row = _study(connection, _STUDY, placed.study_row_id)
    received = _received_of(row)
    steps = StudyOverlay.load(row.overlay).steps
    is_received_patient = new.identity == received.identity
    added = new.study_attributes
    if not is_received_patient:
        added = {tag: element for tag, element in added.items() if tag not in PATIENT_TAGS}
    if not added.keys() <= received.attributes.keys():
        if is_received_patient:
            _fill_patient(connection, _patient_of(connection, new.partition_id, new.identity), new.patient_attributes)
        row = _lock_with_patients(connection, placed.study_row_id)
        received = _received_of(row)
        filled = replace(received, attributes=with_values(added | received.attributes))
        _write_study(connection, new.partition_id, row, filled)
        connection.execute(_UPDATE_STUDY, {"row_id": row.id, "updated_at": new.stored_at})
    shown = lay(new.patient_attributes, steps) if is_received_patient else new.patient_attributes
    return is_received_patient or new.identity == placed.identity, shown


def find_patient(connection: Connection, partition_id: int, identity: str) -> int | None:
    """Return the row of a patient by identity."""
    return connection.execute(_FIND_PATIENT, {"partition_id": partition_id, "identity": identity}).scalar()


def lock_patients(connection: Connection, row_ids: Iterable[int]) -> None:
    """Let nobody else add to these patients before this transaction ends: locked in the order of their ids."""
    connection.execute(_LOCK_PATIENTS, {"row_ids": sorted(set(row_ids))}).all()


def forget_study(connection: Connection, study_row_id: int) -> list[int]:
    """Drop what is known of a study's corrections, before its row goes; return patients to be refreshed after it."""
    row_ids = connection.execute(_RECEIVED_PATIENTS, {"row_id": study_row_id}).scalars().all()
    connection.execute(_UNLINK, {"row_id": study_row_id})
    return list(row_ids)


def refresh_patient(connection: Connection, row_id: int) -> None:
    """Let a patient show what its studies show, or what was received if no correction touches it any more.

    One that has neither studies nor anything to remember is removed.
    """
    row = connection.execute(_PATIENT, {"row_id": row_id}).first()
    if row is None:
        return
    received = orjson.loads(row.overlay)["received"] if row.overlay else orjson.loads(row.attributes)
    is_touched = connection.execute(
        _IS_TOUCHED, {"row_id": row_id, "partition_id": row.partition_id, "subject": row.identity}
    ).scalar()
    has_studies = connection.execute(_HAS_STUDIES, {"row_id": row_id}).scalar()
    if not is_touched and not has_studies:
        connection.execute(_DELETE_PATIENT, {"row_id": row_id})
        return
    shown = received or {}
    if is_touched and has_studies:
        shown = _shown_by_studies(connection, row_id)
    values = patient_values(shown, row.issuer_of_patient_id) | {"patient_id": row.patient_id}
    overlay = dump_text({"received": received}) if is_touched else ""
    connection.execute(_UPDATE_PATIENT, values | {"row_id": row_id, "overlay": overlay})


def _write_study(connection: Connection, partition_id: int, row: Row[*tuple[Any, ...]], received: Study) -> None:
    """Write what corrections make of a locked study, and refresh the patients it concerns."""
    shown, steps = replay(connection, partition_id, received)
    received_row_id = _patient_of(connection, partition_id, received.identity)
    shown_row_id = find_patient(connection, partition_id, shown.identity)
    if shown_row_id is None:
        shown_row_id = _create_patient(connection, partition_id, row, shown)
    overlay = StudyOverlay(received.dump(), steps).dump() if steps else ""
    values = study_values(shown.attributes, shown.issuer) | {"overlay": overlay, "patient_row_id": shown_row_id}
    connection.execute(_UPDATE_STUDY, values | {"row_id": row.id})
    series_metadata.count_up_study(connection, row.id)
    delete_names(connection, row.id)
    insert_names(connection, row.id, shown.attributes)
    connection.execute(_UNLINK, {"row_id": row.id})
    if steps:
        link = {"study_row_id": row.id, "received_patient_row_id": received_row_id}
        connection.execute(_LINK, [link | {"correction_id": step.correction_id} for step in steps])
    for patient_row_id in sorted({row.patient_row_id, received_row_id, shown_row_id}):
        refresh_patient(connection, patient_row_id)


def _create_patient(connection: Connection, partition_id: int, row: Row[*tuple[Any, ...]], shown: Study) -> int:
    """Return a new patient, of whom nothing was ever received, or the one that somebody else makes at this moment."""
    of_patient = {tag: element for tag, element in shown.attributes.items() if tag in PATIENT_TAGS}
    values = patient_values(of_patient, shown.issuer) | {"overlay": dump_text({"received": None})}
    key = {"partition_id": partition_id, "identity": shown.identity, "created_at": row.created_at}
    row_id = insert_once(connection, patient, values | key)
    return _patient_of(connection, partition_id, shown.identity) if row_id is None else row_id


def _fill_patient(connection: Connection, row_id: int, attributes: Attributes) -> None:
    """Add to what was received under a patient's identity; the caller refreshes what it shows."""
    lock_patients(connection, [row_id])
    row = connection.execute(_PATIENT, {"row_id": row_id}).one()
    known = orjson.loads(row.overlay)["received"] if row.overlay else orjson.loads(row.attributes)
    received = dump_text({"received": with_values(attributes | (known or {}))})
    connection.execute(_UPDATE_PATIENT, {"row_id": row_id, "overlay": received})


def _shown_by_studies(connection: Connection, row_id: int) -> Attributes:
    """Return what the studies of a patient say of it; as at ingest, the first one says, later ones fill in."""
    shown: Attributes = {}
    for attributes in connection.execute(_ATTRIBUTES_OF_STUDIES, {"row_id": row_id}).scalars():
        shown = {tag: new for tag, new in orjson.loads(attributes).items() if tag in PATIENT_TAGS} | shown
    return dict(sorted(shown.items()))


def _patient_of(connection: Connection, partition_id: int, identity: str) -> int:
    row_id = find_patient(connection, partition_id, identity)
    if row_id is None:
        raise LostRace
    return row_id


def _lock_with_patients(connection: Connection, study_row_id: int) -> Row[*tuple[Any, ...]]:
    """Return a study's row, locked after its patient's."""
    patient_row_id = _study(connection, _STUDY, study_row_id).patient_row_id
    lock_patients(connection, [patient_row_id])
    row = _study(connection, _LOCK_STUDY, study_row_id)
    if row.patient_row_id != patient_row_id:
        raise LostRace
    return row


def _study(connection: Connection, statement: Select[*tuple[Any, ...]], row_id: int) -> Row[*tuple[Any, ...]]:
    row = connection.execute(statement, {"row_id": row_id}).first()
    if row is None:
        raise LostRace
    return row


def _received_of(row: Row[*tuple[Any, ...]]) -> Study:
    received = StudyOverlay.load(row.overlay).received
    if received is not None:
        return Study.load(row.study_instance_uid, received)
    return Study(row.study_instance_uid, orjson.loads(row.attributes), row.identity, row.issuer_of_patient_id or "")


_ROW_ID: BindParameter[int] = bindparam("row_id")
_ROW_IDS: BindParameter[list[int]] = bindparam("row_ids", expanding=True)

_STUDY = (
    select(
        study.c.id,
        study.c.study_instance_uid,
        study.c.patient_row_id,
        study.c.attributes,
        study.c.issuer_of_patient_id,
        study.c.overlay,
        study.c.created_at,
        patient.c.identity,
    )
    .join_from(study, patient, study.c.patient_row_id == patient.c.id)
    .where(study.c.id == _ROW_ID)
)
_LOCK_STUDY = _STUDY.with_for_update(of=study)
_UPDATE_STUDY = update(study).where(study.c.id == _ROW_ID)
_LINK = insert(corrected_study)
_UNLINK = delete(corrected_study).where(corrected_study.c.study_row_id == _ROW_ID)
_RECEIVED_PATIENTS = (
    select(corrected_study.c.received_patient_row_id).where(corrected_study.c.study_row_id == _ROW_ID).distinct()
)

_FIND_STUDY = select(study.c.id, study.c.patient_row_id).where(
    study.c.partition_id == bindparam("partition_id"),
    study.c.study_instance_uid == bindparam("study_instance_uid"),
)
_STUDIES_OF = select(study.c.id).where(study.c.patient_row_id == _ROW_ID).order_by(study.c.id)
_IS_OF_MERGED = (
    select(study.c.id)
    .join_from(study, patient, study.c.patient_row_id == patient.c.id)
    .where(study.c.id.in_(_ROW_IDS), patient.c.merged_into_row_id.is_not(None))
)
_CORRECTED_BY = (
    select(corrected_study.c.study_row_id)
    .where(corrected_study.c.correction_id == _ROW_ID)
    .order_by(corrected_study.c.study_row_id)
)

_FIND_PATIENT = select(patient.c.id).where(
    patient.c.partition_id == bindparam("partition_id"), patient.c.identity == bindparam("identity")
)
_LOCK_PATIENTS = select(patient.c.id).where(patient.c.id.in_(_ROW_IDS)).order_by(patient.c.id).with_for_update()
_PATIENT = select(patient).where(patient.c.id == _ROW_ID).with_for_update()
_UPDATE_PATIENT = update(patient).where(patient.c.id == _ROW_ID)
_DELETE_PATIENT = delete(patient).where(patient.c.id == _ROW_ID)
_ATTRIBUTES_OF_STUDIES = (  # a study that was withheld and restored has its old time, but a new number
    select(study.c.attributes).where(study.c.patient_row_id == _ROW_ID).order_by(study.c.created_at, study.c.id)
)
_HAS_STUDIES = select(exists().where(study.c.patient_row_id == _ROW_ID))

_MERGED = patient.alias()
_IS_TOUCHED = select(
    or_(
        exists().where(
            correction.c.partition_id == bindparam("partition_id"),
            correction.c.subject == bindparam("subject"),
            correction.c.undone_at.is_(None),
        ),
        exists().where(corrected_study.c.received_patient_row_id == _ROW_ID),
        exists().where(corrected_study.c.study_row_id == study.c.id, study.c.patient_row_id == _ROW_ID),
        exists().where(_MERGED.c.merged_into_row_id == _ROW_ID),
    )
)
