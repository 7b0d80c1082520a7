"""Scheduled and performed steps as rows. What the columns hold narrows a query; the use case decides what matches."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Row,
    Text,
    and_,
    bindparam,
    delete,
    false,
    or_,
    select,
    tuple_,
    update,
)

from pacs.database.tables import study
from pacs.database.work_tables import performed_step, scheduled_step
from pacs.index.inserting import insert_once
from pacs.index.metadata import dump_text
from pacs.model import Attributes
from pacs.normal import MAX_TEXT_LENGTH, clean, normal_date, normal_time
from pacs.tags import text_of, values_of

_LAST_CHARACTER = "\U0010ffff"

Position = tuple[str, str, int]
"""Start date, start time and id of a step: where a page ended."""

_EXACT = ("accession_number", "patient_id", "requested_procedure_id", "scheduled_procedure_step_id")


@dataclass(frozen=True, slots=True)
class Narrowing:
    """Conditions that columns can answer. An empty one holds of every row; dates are inclusive, YYYYMMDD."""

    states: tuple[str, ...] = ()
    first_date: str = ""
    last_date: str = ""
    modalities: tuple[str, ...] = ()
    station_ae_title: str = ""
    study_instance_uids: tuple[str, ...] = ()
    accession_number: str = ""
    patient_id: str = ""
    requested_procedure_id: str = ""
    scheduled_procedure_step_id: str = ""


@dataclass(frozen=True, slots=True)
class Reference:
    """What a performed step says of a scheduled one; empty where it says nothing."""

    scheduled_procedure_step_id: str
    study_instance_uid: str
    requested_procedure_id: str
    accession_number: str
    patient_id: str


def key_text(text: str) -> str:
    """Return text as the key columns hold it: no control characters, no half of a surrogate pair, cut."""
    return clean(text).strip(" ")[:MAX_TEXT_LENGTH]


def step_row(attributes: Attributes) -> dict[str, Any]:
    """Return the columns of an entry with one Scheduled Procedure Step item, but for state and source."""
    item = values_of(attributes, "ScheduledProcedureStepSequence")[0]
    titles = [key_text(str(value)) for value in values_of(item, "ScheduledStationAETitle")]
    return {
        "requested_procedure_id": key_text(text_of(attributes, "RequestedProcedureID")),
        "scheduled_procedure_step_id": key_text(text_of(item, "ScheduledProcedureStepID")),
        "study_instance_uid": key_text(text_of(attributes, "StudyInstanceUID")),
        "accession_number": key_text(text_of(attributes, "AccessionNumber")),
        "patient_id": key_text(text_of(attributes, "PatientID")),
        "modality": key_text(text_of(item, "Modality")).upper(),
        "station_ae_titles": "\\" + "".join(f"{title}\\" for title in titles),
        "start_date": normal_date(text_of(item, "ScheduledProcedureStepStartDate")) or "",
        "start_time": normal_time(text_of(item, "ScheduledProcedureStepStartTime")) or "",
        "attributes": dump_text(attributes),
    }


def read_page(
    connection: Connection, partition_id: int, narrowing: Narrowing, after: Position | None, limit: int
) -> Sequence[Row[Any]]:
    """Return rows after a position, by start date, time and id."""
    column = scheduled_step.c
    order = (column.start_date, column.start_time, column.id)
    statement = select(scheduled_step).where(column.partition_id == partition_id, *_tests(narrowing))
    if after is not None:
        date, time, row_id = after
        position = bindparam(None, date, Text), bindparam(None, time, Text), bindparam(None, row_id, BigInteger)
        statement = statement.where(tuple_(*order) > tuple_(*position))
    return connection.execute(statement.order_by(*order).limit(limit)).all()


def find_step(connection: Connection, partition_id: int, step_id: int) -> Row[Any] | None:
    """Return the row of a step, or None."""
    return connection.execute(_BY_ID, {"partition_id": partition_id, "step_id": step_id}).first()


def insert_step(connection: Connection, partition_id: int, row: dict[str, Any]) -> int | None:
    """Insert a step and return its id, or None if one with its identifiers is there already."""
    return insert_once(connection, scheduled_step, {"partition_id": partition_id, **row})


def has_other_step(connection: Connection, partition_id: int, step_id: int, row: dict[str, Any]) -> bool:
    """Return whether another step has the identifiers of ``row``."""
    column = scheduled_step.c
    statement = select(column.id).where(
        column.partition_id == partition_id,
        column.requested_procedure_id == row["requested_procedure_id"],
        column.scheduled_procedure_step_id == row["scheduled_procedure_step_id"],
        column.study_instance_uid == row["study_instance_uid"],
        column.id != step_id,
    )
    return connection.execute(statement).first() is not None


def update_step(connection: Connection, partition_id: int, step_id: int, row: dict[str, Any]) -> bool:
    """Change columns of a step; return False if there is none."""
    column = scheduled_step.c
    statement = update(scheduled_step).where(column.partition_id == partition_id, column.id == step_id).values(**row)
    return connection.execute(statement).rowcount == 1


def delete_steps(connection: Connection, partition_id: int, step_ids: Iterable[int]) -> int:
    """Delete steps and return how many there were."""
    column = scheduled_step.c
    statement = delete(scheduled_step).where(column.partition_id == partition_id, column.id.in_(list(step_ids)))
    return connection.execute(statement).rowcount


def read_sources(connection: Connection, partition_id: int, prefix: str = "") -> Sequence[Row[Any]]:
    """Return every step that came from a file whose source begins with ``prefix``."""
    column = scheduled_step.c
    statement = select(scheduled_step).where(
        column.partition_id == partition_id, column.source > prefix, column.source < prefix + _LAST_CHARACTER
    )
    return connection.execute(statement.order_by(column.id)).all()


def find_referenced(connection: Connection, partition_id: int, references: Iterable[Reference]) -> list[Row[Any]]:
    """Return the steps that a performed step is of, each once, by id.

    The Scheduled Procedure Step ID alone says little: many systems number the steps of every order from 1. So the study
    has to be the same too, or else what it says of procedure, accession number and patient.
    """
    found: dict[int, Row[Any]] = {}
    for one in references:
        if one.scheduled_procedure_step_id:
            statement = select(scheduled_step).where(
                scheduled_step.c.partition_id == partition_id, _test_reference(one)
            )
            found |= {row.id: row for row in connection.execute(statement)}
    return [found[row_id] for row_id in sorted(found)]


def find_studies(connection: Connection, partition_id: int, attributes: Attributes) -> list[str]:
    """Return the UIDs of the stored studies of an entry: its own, and those of its accession number and patient."""
    row = step_row(attributes)
    by_uid = study.c.study_instance_uid == row["study_instance_uid"]
    by_accession: ColumnElement[bool] = false()
    if row["accession_number"]:
        same_patient = study.c.patient_id == row["patient_id"]
        by_accession = and_(study.c.accession_number == row["accession_number"], same_patient)
    statement = select(study.c.study_instance_uid).where(
        study.c.partition_id == partition_id, or_(by_uid, by_accession)
    )
    return list(connection.execute(statement.order_by(study.c.id).limit(_MAX_STUDIES)).scalars())


def insert_performed(connection: Connection, partition_id: int, row: dict[str, Any]) -> int | None:
    """Insert a performed step and return its id, or None if its SOP Instance UID is taken."""
    return insert_once(connection, performed_step, {"partition_id": partition_id, **row})


def find_performed(
    connection: Connection, partition_id: int, sop_instance_uid: str, *, is_locked: bool = False
) -> Row[Any] | None:
    """Return the row of a performed step, or None; ``is_locked`` keeps other transactions from changing it."""
    column = performed_step.c
    statement = select(performed_step).where(
        column.partition_id == partition_id, column.sop_instance_uid == sop_instance_uid
    )
    return connection.execute(statement.with_for_update() if is_locked else statement).first()


def update_performed(connection: Connection, row_id: int, state: str, attributes: Attributes, at: datetime) -> None:
    """Replace state and attributes of a performed step."""
    statement = update(performed_step).where(performed_step.c.id == row_id)
    connection.execute(statement.values(state=state, attributes=dump_text(attributes), updated_at=at))


def load_attributes(row: Row[Any]) -> Attributes:
    """Return the attributes of a row of either table."""
    attributes: Attributes = orjson.loads(row.attributes)
    return attributes


def _tests(narrowing: Narrowing) -> list[ColumnElement[bool]]:
    column = scheduled_step.c
    tests: list[ColumnElement[bool]] = []
    if narrowing.states:
        tests.append(column.state.in_(narrowing.states))
    if narrowing.first_date:
        tests.append(column.start_date >= narrowing.first_date)
    if narrowing.last_date:
        tests.append(column.start_date <= narrowing.last_date)
    if narrowing.modalities:
        tests.append(column.modality.in_(narrowing.modalities))
    if narrowing.station_ae_title:
        tests.append(column.station_ae_titles.contains(f"\\{narrowing.station_ae_title}\\", autoescape=True))
    if narrowing.study_instance_uids:
        tests.append(column.study_instance_uid.in_(narrowing.study_instance_uids))
    return tests + [column[name] == getattr(narrowing, name) for name in _EXACT if getattr(narrowing, name)]


def _test_reference(one: Reference) -> ColumnElement[bool]:
    column = scheduled_step.c
    ways: list[ColumnElement[bool]] = []
    if one.study_instance_uid:
        ways.append(column.study_instance_uid == one.study_instance_uid)
    same = [column.accession_number == one.accession_number] if one.accession_number else []
    same += [column.patient_id == one.patient_id] if one.patient_id else []
    if one.requested_procedure_id and same:
        ways.append(and_(column.requested_procedure_id == one.requested_procedure_id, *same))
    elif one.accession_number:
        ways.append(and_(*same))
    return and_(column.scheduled_procedure_step_id == one.scheduled_procedure_step_id, or_(false(), *ways))


_MAX_STUDIES = 100
_BY_ID = select(scheduled_step).where(
    scheduled_step.c.partition_id == bindparam("partition_id"), scheduled_step.c.id == bindparam("step_id")
)
