"""Pages that go on behind a position, moments as conditions, and patients' counts, on every engine."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from pacs.access import LOCAL
from pacs.database.base import Database
from pacs.database.opener import open_database
from pacs.index.matching import build_select
from pacs.model import CLINICAL_PARTITION, Level
from pacs.query import Equals, InMoments, Query, Wildcard
from pacs.search import Match, Searcher
from pacs.tags import text_of, values_of
from tests.contract.database import build_instance, store


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database(request, tmp_path) -> Iterator[Database]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'index.sqlite'}"
    else:
        template = request.getfixturevalue("postgres_template")
        url = request.getfixturevalue("postgres").create_database(template=template)
    opened = open_database(url)
    opened.migrate()
    yield opened
    opened.close()


def search(database: Database, query: Query, between: Callable[[int], None] = lambda _page: None) -> list[Match]:
    """Return the matches of all pages; ``between`` is called after each, with its number."""
    found: list[Match] = []
    searcher, number = Searcher(database, CLINICAL_PARTITION), 0
    while True:
        page = searcher.search(LOCAL, query)
        found += page.matches
        if not page.has_more:
            return found
        assert len(page.matches) == query.page_size
        query = replace(query, after=page.last)
        between(number)
        number += 1


def keys_of(matches: list[Match]) -> list[tuple[str, ...]]:
    return [
        (text_of(one.attributes, "PatientID"), one.study_instance_uid, one.series_instance_uid, one.sop_instance_uid)
        for one in matches
    ]


def build_archive() -> list:
    """Return studies that share their date, lack it or lack their numbers: whatever makes an order less than total."""
    kept = []
    for study_number in range(1, 6):
        dated = {"StudyDate": "20240101" if study_number < 4 else None, "PatientID": f"P{study_number % 3}"}
        for series_number in (1, 2, 3):
            of_series = {"SeriesNumber": None if series_number > 1 else 7}
            for number in (1, 2, 3):
                of_instance = {"InstanceNumber": None if number == 2 else 4}
                kept.append(build_instance(number, study_number, series_number, **dated, **of_series, **of_instance))
    return kept


@pytest.mark.parametrize("conditions", [(), (Equals("PatientID", "P1"),), (Wildcard("PatientName", "BENALI*"),)])
@pytest.mark.parametrize("level", list(Level))
def test_pages_behind_a_position_are_the_whole_in_its_order(database, level, conditions) -> None:
    store(database, *build_archive())
    whole = keys_of(search(database, Query(level, conditions, limit=5000)))
    assert len(whole) == len(set(whole)) > 0
    for limit in (1, 2, 4):
        assert keys_of(search(database, Query(level, conditions, limit=limit))) == whole


@pytest.mark.parametrize("level", list(Level))
def test_what_is_stored_between_two_pages_moves_no_match(database, level) -> None:
    """C-FIND: no match comes twice and none is lost, wherever in the order something new arrives."""
    store(database, *build_archive())
    before = keys_of(search(database, Query(level, limit=5000)))

    def store_more(number: int) -> None:
        for study_number, day in ((100 + number, "20300101"), (200 + number, "20240101"), (300 + number, None)):
            store(database, build_instance(1, study_number, 1, StudyDate=day, PatientID=f"N{study_number}"))
        store(database, build_instance(50 + number, 2, 1), build_instance(1, 2, 50 + number, SeriesNumber=0))

    # Newest last in no order would go on for ever: what arrives ahead of the position is not waited for.
    found = keys_of(search(database, Query(level, limit=3), lambda number: store_more(number) if number < 4 else None))
    assert len(found) == len(set(found))
    assert [key for key in found if key in set(before)] == before


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (("20240101", "10"), ("20240103", "12"), {1, 2, 3, 5}),
        (("20240101", "101113"), ("20240103", "1010"), {2, 5}),
        (("20240102", "0000"), ("20240102", "2359"), {2}),
        (("20240103", "10"), ("", ""), {3, 4}),
        (("", ""), ("20240101", "1010"), set()),
    ],
)
def test_a_date_and_its_time_are_one_moment(database, first, last, expected) -> None:
    """PS3.4 C.2.2.2.5; study 5 has no time, and is within where its whole day is."""
    days = {1: "20240101", 2: "20240102", 3: "20240103", 4: "20240104"}
    store(database, *(build_instance(1, number, StudyDate=day) for number, day in days.items()))
    store(database, build_instance(1, 5, StudyDate="20240102", StudyTime=None))
    found = search(database, Query(Level.STUDY, (InMoments("StudyDate", "StudyTime", first, last),)))
    assert {match.study_instance_uid for match in found} == {f"1.2.{number}" for number in expected}


def test_a_patient_is_answered_with_counts(database) -> None:
    store(database, *build_archive())
    keywords = [f"NumberOfPatientRelated{what}" for what in ("Studies", "Series", "Instances")]
    counts = {
        text_of(match.attributes, "PatientID"): [values_of(match.attributes, keyword)[0] for keyword in keywords]
        for match in search(database, Query(Level.PATIENT))
    }
    assert counts == {"P1": [2, 6, 18], "P2": [2, 6, 18], "P0": [1, 3, 9]}


@pytest.mark.parametrize("level", [Level.STUDY, Level.SERIES, Level.INSTANCE])
def test_a_later_page_begins_in_the_orders_index(tmp_path, level) -> None:
    """A page must not walk over all that came before it."""
    opened = open_database(f"sqlite:///{tmp_path / 'index.sqlite'}")
    opened.migrate()
    after = {Level.STUDY: (), Level.SERIES: (None, 1), Level.INSTANCE: (None, 1, 4, 9)}[level]
    statement = build_select(CLINICAL_PARTITION, Query(level, after=("20240101", 5, *after)))
    with opened.read() as connection:
        compiled = statement.compile(connection, compile_kwargs={"literal_binds": True})
        plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}")]
    opened.close()
    assert any(
        "study" in step and "(partition_id=? AND sort_key<?)" in step.replace("(sort_key,id)", "sort_key")
        for step in plan
    ), plan
