"""Metadata of whole series, kept as they leave; and the number by which they are known to be what the series is now."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
CODE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the column and the table; neither has an index beside its key."""
    op.add_column("series", sa.Column("revision", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_table(
        "series_metadata",
        sa.Column("series_row_id", KEY, autoincrement=False, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("digest", CODE, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["series_row_id"], ["series.id"], name=op.f("fk_series_metadata_series_row_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("series_row_id", name=op.f("pk_series_metadata")),
    )


def downgrade() -> None:
    """Go back: never; restore a backup."""
    raise NotImplementedError
