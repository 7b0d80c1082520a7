"""The chain: each entry's digest covers the digest before it, so that none can be changed, moved or left out unnoticed.

An entry gets its place after its transaction has committed, one batch at a time, from whoever holds the row of the
head. So places are in the order of sealing, have no gap, and cost the transactions that write entries nothing.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import Connection, Row, bindparam, select, update

from pacs.audit.entries import dump_canonical
from pacs.database.identity_tables import audit, audit_head

BATCH = 500
DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True)
class Head:
    """How far the chain has come: the place and the digest of its last entry. The empty chain has one, too."""

    position: int = 0
    digest: bytes = bytes(DIGEST_BYTES)

    def __str__(self) -> str:
        return f"{self.position}:{self.digest.hex()}"


def parse_head(text: str) -> Head:
    """Return the head that ``str`` made this text of; raise ValueError for any other text."""
    position, _, digest = text.strip().partition(":")
    head = Head(int(position), bytes.fromhex(digest))
    if head.position < 0 or len(head.digest) != DIGEST_BYTES:
        raise ValueError
    return head


def describe(row: Row[Any] | Mapping[str, Any], position: int) -> dict[str, Any]:
    """Return an entry as what its digest is taken of, and what is exported; a damaged one raises ValueError."""
    values = row if isinstance(row, Mapping) else row._mapping  # noqa: SLF001 - it is the name that SQLAlchemy documents
    at: datetime = values["at"]
    return {
        "position": position,
        "id": values["id"],
        "at": f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}Z",
        **{name: values[name] for name in _TEXTS},
        "facts": orjson.loads(values["facts"]),
    }


def digest_of(before: bytes, entry: Mapping[str, Any]) -> bytes:
    """Return the digest of an entry that follows one with the digest ``before``."""
    return hashlib.sha256(before + dump_canonical(entry)).digest()


def has_unsealed(connection: Connection) -> bool:
    """Return whether an entry waits for its place; it costs one look at an index."""
    return connection.execute(_UNSEALED.limit(1)).first() is not None


def seal(connection: Connection) -> int:
    """Give a batch of entries their places in the caller's transaction; return how many, fewer once all have one.

    Whoever else seals waits for this transaction, whatever the engine.
    """
    head = read_head(connection, for_update=True)
    rows = connection.execute(_UNSEALED.limit(BATCH)).all()
    sealed = []
    for row in rows:
        position = head.position + 1
        head = Head(position, digest_of(head.digest, describe(row, position)))
        sealed.append({"row_id": row.id, "new_position": position, "new_digest": head.digest})
    if sealed:
        connection.execute(_SEAL, sealed)
        connection.execute(update(audit_head).values(position=head.position, digest=head.digest))
    return len(sealed)


def read_head(connection: Connection, *, for_update: bool = False) -> Head:
    """Return the head; SQLite has one writer at a time, who need not lock a row."""
    statement = select(audit_head.c.position, audit_head.c.digest)
    row = connection.execute(statement.with_for_update() if for_update else statement).first()
    return Head(row.position, bytes(row.digest)) if row else Head()


def find_digest(connection: Connection, position: int) -> bytes | None:
    """Return the digest of the entry at a place, None if there is none."""
    digest = connection.execute(select(audit.c.digest).where(audit.c.position == position)).scalar()
    return None if digest is None else bytes(digest)


_TEXTS = ("kind", "outcome", "principal", "address", "session", "project", "subject")

_UNSEALED = select(audit).where(audit.c.position.is_(None)).order_by(audit.c.id)
_SEAL = (
    update(audit)
    .where(audit.c.id == bindparam("row_id"))
    .values(position=bindparam("new_position"), digest=bindparam("new_digest"))
)
