"""Dates with times in one value (DT, PS3.5 6.2) and ranges of them (PS3.4 C.2.2.2.5)."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from pacs.model import Door, Origin
from pacs.moments import format_moment, parse_moment, parse_span, sort_key
from pacs.predicates import parse_predicate


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("2026", "2026-01-01T00:00:00", "2026-12-31T23:59:59.999999"),
        ("202602", "2026-02-01T00:00:00", "2026-02-28T23:59:59.999999"),
        ("20260706", "2026-07-06T00:00:00", "2026-07-06T23:59:59.999999"),
        ("2026070609", "2026-07-06T09:00:00", "2026-07-06T09:59:59.999999"),
        ("202607060930", "2026-07-06T09:30:00", "2026-07-06T09:30:59.999999"),
        ("20260706093015", "2026-07-06T09:30:15", "2026-07-06T09:30:15.999999"),
        ("20260706093015.25", "2026-07-06T09:30:15.250000", "2026-07-06T09:30:15.259999"),
        ("20260706093015.123456", "2026-07-06T09:30:15.123456", "2026-07-06T09:30:15.123456"),
        ("20260706235960", "2026-07-06T23:59:59", "2026-07-06T23:59:59.999999"),
    ],
)
def test_value_stands_for_all_that_begins_with_it(text, first, last):
    moment = parse_moment(text)
    assert moment.first == datetime.fromisoformat(first)
    assert moment.last == datetime.fromisoformat(last)
    assert moment.zone is None


@pytest.mark.parametrize(
    "text",
    ["", "202", "20261301", "20260230", "2026070625", "20260706+1500", "0000", "9999123123", "2026-07-06", "x", "٢٠٢٦"],
)
def test_what_is_no_value_is_none(text):
    assert parse_moment(text) is None
    assert sort_key(text) == ""


def test_offset_is_kept():
    assert parse_moment("20260706093000-0530").zone == timezone(-timedelta(hours=5, minutes=30))


@pytest.mark.parametrize(
    ("span", "inside", "outside"),
    [
        ("20260706-20260707", ["20260706", "20260707235959"], ["20260705235959", "20260708"]),
        ("20260706-", ["20260706", "2030"], ["20260705"]),
        ("-20260706", ["20260706235959.999999", "1990"], ["20260707"]),
        ("202607", ["20260701", "20260731"], ["20260630", "202608"]),
        ("2026-0500", ["2026", "2026-0500"], ["2025", "20270102"]),  # an offset, not a range
        ("20260706100000+0000-20260706110000+0000", ["20260706113000+0100"], ["20260706103000+0200"]),
        ("20260706100000+0000-20260706110000+0000", ["20260706103000"], ["20260706113000"]),  # local: as recorded
        ("20260706-0500-20260707-0500", ["20260707045959+0000", "20260708045959+0000"], ["20260706045959+0000"]),
    ],
)
def test_range_covers_what_begins_within_it(span, inside, outside):
    parsed = parse_span(span)
    assert [parsed.covers(parse_moment(text)) for text in inside + outside] == [True] * len(inside) + [False] * len(
        outside
    )


@pytest.mark.parametrize("text", ["", "-", "x-y", "2026-13", "20260706-20260732", "--"])
def test_what_is_no_range_is_none(text):
    assert parse_span(text) is None


def test_sort_key_orders_values_as_recorded():
    texts = ["2025", "20260101", "20260101000000.5", "202601010001"]
    assert sorted(texts, key=sort_key) == texts


def test_time_of_ours_is_in_utc():
    at = datetime(2026, 7, 6, 9, 30, tzinfo=timezone(timedelta(hours=1)))
    assert format_moment(at) == "20260706083000.000000+0000"
    assert parse_moment(format_moment(at)).zone == UTC


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("202607", True),
        ("20260706-20260708", True),
        ("20260708-", False),
        ("2026070*", True),
        ("*", True),
        ("x", False),
    ],
)
def test_routing_conditions_know_ranges_of_dates_with_times(condition, holds):
    attributes = {"0008002A": {"vr": "DT", "Value": ["20260707080000"]}}
    predicate = parse_predicate({"AcquisitionDateTime": condition})
    assert predicate.holds(attributes, Origin(Door.STOW)) is holds
