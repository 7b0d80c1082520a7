"""Work items (UPS), who subscribes to them, and what happened to them."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
CODE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
INSTANT = sa.BigInteger()


def upgrade() -> None:
    """Add the tables."""
    _create_workitem()
    _create_workitem_study()
    _create_subscribers()
    _create_workitem_event()
    if op.get_bind().dialect.name == "sqlite":
        _state_figures()


def downgrade() -> None:
    """Go back: never; restore a backup."""
    raise NotImplementedError


def _create_workitem() -> None:
    op.create_table(
        "workitem",
        sa.Column("id", KEY, sa.Identity(), nullable=False),
        sa.Column("partition_id", sa.SmallInteger(), nullable=False),
        sa.Column("sop_instance_uid", CODE, nullable=False),
        sa.Column("state", CODE, nullable=False),
        sa.Column("transaction_uid", CODE, nullable=False),
        sa.Column("patient_id", CODE, nullable=False),
        sa.Column("worklist_label", CODE, nullable=False),
        sa.Column("start_key", CODE, nullable=False),
        sa.Column("attributes", sa.Text(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.Column("ended_at", INSTANT),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workitem")),
        sa.UniqueConstraint("partition_id", "sop_instance_uid", name=op.f("uq_workitem_partition_id_sop_instance_uid")),
    )
    for columns in (
        ["partition_id", "start_key", "id"],
        ["partition_id", "state", "start_key", "id"],
        ["partition_id", "patient_id"],
        ["ended_at"],
    ):
        op.create_index(op.f(f"ix_workitem_{'_'.join(columns)}"), "workitem", columns)


def _create_workitem_study() -> None:
    op.create_table(
        "workitem_study",
        sa.Column("workitem_row_id", KEY, autoincrement=False, nullable=False),
        sa.Column("study_instance_uid", CODE, nullable=False),
        sa.ForeignKeyConstraint(["workitem_row_id"], ["workitem.id"], name=op.f("fk_workitem_study_workitem_row_id")),
        sa.PrimaryKeyConstraint("workitem_row_id", "study_instance_uid", name=op.f("pk_workitem_study")),
    )
    op.create_index(op.f("ix_workitem_study_study_instance_uid"), "workitem_study", ["study_instance_uid"])


def _create_subscribers() -> None:
    op.create_table(
        "workitem_subscriber",
        sa.Column("workitem_row_id", KEY, autoincrement=False, nullable=False),
        sa.Column("ae_title", CODE, nullable=False),
        sa.Column("has_lock", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["workitem_row_id"], ["workitem.id"], name=op.f("fk_workitem_subscriber_workitem_row_id")
        ),
        sa.PrimaryKeyConstraint("workitem_row_id", "ae_title", name=op.f("pk_workitem_subscriber")),
    )
    op.create_index(op.f("ix_workitem_subscriber_ae_title"), "workitem_subscriber", ["ae_title"])
    op.create_table(
        "worklist_subscriber",
        sa.Column("partition_id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("worklist_uid", CODE, nullable=False),
        sa.Column("ae_title", CODE, nullable=False),
        sa.Column("has_lock", sa.Boolean(), nullable=False),
        sa.Column("filter", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("partition_id", "worklist_uid", "ae_title", name=op.f("pk_worklist_subscriber")),
    )


def _create_workitem_event() -> None:
    op.create_table(
        "workitem_event",
        sa.Column("sequence", KEY, sa.Identity(), nullable=False),
        sa.Column("transaction_id", sa.BigInteger(), nullable=False),
        sa.Column("partition_id", sa.SmallInteger(), nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("recipients", CODE, nullable=False),
        sa.Column("report", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_workitem_event")),
        sqlite_autoincrement=True,
    )
    columns = ["partition_id", "transaction_id", "sequence"]
    op.create_index(op.f("ix_workitem_event_partition_id_transaction_id_sequence"), "workitem_event", columns)
    op.create_index(op.f("ix_workitem_event_at"), "workitem_event", ["at"])


_FIGURES = {
    ("workitem", "sqlite_autoindex_workitem_1"): "100000 100000 1",
    ("workitem", "ix_workitem_partition_id_start_key_id"): "100000 100000 2 1",
    ("workitem", "ix_workitem_partition_id_state_start_key_id"): "100000 100000 25000 2 1",
    ("workitem", "ix_workitem_partition_id_patient_id"): "100000 100000 5",
    ("workitem", "ix_workitem_ended_at"): "100000 2",
    ("workitem_study", "sqlite_autoindex_workitem_study_1"): "200000 2 1",
    ("workitem_study", "ix_workitem_study_study_instance_uid"): "200000 2",
    ("workitem_subscriber", "sqlite_autoindex_workitem_subscriber_1"): "200000 2 1",
    ("workitem_subscriber", "ix_workitem_subscriber_ae_title"): "200000 50000",
    ("worklist_subscriber", "sqlite_autoindex_worklist_subscriber_1"): "20 20 10 1",
    ("workitem_event", "ix_workitem_event_partition_id_transaction_id_sequence"): "10000 10000 1 1",
    ("workitem_event", "ix_workitem_event_at"): "10000 1",
}
"""What SQLite's planner is told of these indexes, as in the first schema: an archive that has grown."""


def _state_figures() -> None:
    figures = sa.table("sqlite_stat1", sa.column("tbl"), sa.column("idx"), sa.column("stat"))
    rows = [{"tbl": table, "idx": index, "stat": stat} for (table, index), stat in _FIGURES.items()]
    op.get_bind().execute(sa.insert(figures), rows)
