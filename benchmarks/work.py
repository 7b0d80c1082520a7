"""The work that SQLite does for a statement, counted: steps of its virtual machine, the same on a busy machine."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy import Connection

from pacs.database.sqlite import SqliteDatabase

T = TypeVar("T")

GRAIN = 10
"""Steps are counted in tens: to be told of every one would take longer than the step."""


class CountingDatabase(SqliteDatabase):
    """A database in one file that adds up the ``steps`` of what is read and written through it."""

    steps = 0

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Return a connection as ``SqliteDatabase`` does; what is done with it counts."""
        with super().read() as connection, self._counted(connection):
            yield connection

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` as ``SqliteDatabase`` does; what it does counts."""

        def run(connection: Connection) -> T:
            with self._counted(connection):
                return work(connection)

        return super().write(run)

    @contextmanager
    def _counted(self, connection: Connection) -> Iterator[None]:
        driver = connection.connection.dbapi_connection
        assert isinstance(driver, sqlite3.Connection)
        driver.set_progress_handler(self._count, GRAIN)
        try:
            yield
        finally:
            driver.set_progress_handler(None, 0)

    def _count(self) -> int:
        self.steps += GRAIN
        return 0


def count_steps(database: CountingDatabase, work: Callable[[], object]) -> int:
    """Return how many steps ``work`` takes on ``database``."""
    before = database.steps
    work()
    return database.steps - before
