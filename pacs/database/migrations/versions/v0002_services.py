"""What the services besides storing need: deliveries, commitments, worklists, corrections and what is withheld."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
CODE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
INSTANT = sa.BigInteger()


def upgrade() -> None:
    """Add the tables, and what corrections and coercion lay over patients, studies and instances."""
    _add_columns()
    _create_job()
    _create_follower()
    _create_commitment()
    _create_scheduled_step()
    _create_performed_step()
    _create_correction()
    _create_withheld_instance()
    if op.get_bind().dialect.name == "sqlite":
        _state_figures()


def downgrade() -> None:
    """Go back: never; restore a backup."""
    raise NotImplementedError


def _add_columns() -> None:
    op.add_column("patient", sa.Column("merged_into_row_id", KEY))
    op.create_index(op.f("ix_patient_merged_into_row_id"), "patient", ["merged_into_row_id"])
    op.add_column("patient", sa.Column("overlay", sa.Text(), nullable=False, server_default=""))
    op.add_column("study", sa.Column("overlay", sa.Text(), nullable=False, server_default=""))
    op.add_column("instance_header", sa.Column("overlay", sa.Text(), nullable=False, server_default=""))
    op.add_column("instance_header", sa.Column("origin", sa.Text(), nullable=False, server_default=""))


def _create_job() -> None:
    op.create_table(
        "job",
        sa.Column("id", KEY, sa.Identity(), nullable=False),
        sa.Column("kind", CODE, nullable=False),
        sa.Column("lane", CODE, nullable=False),
        sa.Column("key", CODE, nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("state", CODE, nullable=False),
        sa.Column("due_at", INSTANT, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("finished_at", INSTANT),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job")),
        sa.UniqueConstraint("kind", "lane", "key", name=op.f("uq_job_kind_lane_key")),
    )
    op.create_index(op.f("ix_job_state_due_at"), "job", ["state", "due_at"])
    op.create_index(op.f("ix_job_kind_lane_state_due_at"), "job", ["kind", "lane", "state", "due_at"])


def _create_follower() -> None:
    op.create_table(
        "follower",
        sa.Column("name", CODE, nullable=False),
        sa.Column("transaction_id", sa.BigInteger(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_follower")),
    )


def _create_commitment() -> None:
    op.create_table(
        "commitment",
        sa.Column("id", KEY, sa.Identity(), nullable=False),
        sa.Column("partition_id", sa.SmallInteger(), nullable=False),
        sa.Column("role", CODE, nullable=False),
        sa.Column("peer", CODE, nullable=False),
        sa.Column("transaction_uid", CODE, nullable=False),
        sa.Column("state", CODE, nullable=False),
        sa.Column("asked_at", INSTANT, nullable=False),
        sa.Column("reported_at", INSTANT),
        sa.Column("items", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_commitment")),
        sa.UniqueConstraint(
            "partition_id",
            "role",
            "peer",
            "transaction_uid",
            name=op.f("uq_commitment_partition_id_role_peer_transaction_uid"),
        ),
    )
    op.create_index(op.f("ix_commitment_state"), "commitment", ["state"])


def _create_scheduled_step() -> None:
    op.create_table(
        "scheduled_step",
        sa.Column("id", KEY, sa.Identity(), nullable=False),
        sa.Column("partition_id", sa.SmallInteger(), nullable=False),
        sa.Column("requested_procedure_id", CODE, nullable=False),
        sa.Column("scheduled_procedure_step_id", CODE, nullable=False),
        sa.Column("study_instance_uid", CODE, nullable=False),
        sa.Column("accession_number", CODE, nullable=False),
        sa.Column("patient_id", CODE, nullable=False),
        sa.Column("modality", CODE, nullable=False),
        sa.Column("station_ae_titles", CODE, nullable=False),
        sa.Column("start_date", CODE, nullable=False),
        sa.Column("start_time", CODE, nullable=False),
        sa.Column("state", CODE, nullable=False),
        sa.Column("source", CODE, nullable=False),
        sa.Column("attributes", sa.Text(), nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_scheduled_step")),
        sa.UniqueConstraint(
            "partition_id",
            "requested_procedure_id",
            "scheduled_procedure_step_id",
            "study_instance_uid",
            name=op.f(
                "uq_scheduled_step_partition_id_requested_procedure_id_scheduled_procedure_step_id_study_instance_uid"
            ),
        ),
    )
    op.create_index(
        op.f("ix_scheduled_step_partition_id_state_start_date_start_time"),
        "scheduled_step",
        ["partition_id", "state", "start_date", "start_time"],
    )
    op.create_index(op.f("ix_scheduled_step_source"), "scheduled_step", ["source"])
    op.create_index(
        op.f("ix_scheduled_step_partition_id_study_instance_uid"),
        "scheduled_step",
        ["partition_id", "study_instance_uid"],
    )
    op.create_index(
        op.f("ix_scheduled_step_partition_id_accession_number"), "scheduled_step", ["partition_id", "accession_number"]
    )


def _create_performed_step() -> None:
    op.create_table(
        "performed_step",
        sa.Column("id", KEY, sa.Identity(), nullable=False),
        sa.Column("partition_id", sa.SmallInteger(), nullable=False),
        sa.Column("sop_instance_uid", CODE, nullable=False),
        sa.Column("state", CODE, nullable=False),
        sa.Column("study_instance_uids", CODE, nullable=False),
        sa.Column("calling_ae_title", CODE, nullable=False),
        sa.Column("attributes", sa.Text(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_performed_step")),
        sa.UniqueConstraint(
            "partition_id", "sop_instance_uid", name=op.f("uq_performed_step_partition_id_sop_instance_uid")
        ),
    )


def _create_correction() -> None:
    op.create_table(
        "correction",
        sa.Column("id", KEY, sa.Identity(), nullable=False),
        sa.Column("partition_id", sa.SmallInteger(), nullable=False),
        sa.Column("kind", CODE, nullable=False),
        sa.Column("by", CODE, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.Column("undone_at", INSTANT),
        sa.Column("undone_by", CODE),
        sa.Column("subject", CODE, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_correction")),
    )
    op.create_index(op.f("ix_correction_partition_id_subject"), "correction", ["partition_id", "subject"])
    op.create_table(
        "corrected_study",
        sa.Column("study_row_id", KEY, autoincrement=False, nullable=False),
        sa.Column("correction_id", KEY, autoincrement=False, nullable=False),
        sa.Column("received_patient_row_id", KEY, nullable=False),
        sa.ForeignKeyConstraint(["study_row_id"], ["study.id"], name=op.f("fk_corrected_study_study_row_id")),
        sa.ForeignKeyConstraint(["correction_id"], ["correction.id"], name=op.f("fk_corrected_study_correction_id")),
        sa.ForeignKeyConstraint(
            ["received_patient_row_id"], ["patient.id"], name=op.f("fk_corrected_study_received_patient_row_id")
        ),
        sa.PrimaryKeyConstraint("study_row_id", "correction_id", name=op.f("pk_corrected_study")),
    )
    op.create_index(op.f("ix_corrected_study_correction_id"), "corrected_study", ["correction_id"])
    op.create_index(op.f("ix_corrected_study_received_patient_row_id"), "corrected_study", ["received_patient_row_id"])


def _create_withheld_instance() -> None:
    op.create_table(
        "withheld_instance",
        sa.Column("id", KEY, sa.Identity(), nullable=False),
        sa.Column("partition_id", sa.SmallInteger(), nullable=False),
        sa.Column("study_instance_uid", CODE, nullable=False),
        sa.Column("series_instance_uid", CODE, nullable=False),
        sa.Column("sop_instance_uid", CODE, nullable=False),
        sa.Column("sop_class_uid", CODE, nullable=False),
        sa.Column("transfer_syntax_uid", sa.Text(), nullable=False),
        sa.Column("blob_key", CODE, nullable=False),
        sa.Column("blob_offset", sa.BigInteger(), nullable=False),
        sa.Column("blob_length", sa.BigInteger(), nullable=False),
        sa.Column("dataset_digest", sa.LargeBinary(), nullable=False),
        sa.Column("overlay", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("stored_at", INSTANT, nullable=False),
        sa.Column("reason", CODE, nullable=False),
        sa.Column("by", CODE, nullable=False),
        sa.Column("note_sop_instance_uid", CODE, nullable=False),
        sa.Column("withheld_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_withheld_instance")),
    )
    op.create_index(op.f("ix_withheld_instance_blob_key"), "withheld_instance", ["blob_key"])
    op.create_index(
        op.f("ix_withheld_instance_partition_id_sop_instance_uid"),
        "withheld_instance",
        ["partition_id", "sop_instance_uid"],
    )
    op.create_index(
        op.f("ix_withheld_instance_partition_id_study_instance_uid"),
        "withheld_instance",
        ["partition_id", "study_instance_uid"],
    )
    op.create_index(op.f("ix_withheld_instance_note_sop_instance_uid"), "withheld_instance", ["note_sop_instance_uid"])


_FIGURES = {
    ("patient", "ix_patient_merged_into_row_id"): "300000 100",
    ("job", "sqlite_autoindex_job_1"): "1000000 500000 100000 1",
    ("job", "ix_job_state_due_at"): "1000000 500000 10",
    ("job", "ix_job_kind_lane_state_due_at"): "1000000 500000 100000 50000 10",
    ("follower", "sqlite_autoindex_follower_1"): "10 1",
    ("commitment", "sqlite_autoindex_commitment_1"): "100000 100000 50000 1000 1",
    ("commitment", "ix_commitment_state"): "100000 50000",
    ("scheduled_step", "sqlite_autoindex_scheduled_step_1"): "100000 100000 10 2 1",
    ("scheduled_step", "ix_scheduled_step_partition_id_state_start_date_start_time"): "100000 100000 20000 50 2",
    ("scheduled_step", "ix_scheduled_step_source"): "100000 2",
    ("scheduled_step", "ix_scheduled_step_partition_id_study_instance_uid"): "100000 100000 2",
    ("scheduled_step", "ix_scheduled_step_partition_id_accession_number"): "100000 100000 2",
    ("performed_step", "sqlite_autoindex_performed_step_1"): "100000 100000 1",
    ("correction", "ix_correction_partition_id_subject"): "100000 100000 2",
    ("corrected_study", "sqlite_autoindex_corrected_study_1"): "100000 2 1",
    ("corrected_study", "ix_corrected_study_correction_id"): "100000 2",
    ("corrected_study", "ix_corrected_study_received_patient_row_id"): "100000 2",
    ("withheld_instance", "ix_withheld_instance_blob_key"): "100000 1",
    ("withheld_instance", "ix_withheld_instance_partition_id_sop_instance_uid"): "100000 100000 1",
    ("withheld_instance", "ix_withheld_instance_partition_id_study_instance_uid"): "100000 100000 100",
    ("withheld_instance", "ix_withheld_instance_note_sop_instance_uid"): "100000 100",
}
"""What SQLite's planner is told of these indexes, as in the first schema: an archive that has grown."""


def _state_figures() -> None:
    figures = sa.table("sqlite_stat1", sa.column("tbl"), sa.column("idx"), sa.column("stat"))
    rows = [{"tbl": table, "idx": index, "stat": stat} for (table, index), stat in _FIGURES.items()]
    op.get_bind().execute(sa.insert(figures), rows)
