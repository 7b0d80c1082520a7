"""What objects are made of: clinical instances, found by their SOP Instance UIDs wherever corrections have put them."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, select

from pacs.database.prepared import Prepared
from pacs.database.tables import instance, series, study
from pacs.index.records import RECORD_COLUMNS, record_of
from pacs.model import CLINICAL_PARTITION, InstanceRecord


@dataclass(frozen=True, slots=True)
class Source:
    """A clinical instance as it stands now; ``study`` are the attributes of its study, as DICOM JSON."""

    record: InstanceRecord
    modality: str
    study: str


def find_source(connection: Connection, sop_instance_uid: str) -> Source | None:
    """Return a clinical instance, or None if the archive has it no more, or does not show it."""
    row = _FIND.first(connection, {"partition_id": CLINICAL_PARTITION, "sop_instance_uid": sop_instance_uid})
    return None if row is None else Source(record_of(row), row.modality or "", row.study)


def read_instances(connection: Connection, series_row_ids: Sequence[int]) -> list[str]:
    """Return the SOP Instance UIDs of everything in these series."""
    return list(connection.execute(_OF_SERIES, {"row_ids": list(series_row_ids)}).scalars())


_FIND = Prepared(
    select(*RECORD_COLUMNS, series.c.modality, study.c.attributes.label("study"))
    .join_from(instance, series, instance.c.series_row_id == series.c.id)
    .join(study, series.c.study_row_id == study.c.id)
    .where(
        instance.c.partition_id == bindparam("partition_id"),
        instance.c.sop_instance_uid == bindparam("sop_instance_uid"),
    )
)
_OF_SERIES = (
    select(instance.c.sop_instance_uid)
    .where(instance.c.series_row_id.in_(bindparam("row_ids", expanding=True)))
    .order_by(instance.c.series_row_id, instance.c.id)
)
