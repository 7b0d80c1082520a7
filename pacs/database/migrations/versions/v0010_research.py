"""Research projects: members, keys, subjects, exclusions, cohorts, and the catalogue of what can be asked for."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
CODE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
INSTANT = sa.BigInteger()


def upgrade() -> None:
    """Add the tables."""
    _create_projects()
    _create_subjects()
    _create_decisions()
    _create_cohorts()
    _create_catalogue()
    if op.get_bind().dialect.name == "sqlite":
        _state_figures()


def downgrade() -> None:
    """Go back: never; restore a backup."""
    raise NotImplementedError


def _row_id() -> sa.Column[int]:
    return sa.Column("id", KEY, sa.Identity(), nullable=False)


def _project(table: str) -> tuple[sa.Column[int], sa.ForeignKeyConstraint]:
    column: sa.Column[int] = sa.Column("project_row_id", KEY, autoincrement=False, nullable=False)
    name = op.f(f"fk_{table}_project_row_id")
    return column, sa.ForeignKeyConstraint(["project_row_id"], ["research_project.id"], name=name)


def _create_projects() -> None:
    op.create_table(
        "research_project",
        _row_id(),
        sa.Column("slug", CODE, nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("approval_reference", sa.Text(), nullable=False),
        sa.Column("approval_authority", sa.Text(), nullable=False),
        sa.Column("approval_ends_on", CODE, nullable=False),
        sa.Column("profile", sa.Text(), nullable=False),
        sa.Column("k", sa.SmallInteger(), nullable=False),
        sa.Column("wrapped_key", sa.LargeBinary()),
        sa.Column("escrow_key", sa.LargeBinary()),
        sa.Column("created_by", CODE, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("key_destroyed_at", INSTANT),
        sa.Column("backups_gone_at", INSTANT),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_research_project")),
        sa.UniqueConstraint("slug", name=op.f("uq_research_project_slug")),
    )
    op.create_table(
        "research_member",
        *_project("research_member"),
        sa.Column("name", CODE, nullable=False),
        sa.Column("role", CODE, nullable=False),
        sa.Column("added_by", CODE, nullable=False),
        sa.Column("added_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("project_row_id", "name", name=op.f("pk_research_member")),
    )
    op.create_index(op.f("ix_research_member_name"), "research_member", ["name"])


def _create_subjects() -> None:
    op.create_table(
        "research_subject",
        _row_id(),
        *_project("research_subject"),
        sa.Column("pseudonym", CODE, nullable=False),
        sa.Column("sealed_shift", sa.LargeBinary(), nullable=False),
        sa.Column("escrow", sa.LargeBinary()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_research_subject")),
        sa.UniqueConstraint("project_row_id", "pseudonym", name=op.f("uq_research_subject_project_row_id_pseudonym")),
    )
    op.create_table(
        "research_subject_key",
        *_project("research_subject_key"),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("subject_row_id", KEY, nullable=False),
        sa.ForeignKeyConstraint(
            ["subject_row_id"], ["research_subject.id"], name=op.f("fk_research_subject_key_subject_row_id")
        ),
        sa.PrimaryKeyConstraint("project_row_id", "digest", name=op.f("pk_research_subject_key")),
    )
    op.create_index(op.f("ix_research_subject_key_subject_row_id"), "research_subject_key", ["subject_row_id"])


def _create_decisions() -> None:
    op.create_table(
        "research_exclusion",
        _row_id(),
        sa.Column("project_row_id", KEY, nullable=False),
        sa.Column("scope", CODE, nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("excluded_by", CODE, nullable=False),
        sa.Column("excluded_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_research_exclusion")),
        sa.UniqueConstraint("project_row_id", "digest", name=op.f("uq_research_exclusion_project_row_id_digest")),
    )
    op.create_table(
        "research_reidentification",
        _row_id(),
        *_project("research_reidentification"),
        sa.Column("pseudonym", CODE, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("state", CODE, nullable=False),
        sa.Column("asked_by", CODE, nullable=False),
        sa.Column("asked_at", INSTANT, nullable=False),
        sa.Column("decided_by", CODE, nullable=False, server_default=""),
        sa.Column("decided_at", INSTANT),
        sa.Column("remark", sa.Text(), nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_research_reidentification")),
    )
    op.create_index(
        op.f("ix_research_reidentification_project_row_id_id"), "research_reidentification", ["project_row_id", "id"]
    )


def _create_cohorts() -> None:
    op.create_table(
        "research_cohort",
        _row_id(),
        *_project("research_cohort"),
        sa.Column("name", CODE, nullable=False),
        sa.Column("conditions", sa.Text(), nullable=False),
        sa.Column("state", CODE, nullable=False),
        sa.Column("created_by", CODE, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("requested_by", CODE, nullable=False, server_default=""),
        sa.Column("requested_at", INSTANT),
        sa.Column("decided_by", CODE, nullable=False, server_default=""),
        sa.Column("decided_at", INSTANT),
        sa.Column("remark", sa.Text(), nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_research_cohort")),
        sa.UniqueConstraint("project_row_id", "name", name=op.f("uq_research_cohort_project_row_id_name")),
    )


def _create_catalogue() -> None:
    op.create_table(
        "research_catalogue",
        sa.Column("series_row_id", KEY, autoincrement=False, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("rules", sa.SmallInteger(), nullable=False),
        sa.Column("sex", CODE),
        sa.Column("age_years", sa.SmallInteger()),
        sa.Column("manufacturer", CODE),
        sa.Column("body_part", CODE),
        sa.Column("kernel", CODE),
        sa.Column("has_contrast", sa.Boolean()),
        sa.Column("field_strength", sa.Integer()),
        sa.Column("study_description", CODE, nullable=False),
        sa.Column("series_description", CODE, nullable=False),
        sa.Column("protocol_name", CODE, nullable=False),
        sa.Column("words", CODE, nullable=False),
        sa.ForeignKeyConstraint(
            ["series_row_id"], ["series.id"], name=op.f("fk_research_catalogue_series_row_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("series_row_id", name=op.f("pk_research_catalogue")),
    )


_FIGURES = {
    ("research_project", "sqlite_autoindex_research_project_1"): "20 1",
    ("research_member", "sqlite_autoindex_research_member_1"): "100 5 1",
    ("research_member", "ix_research_member_name"): "100 3",
    ("research_subject", "sqlite_autoindex_research_subject_1"): "200000 10000 1",
    ("research_subject_key", "sqlite_autoindex_research_subject_key_1"): "400000 20000 1",
    ("research_subject_key", "ix_research_subject_key_subject_row_id"): "400000 2",
    ("research_exclusion", "sqlite_autoindex_research_exclusion_1"): "100 5 1",
    ("research_reidentification", "ix_research_reidentification_project_row_id_id"): "100 5 1",
    ("research_cohort", "sqlite_autoindex_research_cohort_1"): "100 5 1",
}
"""What SQLite's planner is told of these indexes, as in the first schema: an archive that has grown."""


def _state_figures() -> None:
    figures = sa.table("sqlite_stat1", sa.column("tbl"), sa.column("idx"), sa.column("stat"))
    rows = [{"tbl": table, "idx": index, "stat": stat} for (table, index), stat in _FIGURES.items()]
    op.get_bind().execute(sa.insert(figures), rows)
