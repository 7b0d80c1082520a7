"""Logging in with a name and a password, and out: a session, known by the cookie that its browser keeps."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, delete, insert, select, update

from pacs.access import Principal, permissions_of
from pacs.audit import Entry, Outcome, record
from pacs.database.base import Database
from pacs.database.identity_tables import account, session
from pacs.identity import attempts
from pacs.identity.accounts import read_roles
from pacs.identity.attempts import Attempt
from pacs.identity.problems import LoginFailed, TooManyAttempts
from pacs.identity.secrets import Passwords, digest_of, make_secret

SESSION_HOURS = 12
"""A session ends with the shift; who works on logs in again."""


@dataclass(frozen=True, slots=True)
class Login:
    """A new session: what its cookie holds, and who it is."""

    cookie: str
    principal: Principal
    expires_at: datetime


class Logins:
    """Sessions of an archive. A login takes 64 MiB and some 50 ms, so that few should be asked for at once."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._passwords = Passwords()

    def log_in(self, name: str, password: str, address: str) -> Login:
        """Begin a session; raise LoginFailed, or TooManyAttempts without having looked at the password.

        Whether there is such an account is told by neither, nor by the time they take.
        """
        attempt = Attempt(name, address)
        statement = select(account).where(account.c.name == name, account.c.removed_at.is_(None))
        with self._database.read() as connection:
            seconds = attempts.seconds_to_wait(connection, attempt)
            row = connection.execute(statement).first()
        if seconds:
            raise TooManyAttempts(seconds)
        if not self._passwords.is_right(password, row.password if row else "") or row is None:
            self._refuse(attempt, is_known=row is not None)
            raise LoginFailed
        kept = self._passwords.keep_anew(password) if self._passwords.is_outdated(row.password) else row.password
        roles = read_roles(row.roles)
        cookie = make_secret()
        now = datetime.now(UTC)
        values = {"account_id": row.id, "digest": digest_of(cookie), "created_at": now}
        expires_at = now + timedelta(hours=SESSION_HOURS)

        def write(connection: Connection) -> Principal:
            is_same = (account.c.id == row.id) & (account.c.password == row.password)
            if not connection.execute(update(account).where(is_same).values(password=kept)).rowcount:
                raise LoginFailed  # it was changed, or the account removed, meanwhile
            connection.execute(delete(session).where(session.c.expires_at < now))
            attempts.forgive(connection, attempt)
            added = connection.execute(insert(session).values(expires_at=expires_at, **values).returning(session.c.id))
            principal = Principal(name, permissions_of(roles), roles, address, str(added.scalar_one()))
            record(connection, Entry("login", principal, name))
            return principal

        return Login(cookie, self._database.write(write), expires_at)

    def log_out(self, principal: Principal, cookie: str) -> None:
        """End a session; of one that has ended, or never was, nothing is said."""

        def write(connection: Connection) -> None:
            if connection.execute(delete(session).where(session.c.digest == digest_of(cookie))).rowcount:
                record(connection, Entry("logout", principal, principal.name))

        self._database.write(write)

    def _refuse(self, attempt: Attempt, *, is_known: bool) -> None:
        # What is no account's name may be a password that went into the wrong field.
        who = Principal(attempt.name if is_known else "unknown", address=attempt.address)

        def write(connection: Connection) -> None:
            attempts.count_failure(connection, attempt)
            record(connection, Entry("login", who, who.name if is_known else "", outcome=Outcome.REFUSED))

        self._database.write(write)
