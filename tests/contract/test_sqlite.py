import multiprocessing
import os
import shutil
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.dialects import sqlite

from pacs.database import sqlite as sqlite_database
from pacs.database.base import Database
from pacs.database.opener import open_database
from pacs.database.sqlite import SqliteDatabase
from pacs.errors import InvalidSetting, OutOfResources, Unavailable
from pacs.index import writer
from pacs.index.matching import build_candidates, build_select
from pacs.index.sounds import Ranking
from pacs.model import Level
from pacs.query import Equals, Query, Wildcard
from tests.contract.database import DatabaseContract, build_instance, count, run_in_threads


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a migrated database's file, to be copied."""
    path = tmp_path_factory.mktemp("template") / "index.sqlite"
    database = SqliteDatabase(path)
    database.migrate()
    database.close()
    return path


class TestSqlite(DatabaseContract):
    @pytest.fixture
    def empty_url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/new folder/index.sqlite"

    @pytest.fixture
    def url(self, tmp_path: Path, template: Path) -> str:
        shutil.copy(template, tmp_path / "index.sqlite")
        return f"sqlite:///{tmp_path}/index.sqlite"

    @pytest.fixture
    def connected(self) -> Iterator[list[object]]:
        """Return every connection that was opened since."""
        connections: list[object] = []

        def note(driver: object, _record: object) -> None:
            connections.append(driver)

        event.listen(Engine, "connect", note)
        yield connections
        event.remove(Engine, "connect", note)

    def test_writes_that_wait_together_share_one_commit_and_fail_alone(self, database: Database) -> None:
        entered, gate = threading.Event(), threading.Event()

        def hold(connection):
            entered.set()
            gate.wait(30)

        def note(connection, number):
            connection.execute(text(f"INSERT INTO tally VALUES ({number})"))
            if number % 3 == 0:
                raise LookupError(number)
            return number

        database.write(lambda connection: connection.execute(text("CREATE TABLE tally (number INTEGER)")))
        holder = threading.Thread(target=database.write, args=(hold,))
        holder.start()
        entered.wait(30)
        release = threading.Timer(0.2, gate.set)
        release.start()
        results = run_in_threads(30, lambda number: database.write(lambda connection: note(connection, number)))
        holder.join()
        assert [isinstance(result, LookupError) for result in results] == [number % 3 == 0 for number in range(30)]
        assert [result for result in results if isinstance(result, int)] == [n for n in range(30) if n % 3]
        with database.read() as connection:
            rows = connection.execute(text("SELECT number FROM tally ORDER BY number")).scalars().all()
        assert rows == [number for number in range(30) if number % 3]

    def test_reading_wakes_nobody(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("pacs.database.watcher.LOOK_SECONDS", 0.01)
        woken: list[bool] = []
        with database.watch(lambda: woken.append(True)):
            time.sleep(0.2)
            before = len(woken)
            count(database, "change")
            time.sleep(0.2)
            assert len(woken) == before

    def test_a_reader_cannot_write(self, database: Database) -> None:
        with pytest.raises(Unavailable), database.read() as connection:
            connection.execute(text("DELETE FROM change"))

    def test_a_reader_is_used_again_whatever_became_of_the_read(
        self, database: Database, connected: list[object]
    ) -> None:
        with suppress(LookupError), database.read() as connection:
            connection.execute(text("SELECT 1"))
            raise LookupError
        with pytest.raises(sqlite3.OperationalError), database.read() as connection:
            connection.execute(text("SELECT nothing FROM nowhere"))
        with database.read() as connection:
            before = connection.execute(text("SELECT count(*) FROM patient")).scalar()
            database.write(lambda writing: writer.insert_instance(writing, build_instance()))
            assert connection.execute(text("SELECT count(*) FROM patient")).scalar() == before
        assert count(database, "patient") == before + 1
        assert len(connected) == 2  # one that reads and one that writes

    def test_no_more_readers_than_are_allowed_are_open_and_the_next_one_waits(
        self, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sqlite_database, "MAX_READERS", 2)
        monkeypatch.setattr(sqlite_database, "READER_TIMEOUT_SECONDS", 0.05)
        database = open_database(url)
        with database.read(), database.read(), pytest.raises(Unavailable, match="Too many"), database.read():
            pass
        monkeypatch.setattr(sqlite_database, "READER_TIMEOUT_SECONDS", 30)
        with ExitStack() as held:
            held.enter_context(database.read())
            second = held.enter_context(ExitStack())
            second.enter_context(database.read())
            waiting = threading.Thread(target=count, args=(database, "patient"))
            waiting.start()
            second.close()
            waiting.join(20)
            assert not waiting.is_alive()
        database.close()

    def test_every_commit_is_synchronous(self, database: Database) -> None:
        def settings(connection):
            names = ("synchronous", "journal_mode", "foreign_keys")
            return [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]

        assert database.write(settings) == [2, "wal", 1]

    def test_the_planner_knows_figures_of_every_index(self, database: Database) -> None:
        with database.read() as connection:
            known = set(connection.exec_driver_sql("SELECT idx FROM sqlite_stat1").scalars())
            present = set(connection.exec_driver_sql("SELECT name FROM sqlite_schema WHERE type = 'index'").scalars())
        assert present - known == {"sqlite_autoindex_alembic_version_1"}
        assert known <= present

    @pytest.mark.parametrize(
        "condition",
        [
            Equals("StudyInstanceUID", "1.2"),
            Equals("SeriesInstanceUID", "1.2"),
            Equals("SOPInstanceUID", "1.2"),
            Equals("PatientID", "1"),
            Equals("AccessionNumber", "1"),
            Equals("RequestedProcedureID", "1"),
            Wildcard("PatientName", "ben*"),
        ],
    )
    @pytest.mark.parametrize("level", list(Level))
    def test_what_few_rows_match_is_found_without_walking_a_table(
        self, database: Database, level: Level, condition: Equals | Wildcard
    ) -> None:
        statement = build_select(0, Query(level, (condition,)))
        sql = str(statement.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True}))
        with database.read() as connection:
            plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}")]
        assert not [step for step in plan if step.startswith("SCAN") or step.endswith("(partition_id=?)")]

    @pytest.mark.parametrize("name", ["benali", "ben ali amina", "*fassi*", "الفاسي"])
    @pytest.mark.parametrize("level", list(Level))
    def test_names_are_found_by_their_sound_without_walking_a_table(
        self, database: Database, level: Level, name: str
    ) -> None:
        query = Query(level, (Equals("PatientName", name), Equals("ReferringPhysicianName", name)), is_fuzzy=True)
        ranks = Ranking({1: 1}, is_cut=False).as_table()
        for statement in (build_candidates(0, query, 10), build_select(0, query, ranks)):
            sql = str(statement.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True}))
            with database.read() as connection:
                plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}")]
            walked = [step for step in plan if step.startswith("SCAN") or step.endswith("(partition_id=?)")]
            assert {step.split()[1] for step in walked} <= {"ranks", "anon_1", "anon_2"}  # what was found, and its JSON

    def test_a_write_inside_a_write_is_a_mistake_that_is_told(self, database: Database) -> None:
        with pytest.raises(RuntimeError, match="inside"):
            database.write(lambda connection: database.write(lambda inner: None))

    def test_a_closed_database_takes_no_writes(self, url: str) -> None:
        closed = open_database(url)
        closed.close()
        closed.close()
        with pytest.raises(Unavailable):
            closed.write(lambda connection: None)

    def test_writers_of_several_processes_take_turns(self, database: Database, url: str) -> None:
        database.write(lambda connection: connection.execute(text("CREATE TABLE tally (number INTEGER)")))
        context = multiprocessing.get_context("spawn")
        processes = [context.Process(target=_add_numbers, args=(url, 40)) for _ in range(2)]
        for process in processes:
            process.start()
        run_in_threads(4, lambda number: _add(database, 10))
        for process in processes:
            process.join(60)
        assert [process.exitcode for process in processes] == [0, 0]
        assert count(database, "tally") == 120


