"""Conditions, ranges and codings as RFC 9110 has them."""

from datetime import UTC, datetime

import pytest
from starlette.datastructures import Headers

from dicomweb.caching import REVALIDATE, Entity, choose_coding, choose_range, derive_tag, is_known

TAG = '"abc"'
ENTITY = Entity(TAG, REVALIDATE, modified_at=datetime(2026, 11, 22, 10, 0, 0, 900_000, UTC))
DATE = "Sun, 22 Nov 2026 10:00:00 GMT"


@pytest.mark.parametrize("field", ['"abc"', 'W/"abc"', '"x", W/"y" ,"abc"', '"x,y","abc"'])
def test_a_listed_tag_is_known_weak_or_strong(field):
    assert is_known(Headers({"if-none-match": field}), ENTITY)


@pytest.mark.parametrize("field", ["", "*", "abc", '"ABC"', '"abcd"', '"x', '"abc",' * 4000])
def test_another_tag_a_wildcard_and_nonsense_are_not_known(field):
    assert not is_known(Headers({"if-none-match": field}), ENTITY)


def test_the_date_that_was_given_is_known_and_no_other():
    assert is_known(Headers({"if-modified-since": DATE}), ENTITY)
    for date in ("Sun, 22 Nov 2026 10:00:01 GMT", "Sun, 22 Nov 2026 09:59:59 GMT", "now", ""):
        assert not is_known(Headers({"if-modified-since": date}), ENTITY)
    assert not is_known(Headers({"if-modified-since": DATE}), Entity(TAG, REVALIDATE))


@pytest.mark.parametrize("field", ["", "*", '"other"'])
def test_a_date_is_not_looked_at_beside_a_tag(field):
    assert not is_known(Headers({"if-modified-since": DATE, "if-none-match": field}), ENTITY)


def test_tags_are_quoted_differ_by_every_part_and_cannot_be_shifted():
    assert derive_tag("a", "bc") != derive_tag("ab", "c") != derive_tag("ab", "c", "")
    assert derive_tag("a") == derive_tag("a")
    assert derive_tag("a").startswith('"')
    assert derive_tag("\udcff")


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("bytes=0-9", (0, 10)), ("Bytes=90-", (90, 100)), ("bytes=-30", (70, 100)), ("bytes=-300", (0, 100)),
        ("bytes=0-999", (0, 100)), ("bytes=100-", (100, 100)), ("bytes=200-300", (100, 100)), ("bytes=-0", (100, 100)),
        ("bytes=5-4", None), ("bytes=0-1,3-4", None), ("items=0-1", None), ("bytes=", None), ("", None),
    ],
)  # fmt: skip
def test_a_range_ends_exclusively_inside_the_answer(field, expected):
    assert choose_range(Headers({"range": field}), TAG, 100) == expected


def test_an_empty_answer_has_no_range_in_it():
    assert choose_range(Headers({"range": "bytes=0-"}), TAG, 0) == (0, 0)


@pytest.mark.parametrize("field", ['W/"abc"', '"other"', "Sun, 06 Nov 1994 08:49:37 GMT"])
def test_a_range_of_something_else_is_no_range(field):
    assert choose_range(Headers({"range": "bytes=0-9", "if-range": field}), TAG, 100) is None


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (["gzip"], "gzip"), (["br"], "br"), (["gzip, deflate, br, zstd"], "br"), (["br;q=0.8, gzip"], "gzip"),
        (["*"], "br"), (["br;q=0, *"], "gzip"), (["deflate", "GZIP"], "gzip"), (["x-gzip"], "gzip"),
        (["gzip; q=0.5"], "gzip"), ([], ""), ([""], ""), (["gzip;q=0"], ""), (["*;q=0"], ""), (["zstd"], ""),
        (["gzip;q=0.2, identity;q=0.5"], ""), (["gzip;q=nonsense"], ""),
    ],
)  # fmt: skip
def test_the_coding_is_the_one_that_is_wanted_most_and_then_the_smallest(fields, expected):
    assert choose_coding(fields) == expected


def test_an_answer_that_is_made_anew_has_a_weak_tag():
    entity = Entity(TAG, "private")
    assert entity.headers(is_repeatable=True)["ETag"] == TAG
    assert entity.headers(is_repeatable=False)["ETag"] == f"W/{TAG}"
