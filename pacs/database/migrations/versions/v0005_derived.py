"""What was made of stored images: originals that were recompressed."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
CODE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
INSTANT = sa.BigInteger()


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "original",
        sa.Column("id", KEY, sa.Identity(), nullable=False),
        sa.Column("partition_id", sa.SmallInteger(), nullable=False),
        sa.Column("sop_instance_uid", CODE, nullable=False),
        sa.Column("transfer_syntax_uid", sa.Text(), nullable=False),
        sa.Column("blob_key", CODE, nullable=False),
        sa.Column("blob_offset", sa.BigInteger(), nullable=False),
        sa.Column("blob_length", sa.BigInteger(), nullable=False),
        sa.Column("blob_digest", sa.LargeBinary(), nullable=False),
        sa.Column("dataset_digest", sa.LargeBinary(), nullable=False),
        sa.Column("recompressed_at", INSTANT, nullable=False),
        sa.Column("kept_until", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_original")),
    )
    for columns in (["blob_key"], ["partition_id", "sop_instance_uid"], ["partition_id", "kept_until"]):
        op.create_index(op.f(f"ix_original_{'_'.join(columns)}"), "original", columns)
    if op.get_bind().dialect.name == "sqlite":
        _state_figures()


def downgrade() -> None:
    """Go back: never; restore a backup."""
    raise NotImplementedError


_FIGURES = {
    "ix_original_blob_key": "1000000 2",
    "ix_original_partition_id_sop_instance_uid": "1000000 1000000 1",
    "ix_original_partition_id_kept_until": "1000000 1000000 2",
}
"""What SQLite's planner is told of these indexes, as in the first schema: an archive that has grown."""


def _state_figures() -> None:
    figures = sa.table("sqlite_stat1", sa.column("tbl"), sa.column("idx"), sa.column("stat"))
    rows = [{"tbl": "original", "idx": index, "stat": stat} for index, stat in _FIGURES.items()]
    op.get_bind().execute(sa.insert(figures), rows)
