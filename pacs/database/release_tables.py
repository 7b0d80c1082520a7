"""The tables of releases: which there are, what each was made of, and what was done to its objects.

They belong to the same schema as ``tables`` and are migrated with it. The instances of a release are rows of the four
levels, in a partition of their own. Which clinical instance an object is made of is in the clear only as long as it
has to be found again; what stays is a digest under the project's key.
"""

from sqlalchemy import (
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

__all__ = ["metadata", "research_release", "research_release_object", "research_release_report"]


def _row_id() -> Column[int]:
    return Column("id", Key, Identity(), primary_key=True)


research_release = Table(
    "research_release",
    metadata,
    _row_id(),
    Column("project_row_id", Key, ForeignKey("research_project.id"), nullable=False),
    Column("cohort_row_id", Key, ForeignKey("research_cohort.id"), nullable=False, index=True),
    Column("version", Integer, nullable=False),
    Column("state", Code, nullable=False),
    Column("partition_id", SmallInteger, nullable=False),  # of its instances; never given to another release
    Column("prefix", Code, nullable=False),  # of its blobs' keys: the project's
    Column("profile", Text, nullable=False),  # JSON of pacs.deid.Profile, as it was when the release was begun
    Column("listed_series_row_id", Key, nullable=False, server_default="0"),  # how far the list of candidates has come
    Column("listed_at", Instant),  # since when the list is complete
    Column("manifest_key", Code, nullable=False, server_default=""),
    Column("counts", Text, nullable=False, server_default=""),  # JSON, once it is published
    Column("created_by", Code, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("published_by", Code, nullable=False, server_default=""),
    Column("published_at", Instant),
    Column("withdrawn_by", Code, nullable=False, server_default=""),
    Column("withdrawn_at", Instant),
    Column("problem", Text, nullable=False, server_default=""),  # why it failed or was withdrawn
    Column("abandoned_at", Instant),  # since when its rows and blobs are to go
    Column("swept_at", Instant),  # since when they are gone
    UniqueConstraint("project_row_id", "version"),
    UniqueConstraint("partition_id"),
)

research_release_report = Table(
    "research_release_report",
    metadata,
    _row_id(),
    Column("digest", LargeBinary, nullable=False),  # of what is in it: objects that were treated alike share one
    Column("body", LargeBinary, nullable=False),  # what was done, by which rule, as compressed JSON; no value
    UniqueConstraint("digest"),
)

research_release_object = Table(
    "research_release_object",
    metadata,
    _row_id(),
    Column("release_row_id", Key, ForeignKey("research_release.id"), nullable=False),
    Column("digest", LargeBinary, nullable=False),  # keyed, of the clinical SOP Instance UID
    Column("clinical_uid", Code, nullable=False),  # that UID, while it is needed; then nothing
    Column("state", Code, nullable=False),
    Column("sop_instance_uid", Code, nullable=False, server_default=""),  # of the released object
    Column("report_row_id", Key, ForeignKey("research_release_report.id")),
    Column("modality", Code, nullable=False, server_default=""),  # this and the next of what waits for a person
    Column("sop_class_uid", Code, nullable=False, server_default=""),
    Column("reasons", Text, nullable=False, server_default="[]"),  # why it was kept back, as JSON
    Column("released_reasons", Text, nullable=False, server_default="[]"),  # those that a person has looked at
    Column("found_at", Instant),
    Column("decided_by", Code, nullable=False, server_default=""),
    Column("decided_at", Instant),
    Column("remark", Text, nullable=False, server_default=""),
    UniqueConstraint("release_row_id", "digest"),
    Index(None, "release_row_id", "state", "id"),
    Index(None, "release_row_id", "sop_instance_uid"),
    Index(None, "report_row_id"),
)
