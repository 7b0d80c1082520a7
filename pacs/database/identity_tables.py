"""The tables of who may come in, and of what was done: accounts, sessions, tokens, and the audit log.

They belong to the same schema as ``tables`` and are migrated with it.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
)

from pacs.database.tables import Code, Instant, Key, metadata

__all__ = ["access_token", "account", "audit", "audit_head", "login_attempt", "metadata", "session"]

audit = Table(
    "audit",
    metadata,
    Column("id", Key, Identity(), primary_key=True),
    Column("position", BigInteger),  # its place in the chain, from 1; nothing until the sealer has come by
    Column("digest", LargeBinary),  # SHA-256 over the digest before and this entry
    Column("at", Instant, nullable=False),
    Column("kind", Code, nullable=False),
    Column("outcome", Code, nullable=False),
    Column("principal", Code, nullable=False),
    Column("address", Code, nullable=False),  # where he asked from
    Column("session", Code, nullable=False),
    Column("project", Code, nullable=False),  # of research, or nothing
    Column("subject", Code, nullable=False),  # what it was done to: a UID, an account, a cohort
    Column("facts", Text, nullable=False),  # as canonical JSON
    UniqueConstraint("position"),
    Index(None, "project", "id"),
    Index(None, "subject", "id"),
    sqlite_autoincrement=True,  # a number is never given twice, so that a removed entry leaves its place empty
)

audit_head = Table(
    "audit_head",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=False),  # 1: there is one chain, and who extends it locks its row
    Column("position", BigInteger, nullable=False),
    Column("digest", LargeBinary, nullable=False),
)

account = Table(
    "account",
    metadata,
    Column("id", Key, Identity(), primary_key=True),
    Column("name", Code, nullable=False),
    Column("password", Code, nullable=False),  # Argon2's own text; empty for whoever has tokens only
    Column("roles", Code, nullable=False),  # separated by spaces
    Column("created_at", Instant, nullable=False),
    Column("removed_at", Instant),  # the row stays, for a name is never given to another
    UniqueConstraint("name"),
)

session = Table(
    "session",
    metadata,
    Column("id", Key, Identity(), primary_key=True),
    Column("account_id", Key, ForeignKey("account.id"), nullable=False, index=True),
    Column("digest", LargeBinary, nullable=False),  # SHA-256 of what the cookie holds
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    UniqueConstraint("digest"),
    Index(None, "expires_at"),
    sqlite_autoincrement=True,  # in the audit log a number is one session for ever, though its row goes
)

access_token = Table(
    "access_token",
    metadata,
    Column("id", Key, Identity(), primary_key=True),
    Column("account_id", Key, ForeignKey("account.id"), nullable=False, index=True),
    Column("label", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),  # SHA-256 of the token
    Column("scopes", Code, nullable=False),  # permissions, separated by spaces
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("revoked_at", Instant),
    UniqueConstraint("digest"),
)

login_attempt = Table(
    "login_attempt",
    metadata,
    Column("key", LargeBinary, primary_key=True),  # SHA-256 of a name or an address: neither may be anybody's account
    Column("failures", Integer, nullable=False),
    Column("last_at", Instant, nullable=False),
    Index(None, "last_at"),
)
