"""SQLite: one thread a process writes, many connections read.

Writes wait in a queue. The writer takes what is there, gives every item a SAVEPOINT, and commits the group once, with
WAL and ``synchronous=FULL``: after that one fsync all of them are durable and are answered. Processes queue on a lock
file, because SQLite's own busy handler sleeps and retries, which is neither fair nor fast.
"""

import fcntl
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar, cast

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event
from sqlalchemy.exc import DBAPIError

from pacs.database.migrate import upgrade
from pacs.database.watcher import Watcher
from pacs.errors import OutOfResources, PacsError, Unavailable

T = TypeVar("T")

MAX_GROUP = 64
"""Items in one commit at most: what has to be done again if that commit fails."""

READERS = 8
MAX_READERS = 64
READER_TIMEOUT_SECONDS = 30.0
BUSY_TIMEOUT_MS = 30_000


class _Write:
    """A queued write: its work, its caller's future, and its result until the commit makes it true."""

    def __init__(self, work: Callable[[Connection], T]) -> None:
        self.future: Future[Any] = Future()
        self.has_failed = False
        self._work = work
        self._result: Any = None

    def run(self, connection: Connection) -> None:
        self._result = self._work(connection)

    def publish(self) -> None:
        self.future.set_result(self._result)

    def fail(self, error: BaseException) -> None:
        self.has_failed = True
        self.future.set_exception(error)


