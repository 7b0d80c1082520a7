"""Tokens, by which programs come in on behalf of an account: shown once, for some of what it may do, until some day."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from pacs.access import Permission, Principal, permissions_of
from pacs.audit import Entry, record
from pacs.database.base import Database
from pacs.database.identity_tables import access_token, account
from pacs.identity.accounts import find_id, read_roles
from pacs.identity.problems import InvalidAccount, TokenNotFound
from pacs.identity.secrets import TOKEN_PREFIX, digest_of, make_secret

MAX_DAYS = 366
MAX_LABEL_LENGTH = 100


@dataclass(frozen=True, slots=True)
class Token:
    """What is known of a token once it was given out."""

    id: int
    account: str
    label: str
    scopes: frozenset[Permission]
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None = None


class Tokens:
    """The tokens of an archive. Any number of threads may call it at once."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def issue(
        self, principal: Principal, name: str, label: str, scopes: Iterable[Permission], days: int
    ) -> tuple[str, Token]:
        """Return a new token, which is shown here and never again, and what is known of it.

        Raises AccountNotFound, and InvalidAccount for what the account may not do, or a time without end.
        """
        principal.check(Permission.ADMINISTER)
        scopes = frozenset(scopes)
        if not 1 <= days <= MAX_DAYS or not scopes or len(label) > MAX_LABEL_LENGTH or not label.isprintable():
            raise InvalidAccount(
                f"A token has at least one scope, is good for 1 to {MAX_DAYS} days, and its label has at most "
                f"{MAX_LABEL_LENGTH} characters."
            )
        secret = make_secret(TOKEN_PREFIX)
        now = datetime.now(UTC)
        times = {"created_at": now, "expires_at": now + timedelta(days=days)}

        def write(connection: Connection) -> int:
            account_id = find_id(connection, name)
            roles = connection.execute(select(account.c.roles).where(account.c.id == account_id)).scalar_one()
            if not scopes <= permissions_of(read_roles(roles)):
                raise InvalidAccount("A token cannot do what its account may not.")
            row = {"account_id": account_id, "label": label, "digest": digest_of(secret), **times}
            statement = insert(access_token).values(scopes=" ".join(sorted(scopes)), **row)
            token_id: int = connection.execute(statement.returning(access_token.c.id)).scalar_one()
            facts = {"token": token_id, "scopes": sorted(scopes), "days": days}
            record(connection, Entry("token.issue", principal, name, facts))
            return token_id

        token_id = self._database.write(write)
        return secret, Token(token_id, name, label, scopes, **times)

    def find_all(self, principal: Principal, name: str = "") -> list[Token]:
        """Return every token, or those of one account, the oldest first; what was revoked or has expired as well."""
        principal.check(Permission.ADMINISTER)
        statement = select(access_token, account.c.name).join(account).order_by(access_token.c.id)
        if name:
            statement = statement.where(account.c.name == name)
        with self._database.read() as connection:
            return [_read(row) for row in connection.execute(statement)]

    def revoke(self, principal: Principal, token_id: int) -> None:
        """Let nobody in by this token any more; raise TokenNotFound if there is none, or it was revoked before."""
        principal.check(Permission.ADMINISTER)
        is_valid = (access_token.c.id == token_id) & access_token.c.revoked_at.is_(None)

        def write(connection: Connection) -> None:
            if not connection.execute(
                update(access_token).where(is_valid).values(revoked_at=datetime.now(UTC))
            ).rowcount:
                raise TokenNotFound
            name = connection.execute(
                select(account.c.name).join(access_token).where(access_token.c.id == token_id)
            ).scalar_one()
            record(connection, Entry("token.revoke", principal, name, {"token": token_id}))

        self._database.write(write)


def read_scopes(text: str) -> frozenset[Permission]:
    """Return the scopes of a token's row."""
    return frozenset(map(Permission, text.split()))


def _read(row: Row[Any]) -> Token:
    return Token(row.id, row.name, row.label, read_scopes(row.scopes), row.created_at, row.expires_at, row.revoked_at)
