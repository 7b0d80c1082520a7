"""PostgreSQL: a pool of connections, READ COMMITTED, and work that is done again after a lost race.

``INSERT .. ON CONFLICT DO NOTHING`` waits for whoever inserts the same key, so that parallel stores of one new study
queue instead of failing. What is left, a deadlock or a row that vanished between two statements, is retried.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
from sqlalchemy import Connection, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from pacs.database.base import LostRace
from pacs.database.migrate import upgrade
from pacs.database.watcher import Watcher
from pacs.errors import InvalidSetting, OutOfResources, Unavailable

T = TypeVar("T")

POOL_SIZE = 8
MAX_CONNECTIONS = 32
POOL_TIMEOUT_SECONDS = 30.0
CONNECT_TIMEOUT_SECONDS = 10
ATTEMPTS = 10

_MIGRATION_LOCK = 0x50414353  # "PACS": any number, the same in every process that migrates

# Classes and codes of PostgreSQL's appendix A.
_LOST_RACES = frozenset({"40001", "40P01", "23503"})  # serialization failure, deadlock, a parent that just vanished
_NO_ROOM = "53100"  # disk full
_AWAY = ("08", "53", "57P", "58")  # connection, resources, shutting down, system


class PostgresDatabase:
    """A database on a server, used by any number of processes on any number of machines."""

    def __init__(self, url: str) -> None:
        try:
            address = make_url(url).set(drivername="postgresql+psycopg")
        except (ArgumentError, ValueError):  # the second for a port that is no number
            raise InvalidSetting("database.url is not a PostgreSQL address.") from None
        self._engine = create_engine(
            address,
            pool_size=POOL_SIZE,
            max_overflow=MAX_CONNECTIONS - POOL_SIZE,
            pool_timeout=POOL_TIMEOUT_SECONDS,
            hide_parameters=True,  # what an unforeseen failure quotes must not be a patient's
            pool_pre_ping=True,  # a server that restarted costs nobody a failed request
            connect_args={"connect_timeout": CONNECT_TIMEOUT_SECONDS},
        )
        event.listen(self._engine, "connect", _configure)
        self._writers = self._engine.execution_options(isolation_level="READ COMMITTED")
        self._readers = self._engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self._looks = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        self._watcher = Watcher(self._open_versions)
        self.watch = self._watcher.watch

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Return a connection in a read-only transaction that sees one state; close it soon."""
        with _translated(), self._readers.connect() as connection:
            yield connection

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` in a transaction and return its result once that is durable; a lost race runs it again."""
        for _ in range(ATTEMPTS):
            try:
                with _translated(), self._writers.begin() as connection:
                    return work(connection)
            except LostRace as error:
                lost: Exception = error
            except DBAPIError as error:
                if _code_of(error) not in _LOST_RACES:
                    raise
                lost = error
        raise Unavailable from lost

    def migrate(self) -> None:
        """Bring the schema to this version; raise SchemaMismatch if it is newer."""
        with _translated(), self._writers.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
            upgrade(connection)

    def close(self) -> None:
        """Close every connection that is not in use; the others close when they are given back."""
        self._watcher.close()
        self._engine.dispose()

    @contextmanager
    def _open_versions(self) -> Iterator[Callable[[], object]]:
        """Return what reads which transactions show; every commit changes that, and no read does."""
        with _translated(), self._looks.connect() as connection:
            yield lambda: connection.exec_driver_sql("SELECT pg_current_snapshot()::text").scalar()


def _configure(driver: psycopg.Connection[Any], _record: object) -> None:
    """Refuse a commit that is only promised, whatever the server's default; a stronger one than ours stays."""
    driver.autocommit = True
    driver.execute(
        "SELECT set_config('synchronous_commit', 'on', false)"
        " WHERE current_setting('synchronous_commit') IN ('off', 'local')"
    )
    driver.autocommit = False


@contextmanager
def _translated() -> Iterator[None]:
    """Turn what the driver raises for its surroundings into ours; a wrong statement stays the bug it is."""
    try:
        yield
    except PoolTimeoutError as error:
        raise Unavailable("Too many requests at once; try again later.") from error
    except DBAPIError as error:
        code = _code_of(error)
        if code == _NO_ROOM:
            raise OutOfResources from error
        if code.startswith(_AWAY) or (not code and isinstance(error.orig, psycopg.OperationalError)):
            raise Unavailable from error
        raise


def _code_of(error: DBAPIError) -> str:
    """Return the SQLSTATE, or an empty string if the server never said one."""
    return getattr(error.orig, "sqlstate", None) or ""
