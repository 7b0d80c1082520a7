"""How a row of ``instance`` with its study and series becomes an InstanceRecord, and what is laid over its header."""

from typing import Any

from pacs.database.tables import instance, instance_header, series, study
from pacs.model import InstanceRecord, Location
from pacs.overlay import Step, load_overlay

RECORD_COLUMNS = (
    instance.c.id,
    study.c.study_instance_uid,
    series.c.series_instance_uid,
    instance.c.sop_instance_uid,
    instance.c.sop_class_uid,
    instance.c.transfer_syntax_uid,
    instance.c.blob_key,
    instance.c.blob_offset,
    instance.c.blob_length,
    instance.c.stored_at,
)
"""What a select has to ask for, so that ``record_of`` can read its rows."""

OVERLAY_COLUMNS = (instance_header.c.overlay.label("coercions"), study.c.overlay.label("corrections"))
"""What a select has to ask for, so that ``steps_of`` can read its rows."""


def record_of(row: Any) -> InstanceRecord:
    """Return the record of a row with ``RECORD_COLUMNS``."""
    return InstanceRecord(
        row_id=row.id,
        study_instance_uid=row.study_instance_uid,
        series_instance_uid=row.series_instance_uid,
        sop_instance_uid=row.sop_instance_uid,
        sop_class_uid=row.sop_class_uid,
        transfer_syntax_uid=row.transfer_syntax_uid,
        location=Location(row.blob_key, row.blob_offset, row.blob_length),
        stored_at=row.stored_at,
    )


def steps_of(row: Any) -> tuple[Step, ...]:
    """Return the steps laid over the header of a row with ``OVERLAY_COLUMNS``; nearly always none."""
    return load_overlay(row.coercions, row.corrections)
