"""What contradicts what is stored: kept, flagged once, and listed for a person to decide; never refused."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import orjson
from sqlalchemy import Connection, bindparam, select, update

from pacs.database.tables import conflict, instance
from pacs.index.inserting import insert_once
from pacs.index.rows import digest_of, origin_text
from pacs.model import Door, DuplicatePolicy, Location, Origin

EQUAL_CONTENT = "equal decoded content"
"""The resolution of a conflict between copies that differ in nothing but their encoding."""


class ConflictKind(StrEnum):
    """What disagrees."""

    CONTENT = "content"  # another data set under a SOP Instance UID
    PATIENT_NAME = "patient-name"  # another name under an issuer and Patient ID
    STUDY_PATIENT = "study-patient"  # another patient in a study


@dataclass(frozen=True, slots=True)
class Conflict:
    """One contradiction; ``location`` is that of the copy that does not answer queries, None if there is no copy."""

    id: int
    partition_id: int
    kind: ConflictKind
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    location: Location | None
    dataset_digest: str
    transfer_syntax_uid: str
    origin: Origin
    found_at: datetime
    resolved_at: datetime | None
    resolution: str


def record_conflict(
    connection: Connection,
    *,
    partition_id: int,
    kind: ConflictKind,
    study_instance_uid: str,
    series_instance_uid: str,
    sop_instance_uid: str,
    origin: Origin,
    found_at: datetime,
    location: Location | None = None,
    dataset_digest: str = "",
    transfer_syntax_uid: str = "",
    distinction: tuple[str, ...] = (),
) -> bool:
    """List a conflict and return whether it is new: the same one found again is not listed twice.

    Two are the same if kind and ``distinction`` are; without one it is the SOP Instance UID and the digest.
    """
    row_id = insert_once(
        connection,
        conflict,
        {
            "partition_id": partition_id,
            "kind": kind.value,
            "distinction": digest_of(*(distinction or (sop_instance_uid, dataset_digest))),
            "study_instance_uid": study_instance_uid,
            "series_instance_uid": series_instance_uid,
            "sop_instance_uid": sop_instance_uid,
            "blob_key": location and location.blob_key,
            "blob_offset": location and location.offset,
            "blob_length": location and location.length_bytes,
            "dataset_digest": bytes.fromhex(dataset_digest) if dataset_digest else None,
            "transfer_syntax_uid": transfer_syntax_uid,
            "origin": origin_text(origin),
            "found_at": found_at,
            "resolution": "",
        },
    )
    return row_id is not None


def iter_conflicts(
    connection: Connection, partition_id: int, *, is_resolved: bool = False, after: int = 0, limit: int = 100
) -> Iterator[Conflict]:
    """Yield conflicts by id from the one after ``after`` on, open ones unless ``is_resolved``, at most ``limit``."""
    rows = connection.execute(
        _LIST_RESOLVED if is_resolved else _LIST_OPEN,
        {"partition_id": partition_id, "after": after, "limit": limit},
    )
    for row in rows:
        location = None if row.blob_key is None else Location(row.blob_key, row.blob_offset, row.blob_length)
        yield Conflict(
            id=row.id,
            partition_id=row.partition_id,
            kind=ConflictKind(row.kind),
            study_instance_uid=row.study_instance_uid,
            series_instance_uid=row.series_instance_uid,
            sop_instance_uid=row.sop_instance_uid,
            location=location,
            dataset_digest=(row.dataset_digest or b"").hex(),
            transfer_syntax_uid=row.transfer_syntax_uid,
            origin=_origin_of(row.origin),
            found_at=row.found_at,
            resolved_at=row.resolved_at,
            resolution=row.resolution,
        )


def resolve_conflict(
    connection: Connection, partition_id: int, conflict_id: int, resolution: str, resolved_at: datetime
) -> bool:
    """Note how a person decided; return False if there is no such open conflict."""
    result = connection.execute(
        _RESOLVE,
        {
            "wanted_partition": partition_id,
            "wanted_id": conflict_id,
            "resolution": resolution,
            "resolved_at": resolved_at,
        },
    )
    return result.rowcount == 1


def has_open_conflict(connection: Connection, partition_id: int, sop_instance_uid: str) -> bool:
    """Return whether two data sets still compete for this SOP Instance UID; storage commitment asks this."""
    parameters = {"partition_id": partition_id, "sop_instance_uid": sop_instance_uid}
    return connection.execute(_IS_OPEN, parameters).first() is not None


def is_known_equal(connection: Connection, partition_id: int, sop_instance_uid: str, dataset_digest: str) -> bool:
    """Return whether this data set was found to hold the same as the one that has answered ever since."""
    parameters = {
        "partition_id": partition_id,
        "sop_instance_uid": sop_instance_uid,
        "dataset_digest": bytes.fromhex(dataset_digest),
    }
    return connection.execute(_IS_KNOWN_EQUAL, parameters).first() is not None


def _origin_of(text: str) -> Origin:
    values = orjson.loads(text)
    door, policy = Door(values.pop("door")), DuplicatePolicy(values.pop("duplicate_policy"))
    return Origin(door=door, duplicate_policy=policy, **values)


_LIST = (
    select(conflict)
    .where(conflict.c.partition_id == bindparam("partition_id"), conflict.c.id > bindparam("after"))
    .order_by(conflict.c.id)
    .limit(bindparam("limit"))
)
_LIST_OPEN = _LIST.where(conflict.c.resolved_at.is_(None))
_LIST_RESOLVED = _LIST.where(conflict.c.resolved_at.is_not(None))
_RESOLVE = (
    update(conflict)
    .where(
        conflict.c.partition_id == bindparam("wanted_partition"),
        conflict.c.id == bindparam("wanted_id"),
        conflict.c.resolved_at.is_(None),
    )
    .values(resolution=bindparam("resolution"), resolved_at=bindparam("resolved_at"))
)
_IS_OPEN = select(conflict.c.id).where(
    conflict.c.partition_id == bindparam("partition_id"),
    conflict.c.sop_instance_uid == bindparam("sop_instance_uid"),
    conflict.c.kind == ConflictKind.CONTENT.value,
    conflict.c.resolved_at.is_(None),
)
_IS_KNOWN_EQUAL = (
    select(conflict.c.id)
    .join_from(
        conflict,
        instance,
        (instance.c.partition_id == conflict.c.partition_id)
        & (instance.c.sop_instance_uid == conflict.c.sop_instance_uid),
    )
    .where(
        conflict.c.partition_id == bindparam("partition_id"),
        conflict.c.sop_instance_uid == bindparam("sop_instance_uid"),
        conflict.c.dataset_digest == bindparam("dataset_digest"),
        conflict.c.kind == ConflictKind.CONTENT.value,
        conflict.c.resolution == EQUAL_CONTENT,
        # What answers now may have replaced what the copy was compared with.
        conflict.c.resolved_at > instance.c.stored_at,
    )
)
