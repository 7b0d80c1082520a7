from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacs.errors import InvalidQuery
from pacs.model import Level
from pacs.query import (
    DEFAULT_LIMIT,
    MAX_LIMIT,
    AnyOf,
    Condition,
    Equals,
    InRange,
    IsEmpty,
    Query,
    Wildcard,
    parse_condition,
)
from pacs.tags import BY_KEYWORD


@pytest.mark.parametrize(
    ("keyword", "text", "condition"),
    [
        ("PatientID", "", None),
        ("PatientID", "  ", None),
        ("PatientID", "*", None),
        ("PatientID", "**", None),
        ("PatientID", '""', IsEmpty("PatientID")),
        ("PatientID", "AB 1 ", Equals("PatientID", "AB 1")),
        ("PatientID", "AB*", Wildcard("PatientID", "AB*")),
        ("PatientName", "ben?li", Wildcard("PatientName", "ben?li")),
        ("PatientID", "A\\B", AnyOf("PatientID", ("A", "B"))),
        ("StudyInstanceUID", "1.2\\1.3\0", AnyOf("StudyInstanceUID", ("1.2", "1.3"))),
        ("StudyInstanceUID", "1.2", Equals("StudyInstanceUID", "1.2")),
        ("StudyDate", "20240229", InRange("StudyDate", "20240229", "20240229")),
        ("StudyDate", "20240101-20240131", InRange("StudyDate", "20240101", "20240131")),
        ("StudyDate", "20240101 - ", InRange("StudyDate", "20240101", "")),
        ("StudyDate", "-20240131", InRange("StudyDate", "", "20240131")),
        ("StudyTime", "10-1230", InRange("StudyTime", "10", "1230")),
        ("StudyTime", "235960.5", InRange("StudyTime", "235960.5", "235960.5")),
        ("SeriesNumber", "007", Equals("SeriesNumber", "7")),
        ("SeriesNumber", "-1", Equals("SeriesNumber", "-1")),
    ],
)
def test_a_key_becomes_the_condition_the_standard_names(keyword: str, text: str, condition: Condition | None) -> None:
    assert parse_condition(BY_KEYWORD[keyword], text) == condition


@pytest.mark.parametrize(
    ("keyword", "text"),
    [
        ("StudyDate", "2024"),
        ("StudyDate", "20240230"),
        ("StudyDate", "2024-01-01"),
        ("StudyDate", "-"),
        ("StudyDate", "20240101\\20240102"),
        ("StudyTime", "24"),
        ("StudyTime", "1"),
        ("SeriesNumber", "x"),
        ("SeriesNumber", "9" * 13),
        ("Rows", "1"),
        ("PatientID", "x" * 257),
        ("StudyInstanceUID", "\\".join(["1.2"] * 1001)),
    ],
)
def test_nonsense_is_refused_with_a_sentence_that_names_the_attribute(keyword: str, text: str) -> None:
    with pytest.raises(InvalidQuery, match=keyword):
        parse_condition(BY_KEYWORD[keyword], text)


@given(st.sampled_from(sorted(BY_KEYWORD)), st.text())
def test_no_text_raises_anything_but_an_invalid_query(keyword: str, text: str) -> None:
    with suppress(InvalidQuery):
        parse_condition(BY_KEYWORD[keyword], text)


def test_a_page_has_a_default_and_a_greatest_size() -> None:
    sizes = [Query(Level.STUDY, limit=limit).page_size for limit in (None, 0, 5, MAX_LIMIT + 1)]
    assert sizes == [DEFAULT_LIMIT, 0, 5, MAX_LIMIT]
