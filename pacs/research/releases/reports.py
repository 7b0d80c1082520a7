"""What was done to each object, by which rule. Slices of a series are treated alike, and share what is kept of it."""

import hashlib
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from sqlalchemy import Connection, bindparam, delete, select

from pacs.database.release_tables import research_release_object, research_release_report
from pacs.deid import Report
from pacs.index.inserting import insert_missing

_OF_THE_OBJECT = frozenset({"sop_instance_uid", "study_instance_uid", "series_instance_uid"})
_LEVEL = 6


def pack(report: Report) -> tuple[bytes, bytes]:
    """Return the digest and the body of what a report says, without the UIDs of its object."""
    shared = {name: value for name, value in report.to_json().items() if name not in _OF_THE_OBJECT}
    body = orjson.dumps(shared, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(body).digest(), zlib.compress(body, _LEVEL)


def keep(connection: Connection, packed: Mapping[bytes, bytes]) -> dict[bytes, int]:
    """Keep bodies by their digests, each once, and return the rows they have."""
    insert_missing(
        connection, research_release_report, [{"digest": digest, "body": body} for digest, body in packed.items()]
    )
    rows = connection.execute(_FIND, {"digests": list(packed)}).all() if packed else ()
    return {bytes(row.digest): row.id for row in rows}


def read(connection: Connection, release_id: int, sop_instance_uid: str) -> dict[str, Any] | None:
    """Return what was done to a released object, without its UIDs, or None if the release has no such object."""
    body = connection.execute(_READ, {"release_id": release_id, "uid": sop_instance_uid}).scalar()
    return None if body is None else orjson.loads(zlib.decompress(body))


def remove_unused(connection: Connection, row_ids: Iterable[int]) -> None:
    """Forget those of these bodies that no object has."""
    ids = sorted(set(row_ids))
    if ids:
        connection.execute(_REMOVE_UNUSED, {"ids": ids})


_FIND = select(research_release_report.c.id, research_release_report.c.digest).where(
    research_release_report.c.digest.in_(bindparam("digests", expanding=True))
)
_READ = (
    select(research_release_report.c.body)
    .join_from(
        research_release_object,
        research_release_report,
        research_release_object.c.report_row_id == research_release_report.c.id,
    )
    .where(
        research_release_object.c.release_row_id == bindparam("release_id"),
        research_release_object.c.sop_instance_uid == bindparam("uid"),
    )
)
_REMOVE_UNUSED = delete(research_release_report).where(
    research_release_report.c.id.in_(bindparam("ids", expanding=True)),
    ~select(research_release_object.c.id)
    .where(research_release_object.c.report_row_id == research_release_report.c.id)
    .exists(),
)
