"""The schema, once, for both engines. Every unique key of the four levels starts with ``partition_id``.

Rows are small and have integer keys; each UID stands once. The columns a query can match on are generated from
``pacs.tags``, so that a new indexed attribute is one line there and one migration. Match columns hold normalised text:
dates ``YYYYMMDD``, times ``HHMMSS.FFFFFF``, codes in upper case, NULL where there is no value or none that can be read.
What is returned to a client comes from ``attributes``, as received.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Dialect,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

from pacs.model import Level
from pacs.tags import ATTRIBUTES, Matching

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Instant(TypeDecorator[datetime]):
    """Aware UTC as microseconds since 1970: eight bytes, and the same order and precision on every engine."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """Return the microseconds; a naive time raises TypeError."""
        del dialect
        return None if value is None else (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        """Return the time in UTC."""
        del dialect
        return None if value is None else _EPOCH + value * _MICROSECOND


Key = BigInteger().with_variant(Integer, "sqlite")
"""A row's number; SQLite aliases its rowid only to a column declared INTEGER."""

Code = Text().with_variant(Text(collation="C"), "postgresql")
"""Text that compares by its bytes, so that a prefix is a range of the index on both engines."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

MATCH_COLUMNS: dict[Level, tuple[str, ...]] = {
    level: tuple(
        attribute.column
        for attribute in ATTRIBUTES
        if attribute.level in levels
        and attribute.matching not in (None, Matching.NAME, Matching.UID)
        and not attribute.sequence
    )
    for level, levels in (
        (Level.STUDY, (Level.PATIENT, Level.STUDY)),
        (Level.SERIES, (Level.SERIES,)),
        (Level.INSTANCE, (Level.INSTANCE,)),
    )
}
"""The generated columns of a table; names are rows of ``person_name``, and a UID is the table's own key."""

_NUMBERS = {attribute.column for attribute in ATTRIBUTES if attribute.matching is Matching.NUMBER}


def _row_id() -> Column[int]:
    return Column("id", Key, Identity(), primary_key=True)


def _partition_id() -> Column[int]:
    return Column("partition_id", SmallInteger, nullable=False)


def _match_columns(level: Level) -> list[Column[Any]]:
    return [Column(name, BigInteger if name in _NUMBERS else Code) for name in MATCH_COLUMNS[level]]