class SqliteDatabase:
    """A database in one file, used by the processes of one machine."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._readers = _create_engine(path, is_reader=True)
        self._writers = _create_engine(path, is_reader=False)
        self._reader_places = threading.BoundedSemaphore(MAX_READERS)
        # Open readers that nobody uses. They stay SQLAlchemy's connections, for to make one takes longer than to ask.
        self._idle_readers: list[Connection] = []
        self._queue: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._gate = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._watcher = Watcher(self._open_versions)
        self.watch = self._watcher.watch

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Return a connection that sees one state and cannot write; close it soon, the log cannot shrink before."""
        if not self._reader_places.acquire(timeout=READER_TIMEOUT_SECONDS):
            raise Unavailable("Too many searches at once; try again later.")
        try:
            with _translated(self._path):
                connection = self._take_reader()
                driver = _driver(connection)
                try:
                    driver.execute("BEGIN")
                    yield connection
                finally:
                    with suppress(sqlite3.Error):  # what went wrong before this is what the caller has to hear of
                        driver.execute("ROLLBACK")
                    self._give_back(connection)
        finally:
            self._reader_places.release()

    def _take_reader(self) -> Connection:
        with suppress(IndexError):
            return self._idle_readers.pop()
        return self._readers.connect()

    def _give_back(self, connection: Connection) -> None:
        """Keep a reader for the next one; what is in a transaction still, or one too many, is closed."""
        if connection.invalidated or _driver(connection).in_transaction:
            _abandon(connection)
            return
        if connection.in_transaction():  # SQLAlchemy's own mark, of what it has executed
            connection.rollback()
        if self._is_closed or len(self._idle_readers) >= READERS:
            connection.close()
        else:
            self._idle_readers.append(connection)

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` on the writing thread and return its result once the commit of its group is durable."""
        item = _Write(work)
        with self._gate:
            if self._is_closed:
                raise Unavailable("The database is closed.")
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="sqlite-writer", daemon=True)
                self._thread.start()
            if threading.current_thread() is self._thread:
                raise RuntimeError("a write inside a write would wait for itself for ever")
            self._queue.put(item)
        result: T = item.future.result()
        return result

    def migrate(self) -> None:
        """Create the file or bring its schema to this version; raise SchemaMismatch if it is newer."""
        with _translated(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._locked(), self._writers.connect() as connection:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                upgrade(connection)
                connection.exec_driver_sql("COMMIT")
            _sync_folder(self._path.parent)

    def close(self) -> None:
        """Finish the writes under way and close every connection; later writes raise Unavailable."""
        with self._gate:
            self._is_closed = True
            thread = self._thread
        if thread is not None:
            self._queue.put(None)
            thread.join()
        self._watcher.close()
        while self._idle_readers:
            self._idle_readers.pop().close()

    @contextmanager
    def _open_versions(self) -> Iterator[Callable[[], object]]:
        """Return what reads SQLite's count of the commits of others; only this connection's own values compare."""
        with _translated(self._path), self._readers.connect() as connection:
            cursor = connection.connection.cursor()
            yield lambda: cursor.execute("PRAGMA data_version").fetchone()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = os.open(f"{self._path}.lock", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _run(self) -> None:
        connection: Connection | None = None
        while (first := self._queue.get()) is not None:
            group = [first]
            try:
                with _translated(self._path), self._locked():
                    self._gather(group)
                    connection = connection or self._writers.connect()
                    _commit_group(connection, group, self._path)
            except BaseException as error:  # noqa: BLE001 - whatever it is belongs to the callers who wait for it
                # Nothing of this group is durable, and the connection may hold half of it: a fresh one begins anew,
                # which is also how writing resumes by itself after a full disk.
                _abandon(connection)
                connection = None
                _fail(group, error)
            else:
                for item in group:
                    if not item.has_failed:
                        item.publish()
        _abandon(connection)

    def _gather(self, group: list[_Write]) -> None:
        """Add what arrived while this process waited for its turn; the end mark goes back into the queue."""
        with suppress(queue.Empty):
            while len(group) < MAX_GROUP:
                item = self._queue.get_nowait()
                if item is None:
                    self._queue.put(None)
                    return
                group.append(item)


def _commit_group(connection: Connection, group: list[_Write], path: Path) -> None:
    driver = _driver(connection)
    is_alone = len(group) == 1  # then its transaction is the whole one
    driver.execute("BEGIN IMMEDIATE")
    for item in group:
        if not is_alone:
            driver.execute("SAVEPOINT item")
        try:
            with _translated(path):
                item.run(connection)
        except Exception as error:
            if not driver.in_transaction:  # a full disk or an I/O error rolled back everybody
                raise
            driver.execute("ROLLBACK" if is_alone else "ROLLBACK TO item")
            item.fail(error)
        if not is_alone:
            driver.execute("RELEASE item")
    if driver.in_transaction:
        driver.execute("COMMIT")


def _driver(connection: Connection) -> sqlite3.Connection:
    """Return the driver's connection, for what begins and ends transactions: SQLAlchemy takes long for a few words."""
    return cast("sqlite3.Connection", connection.connection.dbapi_connection)


def _abandon(connection: Connection | None) -> None:
    """Close a connection for good; what it had not committed is rolled back."""
    if connection is not None:
        with suppress(DBAPIError):
            connection.invalidate()
        connection.close()


def _fail(group: list[_Write], error: BaseException) -> None:
    for item in group:
        if not item.has_failed:
            # Each caller raises its own copy: one exception in many threads would share a growing traceback.
            item.fail(type(error)(*error.args) if isinstance(error, PacsError) else error)


def _create_engine(path: Path, *, is_reader: bool) -> Engine:
    url = URL.create("sqlite", database=str(path))
    # AUTOCOMMIT leaves BEGIN and COMMIT to this module; the driver would begin late and only for some statements.
    engine = create_engine(
        url,
        isolation_level="AUTOCOMMIT",
        hide_parameters=True,  # what an unforeseen failure quotes must not be a patient's
        poolclass=NullPool,
        connect_args={"check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def configure(driver: sqlite3.Connection, _record: object) -> None:
        driver.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        driver.execute("PRAGMA journal_mode=WAL")
        driver.execute("PRAGMA synchronous=FULL")
        driver.execute("PRAGMA foreign_keys=ON")
        driver.execute("PRAGMA case_sensitive_like=ON")  # LO and SH match by case (PS3.4 C.2.2.2.4)
        if is_reader:
            driver.execute("PRAGMA query_only=ON")

    return engine


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Turn what the driver raises for its surroundings into ours; a wrong statement stays the bug it is."""
    try:
        yield
    except DBAPIError as error:
        if not isinstance(error.orig, sqlite3.OperationalError):
            raise
        raise _translate_code(error.orig, path) from error
    except sqlite3.OperationalError as error:
        raise _translate_code(error, path) from error
    except OSError as error:
        raise OutOfResources if _is_full(path) else Unavailable from error


def _translate_code(error: sqlite3.OperationalError, path: Path) -> Exception:
    code = error.sqlite_errorcode & 0xFF
    if code == sqlite3.SQLITE_ERROR:
        return error
    # A file that cannot grow is SQLITE_FULL; a log or its index that cannot be created are other codes.
    return OutOfResources() if code == sqlite3.SQLITE_FULL or _is_full(path) else Unavailable()


def _is_full(path: Path) -> bool:
    try:
        space = os.statvfs(path.parent)
    except OSError:
        return False
    return space.f_bavail == 0 or (space.f_files > 0 and space.f_favail == 0)


def _sync_folder(folder: Path) -> None:
    """Make the file's name durable; SQLite does so for its logs, not for the database itself."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
