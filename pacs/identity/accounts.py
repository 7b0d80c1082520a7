"""Accounts: who there is, with which roles. A name is never given twice: in the record it means one person for ever."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, select, update

from pacs.access import Permission, Principal, Role
from pacs.audit import Entry, record
from pacs.database.base import Database
from pacs.database.identity_tables import access_token, account, session
from pacs.identity.inserting import insert_new
from pacs.identity.problems import AccountExists, AccountNotFound, InvalidAccount
from pacs.identity.secrets import Passwords

NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")
RESERVED = frozenset({"local", "http", "nobody", "unknown"})
"""What the archive itself is called in its records, and whoever comes in without an account."""


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody or some program that may come in."""

    name: str
    roles: frozenset[Role]
    created_at: datetime
    has_password: bool
    removed_at: datetime | None = None


class Accounts:
    """The accounts of an archive. Any number of threads may call it at once."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._passwords = Passwords()

    def add(self, principal: Principal, name: str, roles: Iterable[Role], password: str | None) -> Account:
        """Add an account; without a password it comes in by tokens only.

        Raises InvalidAccount or InvalidPassword, and AccountExists for a name that somebody has or had.
        """
        principal.check(Permission.ADMINISTER)
        if not NAME.fullmatch(name) or name in RESERVED:
            raise InvalidAccount(
                "A name is 1 to 64 of a-z, 0-9, dot, hyphen, underline and at sign, and none that the archive uses."
            )
        roles = _checked(roles)
        kept = "" if password is None else self._passwords.keep(password, name)
        now = datetime.now(UTC)
        row = {"name": name, "password": kept, "roles": _as_text(roles), "created_at": now}

        def write(connection: Connection) -> None:
            if not insert_new(connection, account, row):
                raise AccountExists
            record(connection, Entry("account.add", principal, name, {"roles": sorted(roles)}))

        self._database.write(write)
        return Account(name, roles, now, password is not None)

    def find_all(self, principal: Principal) -> list[Account]:
        """Return every account by its name, those that were removed as well."""
        principal.check(Permission.ADMINISTER)
        with self._database.read() as connection:
            return [_read(row) for row in connection.execute(select(account).order_by(account.c.name))]

    def remove(self, principal: Principal, name: str) -> None:
        """Let nobody in by this account any more; raise AccountNotFound if there is none, or it was removed before."""
        principal.check(Permission.ADMINISTER)

        def write(connection: Connection) -> None:
            row_id = find_id(connection, name)
            now = datetime.now(UTC)
            connection.execute(update(account).where(account.c.id == row_id).values(removed_at=now, password=""))
            _end_sessions(connection, row_id)
            is_valid = access_token.c.revoked_at.is_(None)
            connection.execute(
                update(access_token).where(access_token.c.account_id == row_id, is_valid).values(revoked_at=now)
            )
            record(connection, Entry("account.remove", principal, name))

        self._database.write(write)

    def set_password(self, principal: Principal, name: str, password: str) -> None:
        """Give an account another password, and end its sessions."""
        principal.check(Permission.ADMINISTER)
        kept = self._passwords.keep(password, name)

        def write(connection: Connection) -> None:
            row_id = find_id(connection, name)
            connection.execute(update(account).where(account.c.id == row_id).values(password=kept))
            _end_sessions(connection, row_id)
            record(connection, Entry("account.password", principal, name))

        self._database.write(write)

    def set_roles(self, principal: Principal, name: str, roles: Iterable[Role]) -> None:
        """Give an account other roles, which count for its sessions and tokens as well."""
        principal.check(Permission.ADMINISTER)
        roles = _checked(roles)

        def write(connection: Connection) -> None:
            row_id = find_id(connection, name)
            connection.execute(update(account).where(account.c.id == row_id).values(roles=_as_text(roles)))
            record(connection, Entry("account.roles", principal, name, {"roles": sorted(roles)}))

        self._database.write(write)


def find_id(connection: Connection, name: str) -> int:
    """Return the row of an account that may come in; raise AccountNotFound for any other name."""
    is_there = (account.c.name == name) & account.c.removed_at.is_(None)
    row_id: int | None = connection.execute(select(account.c.id).where(is_there)).scalar()
    if row_id is None:
        raise AccountNotFound
    return row_id


def read_roles(text: str) -> frozenset[Role]:
    """Return the roles of an account's row."""
    return frozenset(map(Role, text.split()))


def _checked(roles: Iterable[Role]) -> frozenset[Role]:
    checked = frozenset(roles)
    if not checked:
        raise InvalidAccount("An account has at least one role.")
    return checked


def _as_text(roles: Iterable[Role]) -> str:
    return " ".join(sorted(roles))


def _end_sessions(connection: Connection, row_id: int) -> None:
    connection.execute(delete(session).where(session.c.account_id == row_id))


def _read(row: Row[Any]) -> Account:
    return Account(row.name, read_roles(row.roles), row.created_at, bool(row.password), row.removed_at)