patient = Table(
    "patient",
    metadata,
    _row_id(),
    _partition_id(),
    Column("identity", Code, nullable=False),  # issuer and Patient ID, or the study if there is no Patient ID
    Column("patient_id", Code, nullable=False),
    Column("issuer_of_patient_id", Code, nullable=False),
    Column("attributes", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("merged_into_row_id", Key, index=True),  # the patient that this one is merged into
    Column("overlay", Text, nullable=False, server_default=""),  # what was received, if corrected; or nothing
    UniqueConstraint("partition_id", "identity"),
)

study = Table(
    "study",
    metadata,
    _row_id(),
    _partition_id(),
    Column("patient_row_id", Key, ForeignKey("patient.id"), nullable=False, index=True),
    Column("study_instance_uid", Code, nullable=False),
    *_match_columns(Level.STUDY),
    Column("sort_key", Code, nullable=False),  # study date and time; never NULL, so both engines order it alike
    Column("attributes", Text, nullable=False),  # of the patient too: each study keeps its patient as received
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Column(
        "overlay", Text, nullable=False, server_default=""
    ),  # corrections, and what was received, as JSON; or nothing
    UniqueConstraint("partition_id", "study_instance_uid"),
    Index(None, "partition_id", "sort_key", "id"),
    Index(None, "partition_id", "patient_id"),
    Index(None, "partition_id", "accession_number"),
    Index(None, "partition_id", "study_date"),
    Index(None, "partition_id", "study_id", "sort_key", "id"),
    Index(None, "partition_id", "patient_birth_date", "sort_key", "id"),
)

series = Table(
    "series",
    metadata,
    _row_id(),
    _partition_id(),
    Column("study_row_id", Key, ForeignKey("study.id"), nullable=False),
    Column("series_instance_uid", Code, nullable=False),
    *_match_columns(Level.SERIES),
    Column("instance_count", Integer, nullable=False),
    Column("sop_class_uids", Text, nullable=False),  # distinct, separated by spaces
    Column("attributes", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Column("revision", BigInteger, nullable=False, server_default="0"),  # counts what changes its metadata
    UniqueConstraint("partition_id", "study_row_id", "series_instance_uid"),
    Index(None, "study_row_id", "modality"),
    Index(None, "partition_id", "series_instance_uid"),
)

instance = Table(
    "instance",
    metadata,
    _row_id(),
    _partition_id(),
    Column("series_row_id", Key, ForeignKey("series.id"), nullable=False),
    Column("sop_instance_uid", Code, nullable=False),
    Column("sop_class_uid", Code, nullable=False),
    *_match_columns(Level.INSTANCE),
    Column("transfer_syntax_uid", Text, nullable=False),
    Column("blob_key", Code, nullable=False, index=True),
    Column("blob_offset", BigInteger, nullable=False),
    Column("blob_length", BigInteger, nullable=False),
    Column("dataset_digest", LargeBinary, nullable=False),
    Column("stored_at", Instant, nullable=False),
    UniqueConstraint("partition_id", "sop_instance_uid"),
    Index(None, "series_row_id", "instance_number"),
)

instance_header = Table(
    "instance_header",
    metadata,
    Column("instance_row_id", Key, ForeignKey("instance.id"), primary_key=True, autoincrement=False),
    Column("summary", Text, nullable=False),  # DICOM JSON of the returnable attributes of this level
    Column("attributes", LargeBinary, nullable=False),  # DICOM JSON of the whole header, compressed by zlib
    Column("bulk", Text, nullable=False),  # where the values outside the header lie, as compact JSON
    Column("layout", LargeBinary, nullable=False),  # where the frames lie
    Column("overlay", Text, nullable=False, server_default=""),  # what was coerced on the way in, as JSON; or nothing
    Column(
        "origin", Text, nullable=False, server_default=""
    ),  # by which way it came, as JSON; nothing if stored by 0001
)

request_attribute = Table(
    "request_attribute",
    metadata,
    _row_id(),
    Column("series_row_id", Key, ForeignKey("series.id"), nullable=False, index=True),
    Column("scheduled_procedure_step_id", Code, index=True),
    Column("requested_procedure_id", Code, index=True),
)

person_name = Table(
    "person_name",
    metadata,
    Column("study_row_id", Key, ForeignKey("study.id"), primary_key=True, autoincrement=False),
    Column("keyword", Code, primary_key=True),
    Column("key", Code, primary_key=True),  # one value's component group, folded by pacs.names
    Index(None, "keyword", "key", "study_row_id"),  # a search by name reads nothing else
)

person_name_sound = Table(
    "person_name_sound",
    metadata,
    Column("keyword", Code, primary_key=True),
    Column("sound", Code, primary_key=True),  # one of pacs.phonetics.fuzzy_keys of the names; a search reads no more
    Column("study_row_id", Key, ForeignKey("study.id"), primary_key=True, autoincrement=False, index=True),
)

change = Table(
    "change",
    metadata,
    Column("sequence", Key, Identity(), primary_key=True),
    Column("transaction_id", BigInteger, nullable=False),
    _partition_id(),
    Column("kind", Code, nullable=False),
    Column("at", Instant, nullable=False),
    Column("study_instance_uid", Code, nullable=False),
    Column("series_instance_uid", Code, nullable=False),
    Column("sop_instance_uid", Code, nullable=False),
    Column("facts", Text, nullable=False),
    Index(None, "partition_id", "transaction_id", "sequence"),
    sqlite_autoincrement=True,  # a number is never given twice, not even after the last rows were pruned
)

conflict = Table(
    "conflict",
    metadata,
    _row_id(),
    _partition_id(),
    Column("kind", Code, nullable=False),
    Column("distinction", Code, nullable=False),  # what makes it another conflict than the one already listed
    Column("study_instance_uid", Code, nullable=False),
    Column("series_instance_uid", Code, nullable=False),
    Column("sop_instance_uid", Code, nullable=False),
    Column("blob_key", Code, index=True),
    Column("blob_offset", BigInteger),
    Column("blob_length", BigInteger),
    Column("dataset_digest", LargeBinary),
    Column("transfer_syntax_uid", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("found_at", Instant, nullable=False),
    Column("resolved_at", Instant),
    Column("resolution", Text, nullable=False),
    UniqueConstraint("partition_id", "kind", "distinction"),
    Index(None, "partition_id", "sop_instance_uid"),
)
