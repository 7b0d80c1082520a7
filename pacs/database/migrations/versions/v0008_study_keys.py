"""Study ID and birth date are found by an index, as the other keys that people search by (PS3.4 C.6.2.1)."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_FIGURES = {
    "ix_study_partition_id_study_id_sort_key_id": "1000000 1000000 2 1 1",
    "ix_study_partition_id_patient_birth_date_sort_key_id": "1000000 1000000 40 1 1",
}
"""What SQLite's planner is told of these indexes, as in the first schema: an archive that has grown."""


def upgrade() -> None:
    """Add the indexes. They are of studies: one more instance costs nothing; and they go on with the studies' order."""
    for column in ("study_id", "patient_birth_date"):
        columns = ["partition_id", column, "sort_key", "id"]
        op.create_index(op.f(f"ix_study_{'_'.join(columns)}"), "study", columns)
    if op.get_bind().dialect.name == "sqlite":
        figures = sa.table("sqlite_stat1", sa.column("tbl"), sa.column("idx"), sa.column("stat"))
        rows = [{"tbl": "study", "idx": index, "stat": stat} for index, stat in _FIGURES.items()]
        op.get_bind().execute(sa.insert(figures), rows)


def downgrade() -> None:
    """Go back: never; restore a backup."""
    raise NotImplementedError
