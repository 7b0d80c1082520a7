"""Wrong passwords, counted by the name that was tried and by where from: after some, each costs a longer wait.

The count is in the database, for every process asks for passwords. Of a name that nobody has it is kept, too, so that
an answer does not tell which names there are.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, delete, select

from pacs.database.identity_tables import login_attempt
from pacs.identity.inserting import insert_or_change

FREE_BY_NAME = 5
FREE_BY_ADDRESS = 50
"""A whole hospital may come from one address: that of its proxy."""
LONGEST_WAIT_SECONDS = 300
FORGOTTEN_AFTER = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Attempt:
    """Who says that he is whom, and from where."""

    name: str
    address: str

    def limits(self) -> dict[bytes, int]:
        """Return what it is counted by, and how many of each are free."""
        return {_key("name", self.name): FREE_BY_NAME, _key("address", self.address): FREE_BY_ADDRESS}


def seconds_to_wait(connection: Connection, attempt: Attempt) -> int:
    """Return how long to wait before a password is looked at, 0 if it may be now."""
    limits = attempt.limits()
    now = datetime.now(UTC)
    waits = [0]
    for row in connection.execute(select(login_attempt).where(login_attempt.c.key.in_(limits))):
        excess = row.failures - limits[bytes(row.key)]
        if excess >= 0 and row.last_at > now - FORGOTTEN_AFTER:
            pause = min(2 ** min(excess, 20), LONGEST_WAIT_SECONDS)
            waits.append(-int((now - row.last_at).total_seconds() - pause) + 1)
    return max(waits)


def count_failure(connection: Connection, attempt: Attempt) -> None:
    """Count a wrong password, and forget old ones."""
    now = datetime.now(UTC)
    connection.execute(delete(login_attempt).where(login_attempt.c.last_at < now - FORGOTTEN_AFTER))
    for key in attempt.limits():
        row = {"key": key, "failures": 1, "last_at": now}
        change = {"failures": login_attempt.c.failures + 1, "last_at": now}
        insert_or_change(connection, login_attempt, "key", row, change)


def forgive(connection: Connection, attempt: Attempt) -> None:
    """Forget the wrong passwords of a name, once the right one was given; those of the address may be of another."""
    connection.execute(delete(login_attempt).where(login_attempt.c.key == _key("name", attempt.name)))


def _key(kind: str, value: str) -> bytes:
    return hashlib.sha256(f"{kind}\0{value}".encode("utf-8", "surrogatepass")).digest()
