"""A prepared statement says what SQLAlchemy says of the same one, in the same transaction, on every engine."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from sqlalchemy import bindparam, delete, func, insert, literal, select, text, update
from sqlalchemy.exc import IntegrityError

from pacs.database.base import Database
from pacs.database.opener import open_database
from pacs.database.prepared import Prepared
from pacs.database.tables import conflict, instance
from pacs.database.work_tables import follower, secret
from pacs.database.workitem_tables import worklist_subscriber
from pacs.errors import Unavailable
from tests.contract.database import build_instance, count, record_content, store

AT = datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)
CURSOR = {"name": "routing", "transaction_id": 2**40, "sequence": 7}

INSERT = Prepared(insert(follower).inline())
FIND = Prepared(select(follower).where(follower.c.name == bindparam("name")))


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database(request, tmp_path) -> Iterator[Database]:
    postgres = request.param == "postgres"
    url = request.getfixturevalue("postgres_url") if postgres else f"sqlite:///{tmp_path / 'index.sqlite'}"
    opened = open_database(str(url))
    opened.migrate()
    yield opened
    opened.close()


@pytest.mark.parametrize(
    "statement",
    [
        select(instance),
        select(conflict).order_by(conflict.c.id),
        select(instance.c.stored_at, (instance.c.blob_length > 0).label("has_bytes"), func.count().over().label("all")),
        select(instance.c.id).where(instance.c.sop_class_uid.is_not(None)).limit(1),
    ],
)
def test_rows_have_the_values_and_the_names_that_sqlalchemy_gives_them(database, statement) -> None:
    new = build_instance()
    store(database, new)
    database.write(lambda connection: record_content(connection, new, build_instance(payload="second")))
    with database.read() as connection:
        expected = connection.execute(statement).all()
        found = Prepared(statement).all(connection, {})
    assert found == [tuple(row) for row in expected]
    assert [row._asdict() for row in found] == [dict(row._mapping) for row in expected]
    assert [list(map(type, row)) for row in found] == [list(map(type, row)) for row in expected]


def test_values_are_bound_as_sqlalchemy_binds_them(database) -> None:
    store(database, build_instance())
    find = Prepared(
        select(instance.c.id).where(
            instance.c.dataset_digest == bindparam("digest"), instance.c.stored_at < bindparam("at")
        )
    )
    with database.read() as connection:
        digest, at = connection.execute(select(instance.c.dataset_digest, instance.c.stored_at)).one()
        assert find.first(connection, {"digest": digest, "at": at.replace(year=2100)}) is not None
        assert find.first(connection, {"digest": digest, "at": at}) is None
        assert find.first(connection, {"digest": b"another", "at": at.replace(year=2100)}) is None


def test_literals_of_the_statement_stay_what_they_are(database) -> None:
    find = Prepared(select(follower.c.name, literal("a % of ?").label("said")).where(follower.c.sequence == 7).limit(1))
    database.write(lambda connection: INSERT.run(connection, CURSOR))
    with database.read() as connection:
        assert find.all(connection, {}) == [("routing", "a % of ?")]


def test_what_is_in_the_transaction_is_seen_on_both_ways_and_leaves_with_it(database) -> None:
    def work(connection) -> None:
        connection.execute(insert(follower), CURSOR)
        assert FIND.first(connection, CURSOR).sequence == 7
        INSERT.run(connection, CURSOR | {"name": "other"})
        assert connection.execute(select(func.count()).select_from(follower)).scalar() == 2
        raise LookupError

    with pytest.raises(LookupError):
        database.write(work)
    assert count(database, "follower") == 0


def test_one_insert_takes_whichever_columns_it_is_given(database) -> None:
    add = Prepared({"sqlite": insert(conflict).inline(), "postgresql": insert(conflict).inline()})
    row = {"partition_id": 0, "kind": "content", "study_instance_uid": "1", "series_instance_uid": "2"}
    row |= {"sop_instance_uid": "3", "transfer_syntax_uid": "4", "origin": "{}", "found_at": AT, "resolution": ""}

    def work(connection) -> None:
        add.run(connection, row | {"distinction": "a"})
        add.run(connection, row | {"distinction": "b", "blob_key": "key", "dataset_digest": b"\0"})

    database.write(work)
    with database.read() as connection:
        found = connection.execute(select(conflict.c.blob_key, conflict.c.dataset_digest, conflict.c.found_at))
        assert sorted(found.all(), key=str) == [("key", b"\0", AT), (None, None, AT)]


def test_the_number_of_changed_rows_is_told(database) -> None:
    move = Prepared(update(follower).where(follower.c.sequence < bindparam("end")).values(transaction_id=1))
    forget = Prepared(delete(follower).where(follower.c.name == bindparam("name")))

    def work(connection) -> list[int]:
        INSERT.run_all(connection, [CURSOR | {"name": str(number), "sequence": number} for number in range(5)])
        return [move.run(connection, {"end": 3}), forget.run(connection, {"name": "4"}), forget.run(connection, CURSOR)]

    assert database.write(work) == [3, 1, 0]


def test_booleans_are_booleans(database) -> None:
    add = Prepared(insert(worklist_subscriber).inline())
    row = {"partition_id": 0, "worklist_uid": "1.2", "ae_title": "A", "has_lock": True, "filter": ""}
    database.write(lambda connection: add.run(connection, row))
    with database.read() as connection:
        assert Prepared(select(worklist_subscriber.c.has_lock)).scalar(connection, {}) is True


def test_a_missing_parameter_is_a_mistake_that_is_told(database) -> None:
    with database.read() as connection, pytest.raises(KeyError, match="name"):
        FIND.first(connection, {})


def test_what_the_driver_refuses_is_sqlalchemys_error_without_a_value_in_its_text(database) -> None:
    add = Prepared(insert(secret).inline())

    def work(connection) -> None:
        add.run(connection, {"name": "CANARY", "value": b"CANARY"})
        add.run_all(connection, [{"name": "CANARY", "value": b"CANARY"}])

    with pytest.raises(IntegrityError) as caught:
        database.write(work)
    statement_and_parameters = str(caught.value).replace(str(caught.value.orig), "")
    assert "secret" in statement_and_parameters
    assert "CANARY" not in statement_and_parameters
    assert caught.value.params is None
    assert count(database, "secret") == 0


def test_a_list_in_the_statement_is_refused(database) -> None:
    find = Prepared(select(follower.c.name).where(follower.c.name.in_(bindparam("names", expanding=True))))
    with database.read() as connection, pytest.raises(AssertionError, match="cannot be prepared"):
        find.all(connection, {"names": ["a"]})


@pytest.mark.postgres
def test_a_connection_cut_during_a_write_is_unavailable_and_the_next_one_works(postgres_url) -> None:
    database = open_database(postgres_url)
    database.migrate()

    def work(connection) -> None:
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar()
        database.write(lambda other: other.execute(text(f"SELECT pg_terminate_backend({pid})")))
        INSERT.run(connection, CURSOR)

    with pytest.raises(Unavailable):
        database.write(work)
    database.write(lambda connection: INSERT.run(connection, CURSOR))
    assert count(database, "follower") == 1
    database.close()
