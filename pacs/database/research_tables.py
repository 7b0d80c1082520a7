"""The tables of research projects: who belongs to them, their keys, their subjects, their cohorts, and the catalogue.

They belong to the same schema as ``tables`` and are migrated with it. No name, no Patient ID and no UID of the clinical
side is in the clear in any of them: what has to be found again is a keyed digest, and what has to be told is sealed.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
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
    "metadata",
    "research_answer",
    "research_catalogue",
    "research_cohort",
    "research_exclusion",
    "research_member",
    "research_project",
    "research_reidentification",
    "research_subject",
    "research_subject_key",
]


def _row_id() -> Column[int]:
    return Column("id", Key, Identity(), primary_key=True)


def _project_row_id() -> Column[int]:
    return Column("project_row_id", Key, ForeignKey("research_project.id"), nullable=False)


research_project = Table(
    "research_project",
    metadata,
    _row_id(),
    Column("slug", Code, nullable=False),
    Column("title", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("approval_reference", Text, nullable=False),
    Column("approval_authority", Text, nullable=False),
    Column("approval_ends_on", Code, nullable=False),  # YYYY-MM-DD
    Column("profile", Text, nullable=False),  # JSON of pacs.deid.Profile
    Column("k", SmallInteger, nullable=False),
    Column("wrapped_key", LargeBinary),  # under the master key; NULL once it is destroyed
    Column("escrow_key", LargeBinary),  # X25519 public key, whose private half is not on this server
    Column("created_by", Code, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("key_destroyed_at", Instant),
    Column("backups_gone_at", Instant),
    UniqueConstraint("slug"),
)

research_member = Table(
    "research_member",
    metadata,
    Column("project_row_id", Key, ForeignKey("research_project.id"), primary_key=True, autoincrement=False),
    Column("name", Code, primary_key=True),
    Column("role", Code, nullable=False),
    Column("added_by", Code, nullable=False),
    Column("added_at", Instant, nullable=False),
    Index(None, "name"),
)

research_subject = Table(
    "research_subject",
    metadata,
    _row_id(),
    _project_row_id(),
    Column("pseudonym", Code, nullable=False),
    Column("sealed_shift", LargeBinary, nullable=False),  # days, under the project key: they would tell the dates
    Column("escrow", LargeBinary),  # who it is, sealed to the project's public key; NULL if it has none
    UniqueConstraint("project_row_id", "pseudonym"),
)

research_subject_key = Table(
    "research_subject_key",
    metadata,
    Column("project_row_id", Key, ForeignKey("research_project.id"), primary_key=True, autoincrement=False),
    Column("digest", LargeBinary, primary_key=True),  # keyed, of an identity or a study that is this subject's
    Column("subject_row_id", Key, ForeignKey("research_subject.id"), nullable=False, index=True),
)

research_exclusion = Table(
    "research_exclusion",
    metadata,
    _row_id(),
    Column("project_row_id", Key, nullable=False),  # 0: of all research
    Column("scope", Code, nullable=False),
    Column("digest", LargeBinary, nullable=False),  # keyed, of an identity or a study
    Column("reason", Text, nullable=False),
    Column("excluded_by", Code, nullable=False),
    Column("excluded_at", Instant, nullable=False),
    UniqueConstraint("project_row_id", "digest"),
)

research_reidentification = Table(
    "research_reidentification",
    metadata,
    _row_id(),
    _project_row_id(),
    Column("pseudonym", Code, nullable=False),
    Column("reason", Text, nullable=False),
    Column("state", Code, nullable=False),
    Column("asked_by", Code, nullable=False),
    Column("asked_at", Instant, nullable=False),
    Column("decided_by", Code, nullable=False, server_default=""),
    Column("decided_at", Instant),
    Column("remark", Text, nullable=False, server_default=""),
    Index(None, "project_row_id", "id"),
)

research_cohort = Table(
    "research_cohort",
    metadata,
    _row_id(),
    _project_row_id(),
    Column("name", Code, nullable=False),
    Column("conditions", Text, nullable=False),  # by keyword, as canonical JSON
    Column("state", Code, nullable=False),
    Column("created_by", Code, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("requested_by", Code, nullable=False, server_default=""),
    Column("requested_at", Instant),
    Column("decided_by", Code, nullable=False, server_default=""),
    Column("decided_at", Instant),
    Column("remark", Text, nullable=False, server_default=""),
    UniqueConstraint("project_row_id", "name"),
)

research_answer = Table(
    "research_answer",
    metadata,
    _row_id(),
    _project_row_id(),
    Column("patient_count", Integer, nullable=False),
    Column("sums", LargeBinary, nullable=False),  # of the rows of these patients, as pacs.research.resemblance has it
    Column("numbers", Text, nullable=False),  # what was shown of them, by level, as JSON
    Index(None, "project_row_id", "patient_count", "id"),
)

research_catalogue = Table(
    "research_catalogue",
    metadata,
    Column("series_row_id", Key, ForeignKey("series.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("revision", BigInteger, nullable=False),  # of the series, when this row was made of it
    Column("rules", SmallInteger, nullable=False),  # by which it was made
    Column("sex", Code),  # M, F or O
    Column("age_years", SmallInteger),  # at most 90, which is all above, too
    Column("manufacturer", Code),  # one of a list
    Column("body_part", Code),  # one of the standard's terms
    Column("kernel", Code),
    Column("has_contrast", Boolean),
    Column("field_strength", Integer),  # thousandths of a tesla
    Column("study_description", Code, nullable=False),  # words of a vocabulary, in lower case, as the next two
    Column("series_description", Code, nullable=False),
    Column("protocol_name", Code, nullable=False),
    Column("words", Code, nullable=False),  # all of them once, in order, a space on both sides of each
)
