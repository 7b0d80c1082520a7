"""The tables of the unified worklist: work items (UPS, PS3.4 CC), who subscribes to them, and what happened to them.

They belong to the same schema as ``tables`` and are migrated with it.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Identity,
    Index,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
)

from pacs.database.tables import Code, Instant, Key, metadata

__all__ = ["metadata", "workitem", "workitem_event", "workitem_study", "workitem_subscriber", "worklist_subscriber"]

workitem = Table(
    "workitem",
    metadata,
    Column("id", Key, Identity(), primary_key=True),
    Column("partition_id", SmallInteger, nullable=False),
    Column("sop_instance_uid", Code, nullable=False),
    Column("state", Code, nullable=False),
    Column("transaction_uid", Code, nullable=False),  # the lock; it is in no other place, so that nothing shows it
    Column("patient_id", Code, nullable=False),
    Column("worklist_label", Code, nullable=False),
    Column("start_key", Code, nullable=False),  # scheduled start as recorded, YYYYMMDDHHMMSS.FFFFFF
    Column("attributes", Text, nullable=False),  # as DICOM JSON, without state and lock
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Column("ended_at", Instant),  # when it was completed or canceled
    UniqueConstraint("partition_id", "sop_instance_uid"),
    Index(None, "partition_id", "start_key", "id"),
    Index(None, "partition_id", "state", "start_key", "id"),
    Index(None, "partition_id", "patient_id"),
    Index(None, "ended_at"),
)

workitem_study = Table(
    "workitem_study",
    metadata,
    Column("workitem_row_id", Key, ForeignKey("workitem.id"), primary_key=True, autoincrement=False),
    Column("study_instance_uid", Code, primary_key=True),  # one that it names as request, input or output
    Index(None, "study_instance_uid"),
)

workitem_subscriber = Table(
    "workitem_subscriber",
    metadata,
    Column("workitem_row_id", Key, ForeignKey("workitem.id"), primary_key=True, autoincrement=False),
    Column("ae_title", Code, primary_key=True),
    Column("has_lock", Boolean, nullable=False),  # the item must not be forgotten
    Index(None, "ae_title"),
)

worklist_subscriber = Table(
    "worklist_subscriber",
    metadata,
    Column("partition_id", SmallInteger, primary_key=True, autoincrement=False),
    Column("worklist_uid", Code, primary_key=True),  # the well-known UID: all items, or those of a filter
    Column("ae_title", Code, primary_key=True),
    Column("has_lock", Boolean, nullable=False),
    Column("filter", Text, nullable=False),  # conditions by path, as JSON
)

workitem_event = Table(
    "workitem_event",
    metadata,
    Column("sequence", Key, Identity(), primary_key=True),
    Column("transaction_id", BigInteger, nullable=False),
    Column("partition_id", SmallInteger, nullable=False),
    Column("at", Instant, nullable=False),
    Column("recipients", Code, nullable=False),  # AE titles, separated by backslashes
    Column("report", Text, nullable=False),  # the event report as DICOM JSON
    Index(None, "partition_id", "transaction_id", "sequence"),
    Index(None, "at"),
    sqlite_autoincrement=True,  # a number is never given twice, not even after the last rows were pruned
)
