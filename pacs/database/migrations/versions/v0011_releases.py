"""Releases of research projects: which there are, what each is made of, and what was done to its objects."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
CODE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the tables. None of them has a row in an archive without research."""
    _create_release()
    op.create_table(
        "research_release_report",
        sa.Column("id", KEY, sa.Identity(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_research_release_report")),
        sa.UniqueConstraint("digest", name=op.f("uq_research_release_report_digest")),
    )
    _create_object()
    if op.get_bind().dialect.name == "sqlite":
        figures = sa.table("sqlite_stat1", sa.column("tbl"), sa.column("idx"), sa.column("stat"))
        rows = [{"tbl": table, "idx": index, "stat": stat} for (table, index), stat in _FIGURES.items()]
        op.get_bind().execute(sa.insert(figures), rows)


def downgrade() -> None:
    """Go back: never; restore a backup."""
    raise NotImplementedError


def _create_release() -> None:
    op.create_table(
        "research_release",
        sa.Column("id", KEY, sa.Identity(), nullable=False),
        sa.Column("project_row_id", KEY, nullable=False),
        sa.Column("cohort_row_id", KEY, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("state", CODE, nullable=False),
        sa.Column("partition_id", sa.SmallInteger(), nullable=False),
        sa.Column("prefix", CODE, nullable=False),
        sa.Column("profile", sa.Text(), nullable=False),
        sa.Column("listed_series_row_id", KEY, nullable=False, server_default="0"),
        sa.Column("listed_at", sa.BigInteger(), nullable=True),
        sa.Column("manifest_key", CODE, nullable=False, server_default=""),
        sa.Column("counts", sa.Text(), nullable=False, server_default=""),
        sa.Column("created_by", CODE, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("published_by", CODE, nullable=False, server_default=""),
        sa.Column("published_at", sa.BigInteger(), nullable=True),
        sa.Column("withdrawn_by", CODE, nullable=False, server_default=""),
        sa.Column("withdrawn_at", sa.BigInteger(), nullable=True),
        sa.Column("problem", sa.Text(), nullable=False, server_default=""),
        sa.Column("abandoned_at", sa.BigInteger(), nullable=True),
        sa.Column("swept_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["project_row_id"], ["research_project.id"], name=op.f("fk_research_release_project_row_id")
        ),
        sa.ForeignKeyConstraint(
            ["cohort_row_id"], ["research_cohort.id"], name=op.f("fk_research_release_cohort_row_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_research_release")),
        sa.UniqueConstraint("project_row_id", "version", name=op.f("uq_research_release_project_row_id_version")),
        sa.UniqueConstraint("partition_id", name=op.f("uq_research_release_partition_id")),
    )
    op.create_index(op.f("ix_research_release_cohort_row_id"), "research_release", ["cohort_row_id"])


def _create_object() -> None:
    op.create_table(
        "research_release_object",
        sa.Column("id", KEY, sa.Identity(), nullable=False),
        sa.Column("release_row_id", KEY, nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("clinical_uid", CODE, nullable=False),
        sa.Column("state", CODE, nullable=False),
        sa.Column("sop_instance_uid", CODE, nullable=False, server_default=""),
        sa.Column("report_row_id", KEY, nullable=True),
        sa.Column("modality", CODE, nullable=False, server_default=""),
        sa.Column("sop_class_uid", CODE, nullable=False, server_default=""),
        sa.Column("reasons", sa.Text(), nullable=False, server_default="[]"),
        sa.Column("released_reasons", sa.Text(), nullable=False, server_default="[]"),
        sa.Column("found_at", sa.BigInteger(), nullable=True),
        sa.Column("decided_by", CODE, nullable=False, server_default=""),
        sa.Column("decided_at", sa.BigInteger(), nullable=True),
        sa.Column("remark", sa.Text(), nullable=False, server_default=""),
        sa.ForeignKeyConstraint(
            ["release_row_id"], ["research_release.id"], name=op.f("fk_research_release_object_release_row_id")
        ),
        sa.ForeignKeyConstraint(
            ["report_row_id"], ["research_release_report.id"], name=op.f("fk_research_release_object_report_row_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_research_release_object")),
        sa.UniqueConstraint("release_row_id", "digest", name=op.f("uq_research_release_object_release_row_id_digest")),
    )
    for columns in (["release_row_id", "state", "id"], ["release_row_id", "sop_instance_uid"], ["report_row_id"]):
        name = f"ix_research_release_object_{'_'.join(columns)}"
        op.create_index(op.f(name), "research_release_object", columns)


_FIGURES = {
    ("research_release", "sqlite_autoindex_research_release_1"): "200 10 1",
    ("research_release", "sqlite_autoindex_research_release_2"): "200 1",
    ("research_release", "ix_research_release_cohort_row_id"): "200 2",
    ("research_release_report", "sqlite_autoindex_research_release_report_1"): "100000 1",
    ("research_release_object", "sqlite_autoindex_research_release_object_1"): "10000000 50000 1",
    ("research_release_object", "ix_research_release_object_release_row_id_state_id"): "10000000 50000 10000 1",
    ("research_release_object", "ix_research_release_object_release_row_id_sop_instance_uid"): "10000000 50000 1",
    ("research_release_object", "ix_research_release_object_report_row_id"): "10000000 100",
}
"""What SQLite's planner is told of the indexes, as in the first schema."""
