from pathlib import Path

import pytest
from sqlalchemy import Engine, event

from pacs.access import LOCAL
from pacs.database.sqlite import SqliteDatabase
from pacs.errors import InvalidQuery
from pacs.model import CLINICAL_PARTITION, Level
from pacs.query import Equals, Query
from pacs.search import Page, Searcher
from pacs.tags import values_of
from tests.contract.database import build_instance, store


@pytest.fixture
def database(tmp_path: Path):
    opened = SqliteDatabase(tmp_path / "index.sqlite")
    opened.migrate()
    yield opened
    opened.close()


@pytest.mark.parametrize("with_header", [False, True])
@pytest.mark.parametrize("level", list(Level))
def test_a_page_costs_the_same_number_of_statements_whatever_it_holds(database, level: Level, with_header) -> None:
    store(database, *(build_instance(1, number, PatientID=f"P{number}") for number in range(1, 9)))
    searcher, statements = Searcher(database, CLINICAL_PARTITION), []

    def count(_connection, _cursor, statement, *_: object) -> None:
        statements.append(statement)

    event.listen(Engine, "before_cursor_execute", count)
    try:
        costs = []
        for limit in (1, 8):
            statements.clear()
            assert len(searcher.search(LOCAL, Query(level, limit=limit), with_header=with_header).matches) == limit
            costs.append(len(statements))
    finally:
        event.remove(Engine, "before_cursor_execute", count)
    assert costs[0] == costs[1] <= 7


def test_nothing_found_is_an_empty_page(database) -> None:
    found = Searcher(database, CLINICAL_PARTITION).search(LOCAL, Query(Level.STUDY, (Equals("PatientID", "none"),)))
    assert found == Page((), has_more=False)


def test_a_search_sees_its_own_partition_only(database) -> None:
    store(database, build_instance(1, 1), build_instance(1, 2, partition_id=7))
    for level in Level:
        assert len(Searcher(database, 7).search(LOCAL, Query(level)).matches) == 1


def test_every_level_carries_the_levels_above(database) -> None:
    store(database, build_instance(Rows=16))
    searcher = Searcher(database, CLINICAL_PARTITION)
    keywords = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "Rows")
    carried = {
        level: [
            keyword
            for keyword in keywords
            if values_of(searcher.search(LOCAL, Query(level)).matches[0].attributes, keyword)
        ]
        for level in Level
    }
    assert [len(carried[level]) for level in Level] == [1, 2, 3, 5]


def test_a_condition_on_what_is_not_indexed_is_an_invalid_query(database) -> None:
    with pytest.raises(InvalidQuery):
        Searcher(database, CLINICAL_PARTITION).search(LOCAL, Query(Level.STUDY, (Equals("Rows", "1"),)))
