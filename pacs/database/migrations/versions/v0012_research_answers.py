"""What was answered to questions of research, so that a set of patients that hardly differs is answered the same."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "research_answer",
        sa.Column("id", KEY, sa.Identity(), nullable=False),
        sa.Column("project_row_id", KEY, nullable=False),
        sa.Column("patient_count", sa.Integer(), nullable=False),
        sa.Column("sums", sa.LargeBinary(), nullable=False),
        sa.Column("numbers", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_row_id"], ["research_project.id"], name=op.f("fk_research_answer_project_row_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_research_answer")),
    )
    columns = ["project_row_id", "patient_count", "id"]
    op.create_index(op.f(f"ix_research_answer_{'_'.join(columns)}"), "research_answer", columns)
    if op.get_bind().dialect.name == "sqlite":
        figures = sa.table("sqlite_stat1", sa.column("tbl"), sa.column("idx"), sa.column("stat"))
        row = {
            "tbl": "research_answer",
            "idx": "ix_research_answer_project_row_id_patient_count_id",
            "stat": "20000 1000 3 1",
        }
        op.get_bind().execute(sa.insert(figures), [row])


def downgrade() -> None:
    """Go back: never; restore a backup."""
    raise NotImplementedError
