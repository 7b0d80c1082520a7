"""What lies in the partition of a release: counted, compared with what was made, taken out, and listed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, exists, func, select, update

from pacs.database.base import Database
from pacs.database.release_tables import research_release, research_release_object, research_release_report
from pacs.database.tables import change, instance, patient, series, study
from pacs.index import removing
from pacs.research.model import Counts, Release
from pacs.research.releases.rows import ObjectState
from storage.keys import key_digest

_PAGE = 500


@dataclass(frozen=True, slots=True)
class Line:
    """An object of a release as its manifest has it; digests are SHA-256 in hex."""

    patient_id: str
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    size_bytes: int
    sha256: str
    report_sha256: str


def count(connection: Connection, partition_id: int) -> Counts:
    """Return how many patients, studies, series and instances there are."""
    patients, studies = (
        connection.execute(select(func.count()).where(table.c.partition_id == partition_id)).scalar_one()
        for table in (patient, study)
    )
    of_series = select(func.count(), func.coalesce(func.sum(series.c.instance_count), 0)).join_from(
        study, series, series.c.study_row_id == study.c.id
    )
    in_series = connection.execute(of_series.where(study.c.partition_id == partition_id)).one()
    return Counts(patients, studies, int(in_series[0]), int(in_series[1]))


def remove_strays(connection: Connection, release: Release, at: datetime) -> int:
    """Take out some instances that were stored and never said to be made; return how many, 0 when none is left."""
    found = (
        connection.execute(_STRAYS, {"partition_id": release.partition_id, "release_id": release.id}).scalars().all()
    )
    if found:
        removing.remove_instances(connection, found, at)
    return len(found)


def has_gap(connection: Connection, release: Release) -> bool:
    """Return whether an object that is said to be made is not there."""
    parameters = {"partition_id": release.partition_id, "release_id": release.id}
    return connection.execute(_GAP, parameters).first() is not None


def has_any_study(connection: Connection, release: Release, study_instance_uids: Sequence[str]) -> bool:
    """Return whether the release holds something of these studies, by the UIDs that they have there."""
    return any(
        connection.execute(_STUDIES, {"partition_id": release.partition_id, "uids": uids}).first() is not None
        for uids in removing.chunks(study_instance_uids)
    )


def list_studies(connection: Connection, release: Release, patient_ids: Sequence[str]) -> list[str]:
    """Return the Study Instance UIDs of these patients, by what they are called there."""
    found: list[str] = []
    for names in removing.chunks(patient_ids):
        parameters = {"partition_id": release.partition_id, "patient_ids": names}
        found += connection.execute(_STUDIES_OF, parameters).scalars()
    return found


def remove_studies(connection: Connection, release: Release, study_instance_uids: Sequence[str], at: datetime) -> int:
    """Take some instances of these studies out, and say so of the candidates; return how many, 0 when none is left."""
    for uids in removing.chunks(study_instance_uids):
        found = connection.execute(_OF_STUDIES, {"partition_id": release.partition_id, "uids": uids}).all()
        if found:
            removing.remove_instances(connection, [row.id for row in found], at)
            columns = research_release_object.c
            made = [row.sop_instance_uid for row in found]
            of_release = update(research_release_object).where(
                columns.release_row_id == release.id, columns.sop_instance_uid.in_(made)
            )
            connection.execute(of_release.values(state=ObjectState.LEFT_OUT.value, report_row_id=None))
            return len(found)
    return 0


def remove_some(connection: Connection, partition_id: int, at: datetime) -> int:
    """Take out some instances, whichever; return how many, 0 when none is left."""
    found = connection.execute(_SOME, {"partition_id": partition_id}).scalars().all()
    if found:
        removing.remove_instances(connection, found, at)
    return len(found)


def remove_changes(connection: Connection, partition_id: int) -> int:
    """Forget some of what the change log says of the partition; return how many, 0 when none is left."""
    some = select(change.c.sequence).where(change.c.partition_id == partition_id).limit(_PAGE)
    return connection.execute(delete(change).where(change.c.sequence.in_(some))).rowcount


def is_referenced(connection: Connection, project_id: int, blob_key: str) -> bool:
    """Return whether any release of the project has this blob."""
    return connection.execute(_REFERENCES, {"project_id": project_id, "key": blob_key}).scalar_one()


def iter_lines(database: Database, release: Release) -> Iterator[Line]:
    """Yield every object by the order of its UIDs, which tells nothing of the clinical ones.

    Each study is a read of its own, so that nothing is held meanwhile; nothing changes in a release that is finished.
    """
    uid = ""
    while True:
        with database.read() as connection:
            after = {"partition_id": release.partition_id, "after": uid}
            found = connection.execute(_NEXT_STUDY, after).first()
            if found is None:
                return
            uid = found.study_instance_uid
            rows = connection.execute(_LINES, {"study_row_id": found.id, "release_id": release.id}).all()
        for row in rows:
            yield Line(
                found.patient_id,
                uid,
                row.series_instance_uid,
                row.sop_instance_uid,
                row.sop_class_uid,
                row.transfer_syntax_uid,
                row.blob_length,
                key_digest(row.blob_key),
                bytes(row.digest).hex(),
            )


_IN_PARTITION = instance.c.partition_id == bindparam("partition_id")
_IS_MADE = (
    (research_release_object.c.release_row_id == bindparam("release_id"))
    & (research_release_object.c.sop_instance_uid == instance.c.sop_instance_uid)
    & (research_release_object.c.state == ObjectState.RELEASED.value)
)
_STRAYS = select(instance.c.id).where(_IN_PARTITION, ~exists().where(_IS_MADE).correlate(instance)).limit(_PAGE)
_GAP = (
    select(research_release_object.c.id)
    .where(
        research_release_object.c.release_row_id == bindparam("release_id"),
        research_release_object.c.state == ObjectState.RELEASED.value,
        ~exists()
        .where(_IN_PARTITION, instance.c.sop_instance_uid == research_release_object.c.sop_instance_uid)
        .correlate(research_release_object),
    )
    .limit(1)
)
_SOME = select(instance.c.id).where(_IN_PARTITION).limit(_PAGE)
_STUDIES = (
    select(study.c.id)
    .where(
        study.c.partition_id == bindparam("partition_id"),
        study.c.study_instance_uid.in_(bindparam("uids", expanding=True)),
    )
    .limit(1)
)
_STUDIES_OF = (
    select(study.c.study_instance_uid)
    .join_from(study, patient, study.c.patient_row_id == patient.c.id)
    .where(
        study.c.partition_id == bindparam("partition_id"),
        patient.c.patient_id.in_(bindparam("patient_ids", expanding=True)),
    )
)
_OF_STUDIES = (
    select(instance.c.id, instance.c.sop_instance_uid)
    .join_from(instance, series, instance.c.series_row_id == series.c.id)
    .join(study, series.c.study_row_id == study.c.id)
    .where(
        study.c.partition_id == bindparam("partition_id"),
        study.c.study_instance_uid.in_(bindparam("uids", expanding=True)),
    )
    .limit(_PAGE)
)
_OF_PROJECT = research_release.c.project_row_id == bindparam("project_id")
_REFERENCES = select(
    exists().where(
        instance.c.blob_key == bindparam("key"),
        instance.c.partition_id.in_(select(research_release.c.partition_id).where(_OF_PROJECT)),
    )
    | exists().where(
        research_release.c.manifest_key == bindparam("key"), _OF_PROJECT, research_release.c.abandoned_at.is_(None)
    )
)
_NEXT_STUDY = (
    select(study.c.id, study.c.study_instance_uid, patient.c.patient_id)
    .join_from(study, patient, study.c.patient_row_id == patient.c.id)
    .where(study.c.partition_id == bindparam("partition_id"), study.c.study_instance_uid > bindparam("after"))
    .order_by(study.c.study_instance_uid)
    .limit(1)
)
_LINES = (
    select(
        series.c.series_instance_uid,
        instance.c.sop_instance_uid,
        instance.c.sop_class_uid,
        instance.c.transfer_syntax_uid,
        instance.c.blob_length,
        instance.c.blob_key,
        research_release_report.c.digest,
    )
    .join_from(series, instance, instance.c.series_row_id == series.c.id)
    .join(
        research_release_object,
        (research_release_object.c.release_row_id == bindparam("release_id"))
        & (research_release_object.c.sop_instance_uid == instance.c.sop_instance_uid),
    )
    .join(research_release_report, research_release_object.c.report_row_id == research_release_report.c.id)
    .where(series.c.study_row_id == bindparam("study_row_id"))
    .order_by(series.c.series_instance_uid, instance.c.sop_instance_uid)
)
