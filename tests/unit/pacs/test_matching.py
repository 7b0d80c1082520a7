import pytest
from sqlalchemy.dialects import postgresql, sqlite

from pacs.errors import InvalidQuery
from pacs.index.matching import build_select
from pacs.model import Level
from pacs.query import AnyOf, Condition, Equals, InRange, Query, Wildcard
from pacs.tags import ATTRIBUTES, DERIVED


def compile_query(level: Level, *conditions: Condition, **options) -> str:
    statement = build_select(0, Query(level, conditions, **options))
    return str(statement.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True}))


def test_a_prefix_is_a_range_of_the_index() -> None:
    sql = compile_query(Level.STUDY, Wildcard("AccessionNumber", "AB*"))
    assert "accession_number >= 'AB'" in sql
    assert "accession_number < 'AB\U0010ffff'" in sql
    assert "LIKE" not in sql


def test_a_prefix_narrows_a_pattern_that_needs_like() -> None:
    sql = compile_query(Level.STUDY, Wildcard("AccessionNumber", "AB?1*"))
    assert "accession_number >= 'AB'" in sql
    assert "LIKE 'AB_1%' ESCAPE '\\'" in sql


def test_characters_that_like_knows_are_escaped() -> None:
    assert r"LIKE '%100\%\_\\%'" in compile_query(Level.STUDY, Wildcard("AccessionNumber", "*100%_\\*"))


def test_a_name_pattern_is_folded_and_searched_in_the_names_only() -> None:
    sql = compile_query(Level.INSTANCE, Wildcard("PatientName", "*BÉNALI*"))
    assert "person_name.\"key\" LIKE '%benali%'" in sql.replace("person_name.key", 'person_name."key"')
    assert sql.count("LIKE") == 1


@pytest.mark.parametrize(
    ("condition", "start", "end"),
    [
        (InRange("StudyTime", "10", "12"), "100000.000000", "125960.999999"),
        (InRange("StudyTime", "1030", "1031"), "103000.000000", "103160.999999"),
        (InRange("StudyTime", "103059.5", "103059.5"), "103059.500000", "103059.599999"),
        (InRange("StudyDate", "20240101", "20240102"), "20240101", "20240102"),
    ],
)
def test_partial_times_are_padded_outwards(condition: Condition, start: str, end: str) -> None:
    sql = compile_query(Level.STUDY, condition)
    assert f">= '{start}'" in sql
    assert f"<= '{end}'" in sql


def test_one_more_than_the_page_is_asked_for() -> None:
    assert "LIMIT 11 OFFSET 20" in " ".join(compile_query(Level.STUDY, limit=10, offset=20).split())


@pytest.mark.parametrize("dialect", [sqlite.dialect(), postgresql.dialect()])
@pytest.mark.parametrize("level", list(Level))
@pytest.mark.parametrize(
    "keyword", [attribute.keyword for attribute in (*ATTRIBUTES, *DERIVED) if attribute.matching is not None]
)
def test_every_attribute_that_matches_matches_at_every_level(dialect, level: Level, keyword: str) -> None:
    statement = build_select(0, Query(level, (AnyOf(keyword, ("1", "2")), Equals(keyword, "3"))))
    assert "WHERE" in str(statement.compile(dialect=dialect))


@pytest.mark.parametrize(
    "condition",
    [
        InRange("PatientName", "a", "b"),
        InRange("PatientID", "a", "b"),
        Equals("SeriesNumber", "one"),
        Equals("Rows", "512"),
        Equals("Nothing", "x"),
    ],
)
def test_conditions_that_cannot_be_are_invalid(condition: Condition) -> None:
    with pytest.raises(InvalidQuery):
        build_select(0, Query(Level.SERIES, (condition,)))
