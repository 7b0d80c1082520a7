"""The audit log: an entry is there with what it tells of, or neither is; and nothing changes it."""

import pytest
from sqlalchemy import delete, select, update
from sqlalchemy.exc import DBAPIError

from pacs.access import LOCAL, Permission, Principal, Role, permissions_of
from pacs.audit import Entry, Outcome, record
from pacs.database.identity_tables import audit
from pacs.database.opener import open_database


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database(request, tmp_path):
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'index.sqlite'}"
    else:
        template = request.getfixturevalue("postgres_template")
        url = request.getfixturevalue("postgres").create_database(template=template)
    opened = open_database(url)
    opened.migrate()
    yield opened
    opened.close()


def rows_of(database):
    with database.read() as connection:
        return connection.execute(select(audit).order_by(audit.c.id)).all()


def test_an_entry_says_who_did_what_to_what(database):
    who = Principal("amine", roles=frozenset({Role.STEWARD}), address="192.0.2.7", session="12")
    entry = Entry("research.release.publish", who, "release 3", {"b": 1, "a": "é"}, "thorax", Outcome.REFUSED)
    database.write(lambda connection: record(connection, entry))
    (row,) = rows_of(database)
    assert (row.kind, row.principal, row.address, row.session) == (
        "research.release.publish",
        "amine",
        "192.0.2.7",
        "12",
    )
    assert (row.subject, row.facts, row.project, row.outcome) == ("release 3", '{"a":"é","b":1}', "thorax", "refused")


def test_an_entry_of_what_did_not_happen_is_not_there(database):
    def fail(connection):
        record(connection, Entry("study.read", LOCAL))
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - nothing but its kind is its own
        database.write(fail)
    assert rows_of(database) == []


@pytest.mark.parametrize(
    "statement", [update(audit).values(principal="nobody"), delete(audit)], ids=["update", "delete"]
)
def test_the_database_refuses_to_change_an_entry(database, statement):
    database.write(lambda connection: record(connection, Entry("study.read", LOCAL)))
    with pytest.raises(DBAPIError, match="append-only"):
        database.write(lambda connection: connection.execute(statement))
    assert len(rows_of(database)) == 1


def test_every_role_has_a_row_in_the_table_of_permissions():
    assert all(permissions_of([role]) for role in Role)
    assert permissions_of(Role) == frozenset(Permission)


def test_who_studies_patients_does_not_see_them():
    blind = {Role.RESEARCHER, Role.STEWARD, Role.AUDITOR}
    assert {role for role in Role if Permission.READ not in permissions_of([role])} == blind
