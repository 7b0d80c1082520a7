"""Thumbnails, and the secrets that all processes of an archive share."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
CODE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "thumbnail",
        sa.Column("instance_row_id", KEY, autoincrement=False, nullable=False),
        sa.Column("revision", CODE, nullable=False),
        sa.Column("picture", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["instance_row_id"], ["instance.id"], name=op.f("fk_thumbnail_instance_row_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("instance_row_id", name=op.f("pk_thumbnail")),
    )
    op.create_table(
        "secret",
        sa.Column("name", CODE, nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_secret")),
    )
    if op.get_bind().dialect.name == "sqlite":
        figures = sa.table("sqlite_stat1", sa.column("tbl"), sa.column("idx"), sa.column("stat"))
        row = {"tbl": "secret", "idx": "sqlite_autoindex_secret_1", "stat": "10 1"}
        op.get_bind().execute(sa.insert(figures), row)


def downgrade() -> None:
    """Go back: never; restore a backup."""
    raise NotImplementedError
