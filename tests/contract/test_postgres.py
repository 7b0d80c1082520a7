import threading
from functools import partial

import pytest
from sqlalchemy import text

from pacs.database.base import Database
from pacs.database.opener import open_database
from pacs.errors import InvalidSetting, Unavailable
from pacs.index import changes
from pacs.model import CLINICAL_PARTITION, Cursor
from tests.contract.database import DatabaseContract, append, build_instance, run_in_threads
from tests.contract.postgres_server import PostgresServer

pytestmark = pytest.mark.postgres


class TestPostgres(DatabaseContract):
    @pytest.fixture
    def empty_url(self, postgres: PostgresServer) -> str:
        return postgres.create_database()

    @pytest.fixture
    def url(self, postgres: PostgresServer, postgres_template: str) -> str:
        return postgres.create_database(template=postgres_template)

    def test_a_follower_never_passes_a_change_that_commits_late(self, database: Database) -> None:
        first, second = build_instance(number=1), build_instance(number=2)
        appended, may_commit = threading.Event(), threading.Event()

        def append_late(connection):
            append(connection, first)
            appended.set()
            may_commit.wait(30)

        late = threading.Thread(target=database.write, args=(append_late,))
        late.start()
        appended.wait(30)
        database.write(lambda connection: append(connection, second))
        assert _read_uids(database, Cursor()) == []
        may_commit.set()
        late.join()
        assert _read_uids(database, Cursor()) == [first.sop_instance_uid, second.sop_instance_uid]

    def test_a_follower_sees_every_change_of_overlapping_writers_once_and_in_order(self, database: Database) -> None:
        def write(number: int) -> None:
            for step in range(10):
                prepared = build_instance(number=number * 100 + step)
                database.write(partial(append, one=prepared))

        seen: list[Cursor] = []
        done = threading.Event()

        def follow() -> None:
            while True:
                is_last = done.is_set()
                with database.read() as connection:
                    cursor = seen[-1] if seen else Cursor()
                    seen.extend(change.cursor for change in changes.read_after(connection, 0, cursor, 7))
                if is_last and len(seen) >= 60:
                    return

        follower = threading.Thread(target=follow)
        follower.start()
        run_in_threads(6, write)
        done.set()
        follower.join(60)
        assert not follower.is_alive()
        assert seen == sorted(set(seen))
        assert len(seen) == 60

    def test_a_deadlock_is_retried(self, database: Database) -> None:
        database.write(lambda connection: connection.execute(text("CREATE TABLE tally (id INT, number INT)")))
        database.write(lambda connection: connection.execute(text("INSERT INTO tally VALUES (1, 0), (2, 0)")))
        both = threading.Barrier(2)
        attempts: list[int] = []

        def cross(number: int) -> None:
            def work(connection) -> None:
                is_first = number not in attempts
                attempts.append(number)
                for row in (1, 2) if number == 0 else (2, 1):
                    connection.execute(text("UPDATE tally SET number = number + 1 WHERE id = :row"), {"row": row})
                    if is_first and row == number + 1:
                        both.wait(30)

            database.write(work)

        results = run_in_threads(2, cross)
        assert results == [None, None]
        assert len(attempts) > 2
        with database.read() as connection:
            assert connection.execute(text("SELECT sum(number) FROM tally")).scalar() == 4

    def test_a_commit_is_durable_whatever_the_server_is_set_to(self, database: Database) -> None:
        assert database.write(lambda connection: connection.execute(text("SHOW synchronous_commit")).scalar()) == "on"

    def test_a_reader_cannot_write(self, database: Database) -> None:
        with pytest.raises(Exception, match="read-only"), database.read() as connection:
            connection.execute(text("DELETE FROM change"))

    def test_connections_cut_by_the_server_are_replaced(self, database: Database, postgres: PostgresServer) -> None:
        assert _read_uids(database, Cursor()) == []
        postgres.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE 'test_%'")
        assert _read_uids(database, Cursor()) == []

    def test_a_connection_cut_during_a_write_is_unavailable(self, database: Database, postgres: PostgresServer) -> None:
        def work(connection) -> None:
            pid = connection.execute(text("SELECT pg_backend_pid()")).scalar()
            postgres.execute(f"SELECT pg_terminate_backend({pid})")
            connection.execute(text("SELECT 1"))

        with pytest.raises(Unavailable):
            database.write(work)


def _read_uids(database: Database, cursor: Cursor) -> list[str]:
    with database.read() as connection:
        found = changes.read_after(connection, CLINICAL_PARTITION, cursor, 100)
    return [change.sop_instance_uid for change in found]


def test_a_server_that_is_away_is_unavailable() -> None:
    database = open_database("postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(Unavailable), database.read():
        pass
    with pytest.raises(Unavailable):
        database.write(lambda connection: None)
    database.close()


def test_a_malformed_address_is_an_invalid_setting() -> None:
    with pytest.raises(InvalidSetting):
        open_database("postgresql://user@host:port:port/name")
