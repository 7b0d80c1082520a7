"""A release as it is read for an export: series after series, header after header, a page in memory at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import orjson

from pacs.access import Principal
from pacs.index.reader import Match, Page
from pacs.model import Attributes, InstanceRecord, Level
from pacs.query import Equals, Query
from pacs.reading import Reading
from pacs.research.exports.columns import build_row
from pacs.research.exports.series import Collection, gather

_PAGE = 500


def iter_series(reading: Reading, principal: Principal, study_instance_uid: str = "") -> Iterator[Match]:
    """Yield every series of a release, or of one study in it, all of a study one after the other.

    Those of the newest study come first: the same order each time.
    """
    conditions = (Equals("StudyInstanceUID", study_instance_uid),) if study_instance_uid else ()
    query = Query(Level.SERIES, conditions, limit=_PAGE)
    page: Page | None = None
    while True:
        page = reading.search.search(principal, query, behind=page)
        yield from page.matches
        if not page.has_more:
            return
        query = replace(query, after=page.last)


def find_series(
    reading: Reading, principal: Principal, study_instance_uid: str, series_instance_uid: str
) -> Iterator[tuple[str, str]]:
    """Return the UIDs of study and series of all, of one study's series, or of one series.

    Raises StudyNotFound or SeriesNotFound at once.
    """
    if study_instance_uid:
        reading.retrieve.find_instances(principal, study_instance_uid, series_instance_uid)
    if series_instance_uid:
        return iter([(study_instance_uid, series_instance_uid)])
    found = iter_series(reading, principal, study_instance_uid)
    return ((match.study_instance_uid, match.series_instance_uid) for match in found)


def iter_headers(
    reading: Reading, principal: Principal, records: Sequence[InstanceRecord]
) -> Iterator[tuple[InstanceRecord, Attributes]]:
    """Yield instances with their headers."""
    found = reading.retrieve.iter_metadata_of(principal, records)
    return ((record, orjson.loads(header)) for record, header in found)


def iter_rows(reading: Reading, principal: Principal, collection: Collection) -> Iterator[dict[str, Any]]:
    """Yield a row of the index for every series of a release."""
    for match in iter_series(reading, principal):
        records = reading.retrieve.find_instances(principal, match.study_instance_uid, match.series_instance_uid)
        facts = gather(iter_headers(reading, principal, records))
        if facts is not None:
            yield build_row(collection, facts)
