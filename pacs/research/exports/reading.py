"""A release as it is read for an export: series after series, header after header, a page in memory at a time."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import orjson

from pacs.access import Principal
from pacs.index.reader import Match, Page
from pacs.model import Attributes, InstanceRecord, Level
from pacs.query import Query
from pacs.reading import Reading
from pacs.research.exports.columns import build_row
from pacs.research.exports.series import Collection, gather

_PAGE = 500


def iter_series(reading: Reading, principal: Principal) -> Iterator[Match]:
    """Yield every series of a release, those of the newest study first: the same order each time."""
    query = Query(Level.SERIES, limit=_PAGE)
    page: Page | None = None
    while True:
        page = reading.search.search(principal, query, behind=page)
        yield from page.matches
        if not page.has_more:
            return
        query = replace(query, after=page.last)


def iter_headers(
    reading: Reading, principal: Principal, study_instance_uid: str, series_instance_uid: str
) -> Iterator[tuple[InstanceRecord, Attributes]]:
    """Yield the instances of a series with their headers; raise StudyNotFound or SeriesNotFound at once."""
    found = reading.retrieve.iter_metadata(principal, study_instance_uid, series_instance_uid)
    return ((record, orjson.loads(header)) for record, header in found)


def iter_rows(reading: Reading, principal: Principal, collection: Collection) -> Iterator[dict[str, Any]]:
    """Yield a row of the index for every series of a release."""
    for match in iter_series(reading, principal):
        headers = iter_headers(reading, principal, match.study_instance_uid, match.series_instance_uid)
        facts = gather(headers)
        if facts is not None:
            yield build_row(collection, facts)
