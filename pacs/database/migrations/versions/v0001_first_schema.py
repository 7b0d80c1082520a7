"""The first schema: the four levels, names, requests, the change log and conflicts."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
CODE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
INSTANT = sa.BigInteger()


def upgrade() -> None:
    """Create every table of the first release."""
    _create_patients_and_studies()
    _create_series_and_instances()
    _create_logs()
    if op.get_bind().dialect.name == "sqlite":
        _state_figures()


def downgrade() -> None:
    """Go back: never; restore a backup."""
    raise NotImplementedError


def _create_patients_and_studies() -> None:
    op.create_table(
        "patient",
        sa.Column("id", KEY, sa.Identity(), nullable=False),
        sa.Column("partition_id", sa.SmallInteger(), nullable=False),
        sa.Column("identity", CODE, nullable=False),
        sa.Column("patient_id", CODE, nullable=False),
        sa.Column("issuer_of_patient_id", CODE, nullable=False),
        sa.Column("attributes", sa.Text(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_patient")),
        sa.UniqueConstraint("partition_id", "identity", name=op.f("uq_patient_partition_id_identity")),
    )
    op.create_table(
        "study",
        sa.Column("id", KEY, sa.Identity(), nullable=False),
        sa.Column("partition_id", sa.SmallInteger(), nullable=False),
        sa.Column("patient_row_id", KEY, nullable=False),
        sa.Column("study_instance_uid", CODE, nullable=False),
        sa.Column("patient_id", CODE),
        sa.Column("issuer_of_patient_id", CODE),
        sa.Column("patient_birth_date", CODE),
        sa.Column("patient_sex", CODE),
        sa.Column("study_date", CODE),
        sa.Column("study_time", CODE),
        sa.Column("accession_number", CODE),
        sa.Column("study_id", CODE),
        sa.Column("study_description", CODE),
        sa.Column("sort_key", CODE, nullable=False),
        sa.Column("attributes", sa.Text(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["patient_row_id"], ["patient.id"], name=op.f("fk_study_patient_row_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_study")),
        sa.UniqueConstraint(
            "partition_id", "study_instance_uid", name=op.f("uq_study_partition_id_study_instance_uid")
        ),
    )
    op.create_index(op.f("ix_study_partition_id_accession_number"), "study", ["partition_id", "accession_number"])
    op.create_index(op.f("ix_study_partition_id_patient_id"), "study", ["partition_id", "patient_id"])
    op.create_index(op.f("ix_study_partition_id_sort_key_id"), "study", ["partition_id", "sort_key", "id"])
    op.create_index(op.f("ix_study_partition_id_study_date"), "study", ["partition_id", "study_date"])
    op.create_index(op.f("ix_study_patient_row_id"), "study", ["patient_row_id"])
    op.create_table(
        "person_name",
        sa.Column("study_row_id", KEY, autoincrement=False, nullable=False),
        sa.Column("keyword", CODE, nullable=False),
        sa.Column("key", CODE, nullable=False),
        sa.ForeignKeyConstraint(["study_row_id"], ["study.id"], name=op.f("fk_person_name_study_row_id")),
        sa.PrimaryKeyConstraint("study_row_id", "keyword", "key", name=op.f("pk_person_name")),
    )
    op.create_index(op.f("ix_person_name_keyword_key_study_row_id"), "person_name", ["keyword", "key", "study_row_id"])


def _create_series_and_instances() -> None:
    op.create_table(
        "series",
        sa.Column("id", KEY, sa.Identity(), nullable=False),
        sa.Column("partition_id", sa.SmallInteger(), nullable=False),
        sa.Column("study_row_id", KEY, nullable=False),
        sa.Column("series_instance_uid", CODE, nullable=False),
        sa.Column("modality", CODE),
        sa.Column("series_number", sa.BigInteger()),
        sa.Column("series_description", CODE),
        sa.Column("series_date", CODE),
        sa.Column("series_time", CODE),
        sa.Column("performed_procedure_step_start_date", CODE),
        sa.Column("performed_procedure_step_start_time", CODE),
        sa.Column("body_part_examined", CODE),
        sa.Column("laterality", CODE),
        sa.Column("protocol_name", CODE),
        sa.Column("institution_name", CODE),
        sa.Column("institutional_department_name", CODE),
        sa.Column("station_name", CODE),
        sa.Column("manufacturer", CODE),
        sa.Column("manufacturer_model_name", CODE),
        sa.Column("instance_count", sa.Integer(), nullable=False),
        sa.Column("sop_class_uids", sa.Text(), nullable=False),
        sa.Column("attributes", sa.Text(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["study_row_id"], ["study.id"], name=op.f("fk_series_study_row_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_series")),
        sa.UniqueConstraint(
            "partition_id",
            "study_row_id",
            "series_instance_uid",
            name=op.f("uq_series_partition_id_study_row_id_series_instance_uid"),
        ),
    )
    op.create_index(
        op.f("ix_series_partition_id_series_instance_uid"), "series", ["partition_id", "series_instance_uid"]
    )
    op.create_index(op.f("ix_series_study_row_id_modality"), "series", ["study_row_id", "modality"])
    op.create_table(
        "request_attribute",
        sa.Column("id", KEY, sa.Identity(), nullable=False),
        sa.Column("series_row_id", KEY, nullable=False),
        sa.Column("scheduled_procedure_step_id", CODE),
        sa.Column("requested_procedure_id", CODE),
        sa.ForeignKeyConstraint(["series_row_id"], ["series.id"], name=op.f("fk_request_attribute_series_row_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_request_attribute")),
    )
    op.create_index(
        op.f("ix_request_attribute_requested_procedure_id"), "request_attribute", ["requested_procedure_id"]
    )
    op.create_index(
        op.f("ix_request_attribute_scheduled_procedure_step_id"), "request_attribute", ["scheduled_procedure_step_id"]
    )
    op.create_index(op.f("ix_request_attribute_series_row_id"), "request_attribute", ["series_row_id"])
    op.create_table(
        "instance",
        sa.Column("id", KEY, sa.Identity(), nullable=False),
        sa.Column("partition_id", sa.SmallInteger(), nullable=False),
        sa.Column("series_row_id", KEY, nullable=False),
        sa.Column("sop_instance_uid", CODE, nullable=False),
        sa.Column("sop_class_uid", CODE, nullable=False),
        sa.Column("instance_number", sa.BigInteger()),
        sa.Column("transfer_syntax_uid", sa.Text(), nullable=False),
        sa.Column("blob_key", CODE, nullable=False),
        sa.Column("blob_offset", sa.BigInteger(), nullable=False),
        sa.Column("blob_length", sa.BigInteger(), nullable=False),
        sa.Column("dataset_digest", sa.LargeBinary(), nullable=False),
        sa.Column("stored_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["series_row_id"], ["series.id"], name=op.f("fk_instance_series_row_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instance")),
        sa.UniqueConstraint("partition_id", "sop_instance_uid", name=op.f("uq_instance_partition_id_sop_instance_uid")),
    )
    op.create_index(op.f("ix_instance_blob_key"), "instance", ["blob_key"])
    op.create_index(op.f("ix_instance_series_row_id_instance_number"), "instance", ["series_row_id", "instance_number"])
    op.create_table(
        "instance_header",
        sa.Column("instance_row_id", KEY, autoincrement=False, nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("attributes", sa.LargeBinary(), nullable=False),
        sa.Column("bulk", sa.Text(), nullable=False),
        sa.Column("layout", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["instance_row_id"], ["instance.id"], name=op.f("fk_instance_header_instance_row_id")),
        sa.PrimaryKeyConstraint("instance_row_id", name=op.f("pk_instance_header")),
    )


def _create_logs() -> None:
    op.create_table(
        "change",
        sa.Column("sequence", KEY, sa.Identity(), nullable=False),
        sa.Column("transaction_id", sa.BigInteger(), nullable=False),
        sa.Column("partition_id", sa.SmallInteger(), nullable=False),
        sa.Column("kind", CODE, nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("study_instance_uid", CODE, nullable=False),
        sa.Column("series_instance_uid", CODE, nullable=False),
        sa.Column("sop_instance_uid", CODE, nullable=False),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_change")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        op.f("ix_change_partition_id_transaction_id_sequence"), "change", ["partition_id", "transaction_id", "sequence"]
    )
    op.create_table(
        "conflict",
        sa.Column("id", KEY, sa.Identity(), nullable=False),
        sa.Column("partition_id", sa.SmallInteger(), nullable=False),
        sa.Column("kind", CODE, nullable=False),
        sa.Column("distinction", CODE, nullable=False),
        sa.Column("study_instance_uid", CODE, nullable=False),
        sa.Column("series_instance_uid", CODE, nullable=False),
        sa.Column("sop_instance_uid", CODE, nullable=False),
        sa.Column("blob_key", CODE),
        sa.Column("blob_offset", sa.BigInteger()),
        sa.Column("blob_length", sa.BigInteger()),
        sa.Column("dataset_digest", sa.LargeBinary()),
        sa.Column("transfer_syntax_uid", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("found_at", INSTANT, nullable=False),
        sa.Column("resolved_at", INSTANT),
        sa.Column("resolution", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_conflict")),
        sa.UniqueConstraint(
            "partition_id", "kind", "distinction", name=op.f("uq_conflict_partition_id_kind_distinction")
        ),
    )
    op.create_index(op.f("ix_conflict_blob_key"), "conflict", ["blob_key"])
    op.create_index(op.f("ix_conflict_partition_id_sop_instance_uid"), "conflict", ["partition_id", "sop_instance_uid"])


# SQLite plans by the figures that ANALYZE finds; without any it takes a partition for ten rows and walks it. Those of
# a big archive are stated once instead of measured: plans are right from the first day and never change over night.
# Rows of the index, then rows that share the first column, the first two, and so on.
_FIGURES = {
    ("patient", "sqlite_autoindex_patient_1"): "400000 400000 1",
    ("study", "sqlite_autoindex_study_1"): "1000000 1000000 1",
    ("study", "ix_study_patient_row_id"): "1000000 3",
    ("study", "ix_study_partition_id_sort_key_id"): "1000000 1000000 2 1",
    ("study", "ix_study_partition_id_patient_id"): "1000000 1000000 3",
    ("study", "ix_study_partition_id_accession_number"): "1000000 1000000 2",
    ("study", "ix_study_partition_id_study_date"): "1000000 1000000 300",
    ("series", "sqlite_autoindex_series_1"): "5000000 5000000 5 1",
    ("series", "ix_series_study_row_id_modality"): "5000000 5 3",
    ("series", "ix_series_partition_id_series_instance_uid"): "5000000 5000000 1",
    ("instance", "sqlite_autoindex_instance_1"): "500000000 500000000 1",
    ("instance", "ix_instance_series_row_id_instance_number"): "500000000 100 1",
    ("instance", "ix_instance_blob_key"): "500000000 1",
    ("person_name", "sqlite_autoindex_person_name_1"): "3000000 3 2 1",
    ("person_name", "ix_person_name_keyword_key_study_row_id"): "3000000 1500000 5 1",
    ("request_attribute", "ix_request_attribute_series_row_id"): "2000000 1",
    ("request_attribute", "ix_request_attribute_scheduled_procedure_step_id"): "2000000 2",
    ("request_attribute", "ix_request_attribute_requested_procedure_id"): "2000000 3",
    ("change", "ix_change_partition_id_transaction_id_sequence"): "500000000 500000000 1000 1",
    ("conflict", "sqlite_autoindex_conflict_1"): "10000 10000 5000 1",
    ("conflict", "ix_conflict_partition_id_sop_instance_uid"): "10000 10000 1",
    ("conflict", "ix_conflict_blob_key"): "10000 1",
}


def _state_figures() -> None:
    op.execute("ANALYZE")  # makes the table that holds the figures
    figures = sa.table("sqlite_stat1", sa.column("tbl"), sa.column("idx"), sa.column("stat"))
    op.execute(sa.delete(figures))
    rows = [{"tbl": table, "idx": index, "stat": stat} for (table, index), stat in _FIGURES.items()]
    op.get_bind().execute(sa.insert(figures), rows)