def _add_numbers(url: str, how_many: int) -> None:
    database = open_database(url)
    _add(database, how_many)
    database.close()


def _add(database: Database, how_many: int) -> None:
    for _ in range(how_many):
        database.write(lambda connection: connection.execute(text("INSERT INTO tally VALUES (1)")) and None)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("only root can mount a small tmpfs")
    mounted = subprocess.run([mount, "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)], check=False)
    if mounted.returncode != 0:
        pytest.skip("this machine lets nobody mount a tmpfs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_told_and_writing_resumes_when_there_is_room(small_disk: Path) -> None:
    database = SqliteDatabase(small_disk / "index.sqlite")
    database.migrate()
    ballast = small_disk / "ballast"

    def note(connection) -> None:
        connection.execute(text("INSERT INTO conflict_note VALUES (:text)"), {"text": "x" * 20_000})

    database.write(lambda connection: connection.execute(text("CREATE TABLE conflict_note (text TEXT)")) and None)
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"\0" * 4096)
    stored = 0

    def fill() -> None:
        nonlocal stored
        for _ in range(100):
            database.write(note)
            stored += 1

    with pytest.raises(OutOfResources):
        fill()
    results = run_in_threads(4, lambda number: database.write(note))
    assert {type(result) for result in results} <= {OutOfResources, type(None)}
    stored += results.count(None)
    assert count(database, "conflict_note") == stored
    ballast.unlink()
    database.write(note)
    assert count(database, "conflict_note") == stored + 1
    database.close()


@pytest.mark.parametrize("url", ["", "sqlite://", "sqlite:///", "mysql://u:secret@h/d", "/path", "sqlite:relative"])
def test_an_address_of_no_known_engine_is_one_sentence_without_its_password(url: str) -> None:
    with pytest.raises(InvalidSetting) as error:
        open_database(url)
    assert "secret" not in str(error.value)
