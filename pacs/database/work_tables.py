"""The tables beside the four levels: deliveries, commitments, worklists, corrections, thumbnails and what is withheld.

They belong to the same schema as ``tables`` and are migrated with it.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
)

from pacs.database.tables import Code, Instant, Key, metadata

__all__ = [
    "commitment",
    "corrected_study",
    "correction",
    "follower",
    "job",
    "metadata",
    "original",
    "performed_step",
    "scheduled_step",
    "secret",
    "series_metadata",
    "thumbnail",
    "withheld_instance",
]


def _row_id() -> Column[int]:
    return Column("id", Key, Identity(), primary_key=True)


def _partition_id() -> Column[int]:
    return Column("partition_id", SmallInteger, nullable=False)


job = Table(
    "job",
    metadata,
    _row_id(),
    Column("kind", Code, nullable=False),  # names the task function
    Column("lane", Code, nullable=False),  # jobs of one lane may be done together: a destination
    Column("key", Code, nullable=False),  # what is to be done, so that it is listed once
    Column("payload", Text, nullable=False),
    Column("state", Code, nullable=False),
    Column("due_at", Instant, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("problem", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("finished_at", Instant),
    UniqueConstraint("kind", "lane", "key"),
    Index(None, "state", "due_at"),
    Index(None, "kind", "lane", "state", "due_at"),
)

follower = Table(
    "follower",
    metadata,
    Column("name", Code, primary_key=True),
    Column("transaction_id", BigInteger, nullable=False),
    Column("sequence", BigInteger, nullable=False),
)

commitment = Table(
    "commitment",
    metadata,
    _row_id(),
    _partition_id(),
    Column("role", Code, nullable=False),  # scp: asked of us; scu: asked by us
    Column("peer", Code, nullable=False),  # AE title
    Column("transaction_uid", Code, nullable=False),
    Column("state", Code, nullable=False),
    Column("asked_at", Instant, nullable=False),
    Column("reported_at", Instant),
    Column("items", Text, nullable=False),  # SOP Class and Instance UIDs, and what became of each, as JSON
    UniqueConstraint("partition_id", "role", "peer", "transaction_uid"),
    Index(None, "state"),
)

scheduled_step = Table(
    "scheduled_step",
    metadata,
    _row_id(),
    _partition_id(),
    Column("requested_procedure_id", Code, nullable=False),
    Column("scheduled_procedure_step_id", Code, nullable=False),
    Column("study_instance_uid", Code, nullable=False),
    Column("accession_number", Code, nullable=False),
    Column("patient_id", Code, nullable=False),
    Column("modality", Code, nullable=False),
    Column("station_ae_titles", Code, nullable=False),  # separated by backslashes, with one at both ends
    Column("start_date", Code, nullable=False),
    Column("start_time", Code, nullable=False),
    Column("state", Code, nullable=False),
    Column("source", Code, nullable=False),  # a file of the watched folder, or nothing
    Column("attributes", Text, nullable=False),  # the whole entry as DICOM JSON
    Column("updated_at", Instant, nullable=False),
    UniqueConstraint("partition_id", "requested_procedure_id", "scheduled_procedure_step_id", "study_instance_uid"),
    Index(None, "partition_id", "state", "start_date", "start_time"),
    Index(None, "source"),
    Index(None, "partition_id", "study_instance_uid"),
    Index(None, "partition_id", "accession_number"),
)

performed_step = Table(
    "performed_step",
    metadata,
    _row_id(),
    _partition_id(),
    Column("sop_instance_uid", Code, nullable=False),
    Column("state", Code, nullable=False),
    Column("study_instance_uids", Code, nullable=False),  # separated by spaces
    Column("calling_ae_title", Code, nullable=False),
    Column("attributes", Text, nullable=False),  # as DICOM JSON
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    UniqueConstraint("partition_id", "sop_instance_uid"),
)

correction = Table(
    "correction",
    metadata,
    _row_id(),
    _partition_id(),
    Column("kind", Code, nullable=False),
    Column("by", Code, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", Instant, nullable=False),
    Column("facts", Text, nullable=False),  # what was asked for and what undoing needs, as JSON
    Column("undone_at", Instant),
    Column("undone_by", Code),
    Column("subject", Code, nullable=False),  # the identity of a patient or a Study Instance UID: what it holds for
    Index(None, "partition_id", "subject"),
)

corrected_study = Table(
    "corrected_study",
    metadata,
    Column("study_row_id", Key, ForeignKey("study.id"), primary_key=True, autoincrement=False),
    Column("correction_id", Key, ForeignKey("correction.id"), primary_key=True, autoincrement=False, index=True),
    Column("received_patient_row_id", Key, ForeignKey("patient.id"), nullable=False, index=True),
)

withheld_instance = Table(
    "withheld_instance",
    metadata,
    _row_id(),
    _partition_id(),
    Column("study_instance_uid", Code, nullable=False),
    Column("series_instance_uid", Code, nullable=False),
    Column("sop_instance_uid", Code, nullable=False),
    Column("sop_class_uid", Code, nullable=False),
    Column("transfer_syntax_uid", Text, nullable=False),
    Column("blob_key", Code, nullable=False, index=True),
    Column("blob_offset", BigInteger, nullable=False),
    Column("blob_length", BigInteger, nullable=False),
    Column("dataset_digest", LargeBinary, nullable=False),
    Column("overlay", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("stored_at", Instant, nullable=False),
    Column("reason", Code, nullable=False),
    Column("by", Code, nullable=False),
    Column("note_sop_instance_uid", Code, nullable=False),
    Column("withheld_at", Instant, nullable=False),
    Index(None, "partition_id", "sop_instance_uid"),
    Index(None, "partition_id", "study_instance_uid"),
    Index(None, "note_sop_instance_uid"),
)

thumbnail = Table(
    "thumbnail",
    metadata,
    Column(
        "instance_row_id", Key, ForeignKey("instance.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    ),
    Column("revision", Code, nullable=False),  # which state of the instance the picture shows
    Column("picture", LargeBinary, nullable=False),  # JPEG, some kilobytes
)

series_metadata = Table(
    "series_metadata",
    metadata,
    Column("series_row_id", Key, ForeignKey("series.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("revision", BigInteger, nullable=False),  # that of the series; of any other number it is worth nothing
    Column("digest", Code, nullable=False),  # which state of the instances it shows, for an entity tag
    Column("body", LargeBinary, nullable=False),  # DICOM JSON compressed by zlib; empty if it was too long to keep
)

secret = Table(
    "secret",
    metadata,
    Column("name", Code, primary_key=True),
    Column("value", LargeBinary, nullable=False),
)

original = Table(
    "original",
    metadata,
    _row_id(),
    _partition_id(),
    Column("sop_instance_uid", Code, nullable=False),
    Column("transfer_syntax_uid", Text, nullable=False),
    Column("blob_key", Code, nullable=False, index=True),  # nothing once the received bytes need not be kept any more
    Column("blob_offset", BigInteger, nullable=False),
    Column("blob_length", BigInteger, nullable=False),
    Column("blob_digest", LargeBinary, nullable=False),  # SHA-256 of the received file, which outlives it
    Column("dataset_digest", LargeBinary, nullable=False),
    Column("recompressed_at", Instant, nullable=False),
    Column("kept_until", Instant, nullable=False),
    Index(None, "partition_id", "sop_instance_uid"),
    Index(None, "partition_id", "kept_until"),
)
