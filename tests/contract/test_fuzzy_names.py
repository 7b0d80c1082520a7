"""Names by their sound on every engine: what is found, in which order, in pages, and kept right by whatever writes."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from alembic import command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, insert, make_url, select

from pacs.access import LOCAL
from pacs.database.base import Database
from pacs.database.migrate import _config, upgrade
from pacs.database.migrations.versions.v0003_fuzzy_names import PAGE_SIZE
from pacs.database.opener import open_database
from pacs.database.tables import patient, person_name, person_name_sound, study
from pacs.errors import InvalidQuery
from pacs.index import sounds
from pacs.index.rows import name_rows, sound_rows
from pacs.model import CLINICAL_PARTITION, Level
from pacs.query import AnyOf, Equals, InRange, IsEmpty, Query, Wildcard
from pacs.search import Searcher
from pacs.tags import values_of
from tests.contract.database import STORED_AT, build_attributes, build_instance, store

# Ten studies, newest first.
NAMES = (
    "Fassi^Mohammed",
    "El Fassi^Mohamed",
    {"Alphabetic": "X^Y", "Ideographic": "الفاسي^محمد"},
    "BENALI^Amine",
    "Benali",
    "Ben Ali^Amina",
    "بنعلي^أمينة",
    "Mohamed^Al-Fassi",
    "Benani^Amine",
    None,
)
UIDS = [f"1.2.{number}" for number in range(1, len(NAMES) + 1)]
FASSI = {UIDS[number] for number in (0, 1, 2, 7)}


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def empty_url(request, tmp_path) -> str:
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path / 'index.sqlite'}"


@pytest.fixture
def database(empty_url) -> Iterator[Database]:
    opened = open_database(empty_url)
    opened.migrate()
    yield opened
    opened.close()


@pytest.fixture
def filled(database) -> Database:
    for number, name in enumerate(NAMES, 1):
        of_study = {"StudyDate": f"202401{20 - number}", "PatientID": f"P{number % 7}"}
        for series_number in (1, 2):
            physician = "Alaoui^Karim" if number % 2 else "العلوي"
            names = {"PatientName": name, "ReferringPhysicianName": physician}
            store(database, build_instance(1, number, series_number, **names, **of_study))
    return database


def search(database: Database, query: Query) -> list[tuple[str, str, str]]:
    """Return the UIDs of the matches of all pages; patients by Patient ID."""
    found, searcher = [], Searcher(database, CLINICAL_PARTITION)
    while True:
        page = searcher.search(LOCAL, query)
        for match in page.matches:
            first = match.study_instance_uid or values_of(match.attributes, "PatientID")[0]
            found.append((first, match.series_instance_uid, match.sop_instance_uid))
        if not page.has_more:
            return found
        query = replace(query, after=page.last, offset=0)


def studies(database: Database, *conditions, is_fuzzy: bool = True) -> list[str]:
    return [found[0] for found in search(database, Query(Level.STUDY, conditions, is_fuzzy=is_fuzzy))]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("El Fassi^Mohamed", FASSI),
        ("محمد الفاسي", FASSI),
        ("Muhammad Al-Fassi", FASSI),
        ("fassi", FASSI),
        ("Benali", {UIDS[number] for number in (3, 4, 5, 6)}),
        ("Ben Ali", {UIDS[number] for number in (3, 4, 5, 6)}),
        ("بنعلي", {UIDS[number] for number in (3, 4, 5, 6)}),
        ("Amine^Benali", {UIDS[3]}),
        ("Benali^Amina", {UIDS[5], UIDS[6]}),
        ("Benani", {UIDS[8]}),
        ("Dupont", set()),
        ("山田", set()),
    ],
)
def test_a_name_is_found_however_it_is_spelled(filled, asked, found):
    assert set(studies(filled, Equals("PatientName", asked))) == found


def test_names_as_written_come_first_then_the_nearest_then_the_newest(filled):
    assert studies(filled, Equals("PatientName", "benali")) == [UIDS[4], UIDS[3], UIDS[5], UIDS[6]]
    assert studies(filled, Equals("PatientName", "El Fassi^Mohamed"))[0] == UIDS[1]
    # Whatever a pattern finds stands before what only sounds like it; among those the newest is first.
    assert studies(filled, Wildcard("PatientName", "*fassi*"))[:3] == [UIDS[0], UIDS[1], UIDS[7]]
    assert set(studies(filled, Wildcard("PatientName", "*fassi*"))) == FASSI


def test_only_names_are_compared_by_sound(filled):
    name = Equals("PatientName", "محمد الفاسي")
    assert studies(filled, name, Equals("PatientID", "P1")) == [UIDS[0], UIDS[7]]
    assert set(studies(filled, name, InRange("StudyDate", "20240118", ""))) == {UIDS[0], UIDS[1]}
    assert studies(filled, name, Equals("PatientID", "p1")) == []
    assert studies(filled, Equals("PatientID", "P1"), is_fuzzy=True) == studies(filled, Equals("PatientID", "P1"))


def test_every_name_of_a_query_has_to_match(filled):
    name, physician = Equals("PatientName", "Mohammed Fassi"), Equals("ReferringPhysicianName", "El Alaoui")
    assert set(studies(filled, name, physician)) == FASSI
    assert set(studies(filled, name, Equals("ReferringPhysicianName", "Karim Alaoui"))) == {UIDS[0], UIDS[2]}
    assert studies(filled, name, Equals("ReferringPhysicianName", "Dupont")) == []
    # A study that one name fits exactly and the other by its sound ranks by the second.
    exact = studies(filled, Equals("PatientName", "Fassi^Mohammed"), Equals("ReferringPhysicianName", "Alaoui^Karim"))
    assert exact == [UIDS[0], UIDS[2]]


def test_one_of_several_names_is_enough_and_an_absent_one_stays_absent(filled):
    assert set(studies(filled, AnyOf("PatientName", ("محمد الفاسي", "Bennani")))) == FASSI | {UIDS[8]}
    assert studies(filled, IsEmpty("PatientName")) == [UIDS[9]]
    assert studies(filled, AnyOf("PatientName", ())) == []


def test_more_names_than_can_be_compared_are_refused(filled):
    with pytest.raises(InvalidQuery):
        studies(filled, AnyOf("PatientName", tuple(map(str, range(sounds.MAX_NAMES + 1)))))


CONDITIONS = [
    (Equals("PatientName", "Ben Ali"),),
    (Wildcard("PatientName", "*fassi*"),),
    (Wildcard("PatientName", "?en*"), Equals("ReferringPhysicianName", "Alawi")),
    (Equals("PatientName", "fassi"), Equals("SeriesNumber", "2")),
]


@pytest.mark.parametrize("conditions", CONDITIONS)
@pytest.mark.parametrize("level", list(Level))
def test_pages_are_the_whole_in_its_order(filled, level, conditions):
    query = Query(level, conditions, is_fuzzy=True)
    whole = search(filled, replace(query, limit=5000))
    assert len(whole) == len(set(whole)) > 1
    for limit in (1, 2, 3):
        assert search(filled, replace(query, limit=limit)) == whole
    for offset in range(len(whole) + 1):
        assert search(filled, replace(query, offset=offset, limit=2)) == whole[offset:]


@pytest.mark.parametrize("level", list(Level))
def test_what_is_stored_between_two_pages_moves_no_match(filled, level):
    query = Query(level, (Equals("PatientName", "Benali"),), is_fuzzy=True, limit=2)
    before = search(filled, replace(query, limit=5000))
    first = Searcher(filled, CLINICAL_PARTITION).search(LOCAL, query)
    store(filled, build_instance(1, 20, PatientName="Benali", PatientID="P20", StudyDate="20250101"))
    assert [*search(filled, query)[1:2]] != before[1:2]
    assert search(filled, replace(query, after=first.last)) == before[2:]


def test_a_patient_ranks_by_the_study_that_answers_best(filled):
    query = Query(Level.PATIENT, (Equals("PatientName", "Benali"),), is_fuzzy=True)
    assert [found[0] for found in search(filled, query)] == ["P5", "P6", "P4", "P0"]
    store(filled, build_instance(1, 21, PatientName="Benali", PatientID="P4"))
    assert [found[0] for found in search(filled, query)] == ["P5", "P4", "P6", "P0"]


PIECES = st.sampled_from(
    ["Fassi", "El Fassi", "Moh", "Ben", "ali", "^", " ", "*", "?", "بن", "محمد", "=", "Amin", "e", "-"]
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=st.lists(PIECES, min_size=1, max_size=4).map("".join), level=st.sampled_from(list(Level)))
def test_fuzzy_finds_at_least_what_literal_finds_and_shows_it_first(filled, asked, level):
    condition = Wildcard("PatientName", asked) if set(asked) & set("*?") else Equals("PatientName", asked)
    literal = search(filled, Query(level, (condition,)))
    assert search(filled, Query(level, (condition,), is_fuzzy=True))[: len(literal)] == literal


def test_names_beyond_the_cap_are_matched_as_written_only(filled, monkeypatch):
    query = Query(Level.STUDY, (Equals("PatientName", "Mohamed^Al-Fassi"),), is_fuzzy=True)
    assert set(studies(filled, *query.conditions)) == FASSI
    searcher = Searcher(filled, CLINICAL_PARTITION)
    assert not searcher.search(LOCAL, query).is_cut
    monkeypatch.setattr(sounds, "MAX_CANDIDATES", 1)
    page = searcher.search(LOCAL, query)
    assert page.is_cut
    found = [match.study_instance_uid for match in page.matches]
    assert found[0] == UIDS[7]  # the oldest of them, but as it is written
    assert set(found[1:]) == {UIDS[0], UIDS[1]}  # one more than the cap, which is how it is noticed


def test_names_that_take_too_long_to_compare_are_matched_as_written_only(filled, monkeypatch):
    query = Query(Level.STUDY, (Equals("PatientName", "Mohamed^Al-Fassi"),), is_fuzzy=True)
    monkeypatch.setattr(sounds, "MAX_EFFORT", len("mohamed^al-fassi") * len("fassi^mohammed"))
    page = Searcher(filled, CLINICAL_PARTITION).search(LOCAL, query)
    assert page.is_cut
    found = [match.study_instance_uid for match in page.matches]
    assert found[0] == UIDS[7]
    assert len(found) == 2


def test_the_pages_of_one_search_compare_names_once(filled, monkeypatch):
    query = Query(Level.STUDY, (Equals("PatientName", "Benali"),), is_fuzzy=True, limit=1)
    searcher = Searcher(filled, CLINICAL_PARTITION)
    page = searcher.search(LOCAL, query)
    found = [*page.matches]
    monkeypatch.setattr(sounds, "Sought", None)  # what makes a name ready to be compared
    while page.has_more:
        page = searcher.search(LOCAL, replace(query, after=page.last), behind=page)
        found += page.matches
    assert [match.study_instance_uid for match in found] == [UIDS[4], UIDS[3], UIDS[5], UIDS[6]]


def test_names_of_another_partition_are_not_found(filled):
    store(filled, build_instance(1, 30, partition_id=1, PatientName="Fassi"))
    assert set(studies(filled, Equals("PatientName", "El Fassi"))) == FASSI


def sounds_of(database: Database) -> set[tuple[int, str, str]]:
    table = person_name_sound.c
    with database.read() as connection:
        return set(map(tuple, connection.execute(select(table.study_row_id, table.keyword, table.sound))))


def expected_sounds(database: Database) -> set[tuple[int, str, str]]:
    with database.read() as connection:
        names = connection.execute(select(person_name)).mappings().all()
    return {(name["study_row_id"], row["keyword"], row["sound"]) for name in names for row in sound_rows([dict(name)])}


def test_a_study_completed_later_is_found_by_what_came_later(database):
    store(database, build_instance(1, ReferringPhysicianName=None))
    store(database, build_instance(2, ReferringPhysicianName="Alaoui"))
    assert studies(database, Equals("ReferringPhysicianName", "العلوي")) == ["1.2.1"]
    assert sounds_of(database) == expected_sounds(database) != set()


def test_names_of_an_older_schema_are_found_after_the_upgrade(empty_url):
    """More names than a page, some of one study on two pages: each as found as if it had come today."""
    address = make_url(empty_url)
    engine = create_engine(address.set(drivername="postgresql+psycopg") if "postgres" in empty_url else address)
    count = PAGE_SIZE // 3 + 10
    names = [f"Fassi {number}^Mohamed {'abcdefgh'[number % 8]}" for number in range(count)]
    with engine.begin() as connection:
        command.upgrade(_config(connection), "0002")
        of_patient = {"partition_id": 0, "patient_id": "", "issuer_of_patient_id": "", "attributes": "{}"}
        for number, name in enumerate(names, 1):
            made = {"created_at": STORED_AT}
            connection.execute(
                insert(patient), of_patient | made | {"id": number, "identity": str(number), "overlay": ""}
            )
            of_study = {"patient_row_id": number, "study_instance_uid": f"1.2.{number}", "sort_key": "", "overlay": ""}
            made |= {"updated_at": STORED_AT, "id": number, "partition_id": 0, "attributes": "{}"}
            connection.execute(insert(study), made | of_study)
            attributes = build_attributes(
                PatientName={"Alphabetic": name, "Phonetic": "محمد"}, ReferringPhysicianName=["Alaoui", "Karim"]
            )
            rows = [row | {"study_row_id": number} for row in name_rows(attributes)]
            assert len(rows) == 4
            connection.execute(insert(person_name), rows)
        upgrade(connection)
    engine.dispose()
    opened = open_database(empty_url)
    assert sounds_of(opened) == expected_sounds(opened)
    assert len(studies(opened, Equals("PatientName", "El Fassi"))) == count
    opened.close()
