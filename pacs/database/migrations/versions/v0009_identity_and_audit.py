"""Accounts, sessions and tokens; and the audit log, whose entries are chained and never change again."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
CODE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the tables, and let the database itself refuse to change what is in the log."""
    op.create_table(
        "audit",
        sa.Column("id", KEY, sa.Identity(), nullable=False),
        sa.Column("position", sa.BigInteger()),
        sa.Column("digest", sa.LargeBinary()),
        sa.Column("at", sa.BigInteger(), nullable=False),
        *(
            sa.Column(name, CODE, nullable=False)
            for name in ("kind", "outcome", "principal", "address", "session", "project", "subject")
        ),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
        sa.UniqueConstraint("position", name=op.f("uq_audit_position")),
        sqlite_autoincrement=True,
    )
    for column in ("project", "subject"):
        op.create_index(op.f(f"ix_audit_{column}_id"), "audit", [column, "id"])
    head = op.create_table(
        "audit_head",
        sa.Column("id", KEY, autoincrement=False, nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_head")),
    )
    op.bulk_insert(head, [{"id": 1, "position": 0, "digest": bytes(32)}])
    for statement in _GUARDS[op.get_bind().dialect.name]:
        op.execute(statement)
    _add_accounts()
    if op.get_bind().dialect.name == "sqlite":
        figures = sa.table("sqlite_stat1", sa.column("tbl"), sa.column("idx"), sa.column("stat"))
        rows = [{"tbl": table, "idx": index, "stat": stat} for (table, index), stat in _FIGURES.items()]
        op.get_bind().execute(sa.insert(figures), rows)


def downgrade() -> None:
    """Go back: never; restore a backup."""
    raise NotImplementedError


def _add_accounts() -> None:
    op.create_table(
        "account",
        sa.Column("id", KEY, sa.Identity(), nullable=False),
        sa.Column("name", CODE, nullable=False),
        sa.Column("password", CODE, nullable=False),
        sa.Column("roles", CODE, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("removed_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_account")),
        sa.UniqueConstraint("name", name=op.f("uq_account_name")),
    )
    for table, columns in (
        ("session", ()),
        (
            "access_token",
            (
                sa.Column("label", sa.Text(), nullable=False),
                sa.Column("scopes", CODE, nullable=False),
                sa.Column("revoked_at", sa.BigInteger()),
            ),
        ),
    ):
        op.create_table(
            table,
            sa.Column("id", KEY, sa.Identity(), nullable=False),
            sa.Column("account_id", KEY, nullable=False),
            sa.Column("digest", sa.LargeBinary(), nullable=False),
            sa.Column("created_at", sa.BigInteger(), nullable=False),
            sa.Column("expires_at", sa.BigInteger(), nullable=False),
            *columns,
            sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f(f"fk_{table}_account_id")),
            sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{table}")),
            sa.UniqueConstraint("digest", name=op.f(f"uq_{table}_digest")),
            sqlite_autoincrement=table == "session",
        )
        op.create_index(op.f(f"ix_{table}_account_id"), table, ["account_id"])
    op.create_index(op.f("ix_session_expires_at"), "session", ["expires_at"])
    op.create_table(
        "login_attempt",
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("last_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_login_attempt")),
    )
    op.create_index(op.f("ix_login_attempt_last_at"), "login_attempt", ["last_at"])


_FIGURES = {
    ("audit", "sqlite_autoindex_audit_1"): "1000000 1",
    ("audit", "ix_audit_project_id"): "1000000 50000 1",
    ("audit", "ix_audit_subject_id"): "1000000 10 1",
    ("account", "sqlite_autoindex_account_1"): "200 1",
    ("session", "sqlite_autoindex_session_1"): "1000 1",
    ("session", "ix_session_account_id"): "1000 5",
    ("session", "ix_session_expires_at"): "1000 1",
    ("access_token", "sqlite_autoindex_access_token_1"): "200 1",
    ("access_token", "ix_access_token_account_id"): "200 2",
    ("login_attempt", "sqlite_autoindex_login_attempt_1"): "1000 1",
    ("login_attempt", "ix_login_attempt_last_at"): "1000 1",
}
"""What SQLite's planner is told of the indexes, as in the first schema."""

_ENTRY = ("id", "at", "kind", "outcome", "principal", "address", "session", "project", "subject", "facts")
_IS_CHANGED = " OR ".join(f"old.{name} IS DISTINCT FROM new.{name}" for name in _ENTRY)
_CHANGES = f"old.position IS NOT NULL OR {_IS_CHANGED}"
_SQLITE_CHANGES = _CHANGES.replace("IS DISTINCT FROM", "IS NOT")  # so that older versions of it understand
_REFUSAL = "the audit log is append-only"
_SQLITE_REFUSES = f"BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
_POSTGRES_REFUSES = f"BEGIN RAISE EXCEPTION '{_REFUSAL}'; END"
_REFUSE = "audit_refuses()"

_GUARDS = {
    "sqlite": (
        f"CREATE TRIGGER audit_keeps BEFORE UPDATE ON audit WHEN {_SQLITE_CHANGES} {_SQLITE_REFUSES}",
        f"CREATE TRIGGER audit_loses_nothing BEFORE DELETE ON audit {_SQLITE_REFUSES}",
    ),
    "postgresql": (
        f"CREATE FUNCTION {_REFUSE} RETURNS trigger LANGUAGE plpgsql AS $$ {_POSTGRES_REFUSES} $$",
        f"CREATE TRIGGER audit_keeps BEFORE UPDATE ON audit FOR EACH ROW WHEN ({_CHANGES}) EXECUTE FUNCTION {_REFUSE}",
        f"CREATE TRIGGER audit_loses_nothing BEFORE DELETE OR TRUNCATE ON audit EXECUTE FUNCTION {_REFUSE}",
    ),
}
"""An entry changes once, when it gets its place in the chain. This stops a slip, not whoever may drop the triggers."""
