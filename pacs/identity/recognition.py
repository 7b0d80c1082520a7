"""Whose cookie or token this is: asked of every request, so that the answer is kept for a few seconds.

Within these a session that has ended, a token that was revoked, and roles that were taken away still count; and where
the first account is made, so long the archive is still open.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from threading import Lock
from time import monotonic
from typing import Any

from sqlalchemy import Connection, Select, select

from pacs.access import GRANTS, Principal, permissions_of
from pacs.database.base import Database
from pacs.database.identity_tables import access_token, account, session
from pacs.identity.accounts import read_roles
from pacs.identity.secrets import digest_of
from pacs.identity.tokens import read_scopes

KEPT_SECONDS = 5.0
MAX_KEPT = 10_000


class Kind(StrEnum):
    """What somebody shows to come in."""

    SESSION = "session"
    TOKEN = "token"  # noqa: S105 - a kind


@dataclass(frozen=True, slots=True)
class Credential:
    """What somebody shows."""

    kind: Kind
    secret: str

    def __repr__(self) -> str:
        return f"Credential({self.kind})"


@dataclass(frozen=True, slots=True)
class Recognition:
    """Who it is, if anybody. ``is_open``: there is no account at all, nor ever was."""

    is_open: bool
    principal: Principal | None = None


OPEN = Recognition(is_open=True)
NOBODY = Recognition(is_open=False)


class Recogniser:
    """Knows who shows what. Any number of threads may call it at once, in any number of processes."""

    def __init__(self, database: Database, clock: Callable[[], float] = monotonic) -> None:
        self._database = database
        self._clock = clock
        self._lock = Lock()
        self._is_closed = False  # once there was an account, there always was
        self._open_until = float("-inf")
        self._kept: dict[tuple[Kind, bytes], tuple[float, Principal]] = {}

    def recall(self, credential: Credential | None) -> Recognition | None:
        """Return what is known without asking the database, or None."""
        now = self._clock()
        if now < self._open_until and not self._is_closed:
            return OPEN
        if credential is None:
            return NOBODY if self._is_closed else None
        kept = self._kept.get((credential.kind, digest_of(credential.secret)))
        return Recognition(is_open=False, principal=kept[1]) if kept is not None and now < kept[0] else None

    def recognise(self, credential: Credential | None) -> Recognition:
        """Return who it is as the database knows it now; it costs a look-up or two."""
        until = self._clock() + KEPT_SECONDS
        with self._database.read() as connection:
            if not self._is_closed and connection.execute(_ANY_ACCOUNT).first() is None:
                self._open_until = until
                return OPEN
            self._is_closed = True
            principal = None if credential is None else _find(connection, credential)
        if credential is None or principal is None:
            return NOBODY
        with self._lock:
            if len(self._kept) >= MAX_KEPT:
                self._kept.clear()
            self._kept[credential.kind, digest_of(credential.secret)] = (until, principal)
        return Recognition(is_open=False, principal=principal)

    def forget(self, credential: Credential) -> None:
        """Ask the database about this one the next time; for the process in which a session ends."""
        with self._lock:
            self._kept.pop((credential.kind, digest_of(credential.secret)), None)


def _find(connection: Connection, credential: Credential) -> Principal | None:
    statement = _SESSIONS if credential.kind is Kind.SESSION else _TOKENS
    table = session if credential.kind is Kind.SESSION else access_token
    row = connection.execute(
        statement.where(
            table.c.digest == digest_of(credential.secret),
            table.c.expires_at > datetime.now(UTC),
            account.c.removed_at.is_(None),
        )
    ).first()
    if row is None:
        return None
    roles = read_roles(row.roles)
    if credential.kind is Kind.SESSION:
        return Principal(row.name, permissions_of(roles), roles, session=str(row.id))
    scopes = read_scopes(row.scopes)
    allowed = frozenset(role for role in roles if GRANTS[role] & scopes)
    return Principal(row.name, permissions_of(roles) & scopes, allowed, session=f"token-{row.id}")


_ANY_ACCOUNT = select(account.c.id).limit(1)
_SESSIONS: Select[Any] = select(session.c.id, account.c.name, account.c.roles).join(account)
_TOKENS: Select[Any] = (
    select(access_token.c.id, access_token.c.scopes, account.c.name, account.c.roles)
    .join(account)
    .where(access_token.c.revoked_at.is_(None))
)
